// SPDX-License-Identifier: Apache-2.0
#include "models/diffusion_weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "models/weights.h"
#include "muster/core/error.h"
#include "muster/models/diffusion_folder.h"

namespace muster::models {
namespace {

namespace fs = std::filesystem;

std::string stem_of(const std::string& component) {
  return component.starts_with("text_encoder") ? "model" : "diffusion_pytorch_model";
}

bool has_pickle(const fs::path& folder) {
  const auto entries = fs::directory_iterator(folder);
  return std::any_of(fs::begin(entries), fs::end(entries), [](const fs::directory_entry& entry) {
    const std::string name = entry.path().filename().string();
    return name.ends_with(".bin") || name.ends_with(".bin.index.json") || name.ends_with(".ckpt");
  });
}

[[noreturn]] void fail_without_weights(const fs::path& folder, const std::string& stem) {
  if (!fs::is_directory(folder))
    throw core::DataError(
        fmt::format("{}: no such folder; is the pipeline's folder complete?", folder.string()));
  throw core::DataError(fmt::format(
      "{}: there is no {}.safetensors{}", folder.string(), stem,
      has_pickle(folder)
          ? "; the folder's .bin files are Python pickles, which are not read: convert them with diffusers' "
            "save_pretrained(folder), which writes safetensors"
          : fmt::format(" (nor {0}.safetensors.index.json, {0}.fp16.safetensors, "
                        "{0}.safetensors.index.fp16.json); is the folder complete?",
                        stem)));
}

/// The file that open() starts from: the whole component or the index of its shards. Full precision comes
/// first where a folder has both.
fs::path entry_file(const std::string& pipeline, const std::string& component) {
  const fs::path folder = fs::path(pipeline) / component;
  const std::string stem = stem_of(component);
  for (const char* ending : {".safetensors", ".safetensors.index.json", ".fp16.safetensors",
                             ".safetensors.index.fp16.json", ".fp16.safetensors.index.json"})
    if (fs::exists(folder / (stem + ending))) return folder / (stem + ending);
  fail_without_weights(folder, stem);
}

bool has_layer(nn::Module& module, std::string_view prefix) {
  bool found = false;
  module.visit_parameters(
      [&](const std::string& name, const nn::Parameter&) { found |= name.starts_with(prefix); });
  return found;
}

// The spellings are those of text encoders saved since transformers 5, and of autoencoders before diffusers
// 0.17, whose attention was made of convolutions at first.
WeightRules rules_of(nn::Module& module) {
  WeightRules rules{.unused = {"text_model.embeddings.position_ids", "embeddings.position_ids"},
                    .spellings = {{"text_model.", ""},
                                  {".to_q.", ".query."},
                                  {".to_k.", ".key."},
                                  {".to_v.", ".value."},
                                  {".to_out.0.", ".proj_attn."}},
                    .conv_shaped = ConvShaped::kAllowed};
  const bool decoder_alone = has_layer(module, "decoder.") && !has_layer(module, "encoder.");
  if (decoder_alone) rules.unused.insert(rules.unused.end(), {"encoder.", "quant_conv."});
  return rules;
}

double bytes_of(nn::Module& module, std::int64_t element) {
  return static_cast<double>(module.parameter_count()) * static_cast<double>(element);
}

}  // namespace

std::vector<std::string> component_files(const std::string& pipeline, const std::string& component) {
  const fs::path entry = entry_file(pipeline, component);
  const formats::Safetensors checkpoint = formats::Safetensors::open(entry.string());
  std::vector<std::string> out;
  const auto add = [&](const fs::path& file) {
    out.push_back(file.lexically_relative(pipeline).generic_string());
  };
  for (const std::string& file : checkpoint.files()) add(file);
  if (entry.extension() == ".json") add(entry);
  return out;
}

formats::Safetensors open_component(const std::string& pipeline, const std::string& component) {
  return formats::Safetensors::open(entry_file(pipeline, component).string());
}

void load_component(nn::Module& module, const formats::Safetensors& checkpoint,
                    const std::string& config_path) {
  load_weights(module, checkpoint, rules_of(module), config_path);
}

std::vector<PartBytes> part_bytes(const DiffusionFolder& folder, std::int64_t element) {
  double text = 0;
  for (const ClipTextConfig& config : folder.text_encoders) {
    ClipText encoder(config);
    text += bytes_of(encoder, element);
  }
  UNet2D unet(folder.unet);
  AutoencoderKL vae(folder.vae, AutoencoderParts::kDecoder);
  return {{"text encoders", text}, {"UNet", bytes_of(unet, element)}, {"VAE", bytes_of(vae, element)}};
}

}  // namespace muster::models
