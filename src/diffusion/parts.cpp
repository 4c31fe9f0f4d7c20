// SPDX-License-Identifier: Apache-2.0
#include "diffusion/parts.h"

#include <c10/core/InferenceMode.h>

#include "muster/core/error.h"
#include "muster/nn/backend.h"

namespace muster::diffusion {

/// A model and what it is prepared from.
struct Parts::Part {
  std::string component;
  nn::ComputeTarget target;
  std::optional<formats::Safetensors> checkpoint;  ///< as long as weights point into it
  std::vector<at::Tensor> weights;                 ///< on the host, for preparing it again; with offload only
  std::shared_ptr<nn::Module> loaded;              ///< not prepared yet
  std::shared_ptr<nn::Module> kept;                ///< without offload
  std::weak_ptr<nn::Module> lent;
};

namespace {

std::vector<models::AdapterFile> adapter_files(const PipelineConfig& config) {
  std::vector<models::AdapterFile> files;
  for (const AdapterChoice& choice : config.adapters) files.push_back({choice.path, choice.scale});
  return files;
}

void for_each_weight(nn::Module& module, const std::function<void(at::Tensor&)>& visit) {
  module.visit_parameters([&](const std::string&, nn::Parameter& parameter) { visit(parameter.value); });
}

template <class T>
std::shared_ptr<const T> as(const std::shared_ptr<nn::Module>& module) {
  return std::shared_ptr<const T>(module, &dynamic_cast<const T&>(*module));
}

}  // namespace

nn::ComputeTarget compute_target(const PipelineConfig& config) {
  models::check_hardware({.folder = config.folder,
                          .device = config.device,
                          .compute_type = config.compute_type,
                          .overrides = {}});
  nn::ComputeTarget target{.device = nn::torch_device(config.device)};
  switch (config.compute_type) {
    case models::ComputeType::kFp32:
      return target;
    case models::ComputeType::kBf16:
      target.dtype = c10::ScalarType::BFloat16;
      return target;
    case models::ComputeType::kFp16:
      target.dtype = c10::ScalarType::Half;
      return target;
    case models::ComputeType::kInt8:
      break;
  }
  throw core::ConfigError("run.dtype is int8, in which pictures are not made; use bf16, fp16 (GPU) or fp32");
}

Parts::Parts(const PipelineConfig& config, const models::DiffusionFolder& folder)
    : config_(config), folder_(folder), target_(compute_target(config)), vae_target_(target_) {
  // Its activations leave the range of fp16, as its config says.
  if (folder_.vae.force_upcast && target_.dtype == c10::ScalarType::Half)
    vae_target_.dtype = c10::ScalarType::Float;
  // The layers fetch their weights one by one; the VAE's are few beside its activations.
  nn::ComputeTarget layered = target_;
  if (config_.offload == Offload::kSequential) layered.home = nn::WeightHome::kHost;
  const auto part = [](const std::string& component, const nn::ComputeTarget& target) {
    return std::make_unique<Part>(Part{.component = component, .target = target});
  };
  for (const std::string& component : folder_.text_encoder_folders)
    text_encoders_.push_back(part(component, layered));
  unet_ = part("unet", layered);
  vae_ = part("vae", vae_target_);
  exact_vae_ = part("vae", {.device = target_.device});
  load();
}

Parts::~Parts() = default;

std::shared_ptr<nn::Module> Parts::build(const std::string& component) const {
  if (component == "unet") return std::make_shared<models::UNet2D>(folder_.unet);
  if (component == "vae")
    return std::make_shared<models::AutoencoderKL>(folder_.vae, models::AutoencoderParts::kDecoder);
  for (std::size_t i = 0; i < folder_.text_encoder_folders.size(); ++i)
    if (component == folder_.text_encoder_folders[i])
      return std::make_shared<models::ClipText>(folder_.text_encoders[i]);
  throw core::InternalError("unknown component " + component);
}

// Weights are mapped, so that loading costs no memory before prepare(), merged ones aside.
void Parts::load() {
  const c10::InferenceMode inference;
  std::vector<Part*> parts{unet_.get(), vae_.get()};
  for (const auto& encoder : text_encoders_) parts.push_back(encoder.get());
  for (Part* part : parts) {
    part->loaded = build(part->component);
    part->checkpoint = models::open_component(folder_.path, part->component);
    models::load_component(*part->loaded, *part->checkpoint,
                           folder_.path + "/" + part->component + "/config.json");
  }
  const bool live = config_.adapter_application == AdapterApplication::kLive;
  if (!config_.adapters.empty())
    adapt(live ? models::AdapterUse::kLive : models::AdapterUse::kMerged, nullptr);
  for (Part* part : parts) {
    if (config_.offload == Offload::kNone)
      take(*part);
    else
      for_each_weight(*part->loaded, [&](at::Tensor& value) { part->weights.push_back(value); });
  }
}

/// An adapter file is read against all parts it may name. `only`: a part that is built again; the others are
/// stood in for by their structure.
void Parts::adapt(models::AdapterUse use, Part* only) {
  std::vector<std::shared_ptr<nn::Module>> modules;
  std::vector<models::AdapterTarget> targets;
  const auto add = [&](Part& part) {
    modules.push_back(only == nullptr || only == &part ? part.loaded : build(part.component));
    targets.push_back({part.component, modules.back().get()});
  };
  add(*unet_);
  for (const auto& encoder : text_encoders_) add(*encoder);
  models::Adapters(adapter_files(config_), targets).apply(use, target_.dtype);
}

/// The caller holds the mutex, or is alone.
std::shared_ptr<nn::Module> Parts::take(Part& part) {
  if (part.kept) return part.kept;
  if (auto lent = part.lent.lock()) return lent;
  const c10::InferenceMode inference;
  try {
    if (!part.loaded) {
      core::internal_check(!part.weights.empty(), "a part is asked for that this rank let go");
      part.loaded = build(part.component);
      std::size_t next = 0;
      for_each_weight(*part.loaded, [&](at::Tensor& value) { value = part.weights.at(next++); });
      if (!config_.adapters.empty() && config_.adapter_application == AdapterApplication::kLive &&
          part.component != "vae")
        adapt(models::AdapterUse::kLive, &part);
    }
    const auto module = std::exchange(part.loaded, nullptr);
    module->prepare(part.target);
    if (config_.offload != Offload::kNone) {
      part.lent = module;
    } else {
      part.kept = module;
      part.checkpoint.reset();
    }
    return module;
  } catch (const c10::Error& error) {
    nn::rethrow(error, folder_.path + ": preparing the weights of " + part.component);
  }
}

std::shared_ptr<const models::ClipText> Parts::text_encoder(std::size_t index) {
  const std::lock_guard lock(mutex_);
  return as<models::ClipText>(take(*text_encoders_.at(index)));
}

std::shared_ptr<const models::UNet2D> Parts::unet() {
  const std::lock_guard lock(mutex_);
  return as<models::UNet2D>(take(*unet_));
}

std::shared_ptr<const models::AutoencoderKL> Parts::vae() {
  const std::lock_guard lock(mutex_);
  return as<models::AutoencoderKL>(take(*vae_));
}

std::shared_ptr<const models::AutoencoderKL> Parts::exact_vae() {
  const std::lock_guard lock(mutex_);
  Part& part = *exact_vae_;
  if (!part.kept && part.lent.expired() && !part.loaded && part.weights.empty()) {
    const c10::InferenceMode inference;
    part.loaded = build(part.component);
    part.checkpoint = models::open_component(folder_.path, part.component);
    models::load_component(*part.loaded, *part.checkpoint, folder_.path + "/vae/config.json");
    if (config_.offload != Offload::kNone)
      for_each_weight(*part.loaded, [&](at::Tensor& value) { part.weights.push_back(value); });
  }
  return as<models::AutoencoderKL>(take(part));
}

void Parts::keep_unet_only() {
  const std::lock_guard lock(mutex_);
  for (const auto& encoder : text_encoders_)
    *encoder = Part{.component = encoder->component, .target = target_};
  *vae_ = Part{.component = "vae", .target = vae_target_};
}

}  // namespace muster::diffusion
