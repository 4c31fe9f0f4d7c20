// SPDX-License-Identifier: Apache-2.0
#include "muster/models/text_encoder.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/Functions.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <cstring>

#include "models/batch_pooling.h"
#include "models/sentence_encoder.h"
#include "models/token_batch.h"
#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "muster/nn/backend.h"
#include "muster/nn/linear.h"
#include "muster/nn/tiles.h"

namespace muster::models {
namespace {

c10::ScalarType scalar_type(ComputeType type) {
  switch (type) {
    case ComputeType::kFp32:
      return c10::ScalarType::Float;
    case ComputeType::kBf16:
    case ComputeType::kInt8:  // what lies between the products
      return c10::ScalarType::BFloat16;
    case ComputeType::kFp16:
      return c10::ScalarType::Half;
  }
  throw core::InternalError("unknown compute type");
}

class SentenceEncoder final : public TextEncoder {
 public:
  SentenceEncoder(SentenceFolder folder, const nn::ComputeTarget& target)
      : folder_(std::move(folder)), description_(folder_.describe()), target_(target) {
    load();
  }

  const EncoderDescription& description() const override { return description_; }

  void embed(const PackedTexts& texts, std::span<float> out) const override {
    core::internal_check(out.size() == texts.lengths.size() * description_.dimensions,
                         "embed: wrong size of the result");
    check_texts(texts, folder_.transformer->facts());
    if (texts.lengths.empty()) return;
    prepare_compute_thread();
    const c10::InferenceMode inference;
    try {
      const TokenBatch batch = make_token_batch(texts, folder_.transformer->facts().positions, target_);
      at::Tensor x = pool_texts(folder_.transformer->forward(batch), texts);
      for (const SentenceStep& step : folder_.steps) x = step.module->forward(x);
      std::copy_n(x.const_data_ptr<float>(), out.size(), out.begin());
    } catch (const c10::Error& error) {
      nn::rethrow(error,
                  fmt::format("embedding {} texts of {} tokens", texts.lengths.size(), texts.ids.size()));
    }
  }

  void release_memory() const override {
    if (target_.device.is_cuda())
      at::getDeviceAllocator(target_.device.type())->emptyCache();
    else
      malloc_trim(0);
  }

 private:
  struct Source {
    formats::Safetensors checkpoint;
    const WeightRules& rules;
    std::string config_path;
  };

  void load() {
    const c10::InferenceMode inference;
    const std::string encoder = path_in(folder_.folder, folder_.transformer_folder);
    std::vector<WeightPart> in_encoder{{folder_.transformer.get()}}, in_classifier_file;
    for (const SentenceStep& step : folder_.steps) {
      if (step.weights == StepWeights::kEncoder) in_encoder.push_back({step.module.get()});
      if (step.weights == StepWeights::kBesideEncoder)
        in_encoder.push_back({step.module.get(), Naming::kAsIs});
      if (step.weights == StepWeights::kClassifierFile)
        in_classifier_file.push_back({step.module.get(), Naming::kAsIs});
    }
    load_parts({open_checkpoint(encoder), folder_.weights, encoder + "/config.json"}, in_encoder);
    if (!in_classifier_file.empty()) {
      load_parts({formats::Safetensors::open(folder_.folder, kClassifierStem),
                  {},
                  path_in(folder_.folder, kClassifierConfig)},
                 in_classifier_file);
    }
    for (const SentenceStep& step : folder_.steps) {
      if (step.weights != StepWeights::kOwnFolder || step.module->parameter_count() == 0) continue;
      const std::string path = path_in(folder_.folder, step.folder);
      const WeightPart part{step.module.get()};
      load_parts({open_checkpoint(path), {}, path + "/config.json"}, {&part, 1});
    }
  }

  // Behind pooling all is fp32, on the host. The mapped checkpoint lives until prepare() has copied what it
  // needs.
  void load_parts(const Source& source, std::span<const WeightPart> parts) const {
    load_weights(parts, source.checkpoint, source.rules, source.config_path);
    try {
      for (const WeightPart& part : parts)
        part.module->prepare(part.module == folder_.transformer.get() ? target_ : nn::ComputeTarget{});
    } catch (const c10::Error& error) {
      throw core::ResourceError(
          fmt::format("{}: preparing the weights: {}", core::join(source.checkpoint.files(), ", "),
                      error.what_without_backtrace()),
          source.checkpoint.total_bytes());
    }
  }

  // [rows, hidden] -> fp32 [texts in whole tiles, modes * hidden] on the host
  at::Tensor pool_texts(const at::Tensor& hidden_states, const PackedTexts& texts) const {
    const auto count = static_cast<std::int64_t>(texts.lengths.size());
    const auto modes = static_cast<std::int64_t>(folder_.pooling.modes.size());
    const std::uint32_t prompt_tokens = folder_.pooling.include_prompt ? 0 : texts.prompt_tokens;
    const std::int64_t tile = folder_.steps.empty() ? 1 : folder_.steps.front().module->tile_rows();
    const std::int64_t rows = (count + tile - 1) / tile * tile;
    at::Tensor pooled = at::zeros({rows, modes * hidden_states.size(1)}, c10::ScalarType::Float);
    if (hidden_states.is_cpu())
      pool_on_host(hidden_states, {texts.lengths, prompt_tokens}, pooled);
    else  // the vectors are copied, not every token's state
      pooled.narrow(0, 0, count)
          .copy_(pool_batch(hidden_states, {texts.lengths, prompt_tokens}, folder_.pooling.modes));
    return pooled;
  }

  void pool_on_host(const at::Tensor& hidden_states, const TextRows& texts, at::Tensor& pooled) const {
    const at::Tensor states = hidden_states.to(c10::ScalarType::Float).contiguous();
    const auto hidden = static_cast<std::size_t>(states.size(1));
    const auto width = static_cast<std::size_t>(pooled.size(1));
    const float* row = states.const_data_ptr<float>();
    auto* out = pooled.mutable_data_ptr<float>();
    for (const std::uint32_t length : texts.lengths) {
      pool({row, length * hidden}, hidden, texts.prompt_tokens, folder_.pooling.modes, {out, width});
      row += length * hidden;
      out += width;
    }
  }

  SentenceFolder folder_;
  EncoderDescription description_;
  nn::ComputeTarget target_;
};

}  // namespace

ComputeType compute_type_from_name(const std::string& name) {
  for (const ComputeType type :
       {ComputeType::kFp32, ComputeType::kBf16, ComputeType::kFp16, ComputeType::kInt8})
    if (name == compute_type_name(type)) return type;
  throw core::ConfigError(fmt::format("compute type '{}' is not known; known: fp32, bf16, fp16, int8", name));
}

std::string compute_type_name(ComputeType type) {
  switch (type) {
    case ComputeType::kFp32:
      return "fp32";
    case ComputeType::kBf16:
      return "bf16";
    case ComputeType::kFp16:
      return "fp16";
    case ComputeType::kInt8:
      return "int8";
  }
  throw core::InternalError("unknown compute type");
}

void check_hardware(const EncoderLoadConfig& config) {
  const bool on_cpu = config.device.kind == device::Kind::kCpu;
  if (config.compute_type == ComputeType::kFp16 && on_cpu)
    throw core::ConfigError("run.dtype is fp16, but a CPU has no fast fp16 arithmetic; use bf16 or fp32");
  if (config.compute_type != ComputeType::kInt8) return;
  if (!on_cpu)
    throw core::ConfigError("run.dtype is int8, which only CPUs compute; use bf16 or fp16 on a GPU");
  if (!nn::has_int8_linear())
    throw core::ConfigError(
        "run.dtype is int8, but this processor has no AVX512-VNNI and AVX512-BF16 (or ATEN_CPU_CAPABILITY "
        "forbids them); "
        "use fp32");
}

std::unique_ptr<TextEncoder> load_text_encoder(const EncoderLoadConfig& config) {
  check_hardware(config);
  return load_sentence_encoder(read_sentence_folder(config.folder, config.overrides), config);
}

std::unique_ptr<TextEncoder> load_sentence_encoder(SentenceFolder folder, const EncoderLoadConfig& config) {
  const nn::ComputeTarget target{
      nn::torch_device(config.device), scalar_type(config.compute_type),
      config.compute_type == ComputeType::kInt8 ? nn::WeightType::kInt8 : nn::WeightType::kAsActivations};
  prepare_compute_thread();
  return std::make_unique<SentenceEncoder>(std::move(folder), target);
}

EncoderDescription describe_text_encoder(const std::string& folder, const EncoderOverrides& overrides) {
  return read_sentence_folder(folder, overrides).describe();
}

void prepare_compute_thread() {
  nn::use_one_thread();
}

std::string torch_version() {
  return nn::torch_version();
}

}  // namespace muster::models
