// SPDX-License-Identifier: Apache-2.0
// Pipelines and their parts as folders in diffusers' layout.
#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "models/sentence_folder.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/strings.h"
#include "muster/formats/safetensors_writer.h"
#include "muster/models/trainable_part.h"

namespace muster::models {
namespace {

constexpr const char* kUnetFile = "diffusion_pytorch_model.safetensors";
constexpr const char* kTextFile = "model.safetensors";
constexpr const char* kDiffusersVersion = "0.42.0";  // whose layout this is

struct TypeNames {
  formats::DType stored;
  c10::ScalarType computed;
  const char* torch;
};

TypeNames names_of(SavedType type) {
  switch (type) {
    case SavedType::kFp16:
      return {formats::DType::kF16, c10::ScalarType::Half, "float16"};
    case SavedType::kBf16:
      return {formats::DType::kBF16, c10::ScalarType::BFloat16, "bfloat16"};
    case SavedType::kFp32:
      break;
  }
  return {formats::DType::kF32, c10::ScalarType::Float, "float32"};
}

void write_synced(const std::string& path, std::string_view content) {
  const core::UniqueFd file = core::create_for_writing(path);
  core::write_all(file.get(), content, path);
  core::sync(file.get(), path);
}

/// Keys and values as JSON text, one a line.
class JsonLines {
 public:
  JsonLines& text(const std::string& key, const std::string& value) {
    return raw(key, core::json_quote(value));
  }
  JsonLines& number(const std::string& key, double value) { return raw(key, fmt::format("{}", value)); }
  JsonLines& integer(const std::string& key, std::int64_t value) { return raw(key, std::to_string(value)); }
  JsonLines& truth(const std::string& key, bool value) { return raw(key, value ? "true" : "false"); }
  JsonLines& list(const std::string& key, const std::vector<std::int64_t>& values) {
    return raw(key, fmt::format("[{}]", fmt::join(values, ", ")));
  }
  JsonLines& names(const std::string& key, const std::vector<std::string>& values) {
    std::vector<std::string> quoted;
    for (const auto& value : values) quoted.push_back(core::json_quote(value));
    return raw(key, fmt::format("[{}]", fmt::join(quoted, ", ")));
  }
  JsonLines& raw(const std::string& key, const std::string& value) {
    lines_.push_back(fmt::format("  {}: {}", core::json_quote(key), value));
    return *this;
  }
  std::string str() const { return fmt::format("{{\n{}\n}}\n", fmt::join(lines_, ",\n")); }

 private:
  std::vector<std::string> lines_;
};

void write_weights(const std::string& path, const SavedPart& saved) {
  const TypeNames type = names_of(saved.type);
  const auto parameters = part_parameters(saved.part);
  core::internal_check(parameters.size() == saved.weights.size(), "every parameter is saved");
  std::vector<formats::TensorSpec> specs;
  std::map<std::string, at::Tensor> tensors;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto& [name, shape, decays] = parameters[i];
    specs.push_back({name, type.stored, {shape.begin(), shape.end()}});
    tensors[name] = saved.weights[i].to(type.computed).contiguous();
  }
  formats::SafetensorsWriter writer(
      {.path = path, .tensors = std::move(specs), .metadata = {{"format", "pt"}}});
  for (const formats::TensorSpec& spec : writer.tensors()) {
    const at::Tensor& weight = tensors.at(spec.name);
    writer.write(spec.name, {static_cast<const std::byte*>(weight.const_data_ptr()), weight.nbytes()});
  }
  writer.finish();
}

void write_part(const std::string& folder, const std::string& config, const char* file,
                const SavedPart& saved) {
  core::make_directories(folder);
  write_synced(path_in(folder, "config.json"), config);
  write_weights(path_in(folder, file), saved);
  core::sync_directory(folder);
}

std::vector<std::string> repeated(const char* name, std::size_t count) {
  return std::vector<std::string>(count, name);
}

std::string unet_text(const UNet2DConfig& config) {
  std::vector<std::string> down, up;
  for (const std::int64_t transformers : config.transformers) {
    down.emplace_back(transformers > 0 ? "CrossAttnDownBlock2D" : "DownBlock2D");
    up.emplace_back(transformers > 0 ? "CrossAttnUpBlock2D" : "UpBlock2D");
  }
  std::reverse(up.begin(), up.end());
  // A block without attention has a count of transformers all the same, which nobody reads.
  std::vector<std::int64_t> transformers = config.transformers;
  for (auto& count : transformers) count = std::max<std::int64_t>(count, 1);
  if (config.mid_transformers > 0) transformers.back() = config.mid_transformers;
  JsonLines lines;
  lines.text("_class_name", "UNet2DConditionModel")
      .text("_diffusers_version", kDiffusersVersion)
      .integer("sample_size", config.sample_size)
      .integer("in_channels", config.in_channels)
      .integer("out_channels", config.out_channels)
      .list("block_out_channels", config.channels)
      .list("layers_per_block", config.layers)
      .names("down_block_types", down)
      .raw("mid_block_type", config.mid_transformers > 0 ? "\"UNetMidBlock2DCrossAttn\"" : "null")
      .names("up_block_types", up)
      .list("transformer_layers_per_block", transformers)
      .list("attention_head_dim", config.heads)
      .integer("cross_attention_dim", config.cross_width)
      .integer("norm_num_groups", config.norm_groups)
      .number("norm_eps", config.norm_epsilon)
      .text("act_fn", "silu")
      .truth("use_linear_projection", config.linear_projection)
      .truth("flip_sin_to_cos", config.flip_sin_to_cos)
      .number("freq_shift", config.frequency_shift)
      .integer("downsample_padding", 1);
  if (config.time_ids_width > 0) {
    lines.text("addition_embed_type", "text_time")
        .integer("addition_time_embed_dim", config.time_ids_width)
        .integer("projection_class_embeddings_input_dim", config.added_projection_width);
  }
  return lines.str();
}

// Straight lines from picture to noise have no betas.
std::string schedule_text(const SavedSchedule& schedule) {
  JsonLines lines;
  lines.text("_class_name", schedule.class_name)
      .text("_diffusers_version", kDiffusersVersion)
      .integer("num_train_timesteps", schedule.steps);
  if (schedule.class_name == "FlowMatchEulerDiscreteScheduler") return lines.number("shift", 1.0).str();
  return lines.text("beta_schedule", schedule.betas)
      .number("beta_start", schedule.beta_start)
      .number("beta_end", schedule.beta_end)
      .text("prediction_type", schedule.prediction)
      .truth("rescale_betas_zero_snr", schedule.zero_terminal_snr)
      .text("timestep_spacing", schedule.zero_terminal_snr ? "trailing" : "leading")
      .integer("steps_offset", 1)
      .truth("set_alpha_to_one", schedule.zero_terminal_snr)
      .truth("clip_sample", false)
      .str();
}

}  // namespace

SavedType saved_type_from_name(const std::string& name) {
  if (name == "fp32") return SavedType::kFp32;
  if (name == "fp16") return SavedType::kFp16;
  if (name == "bf16") return SavedType::kBf16;
  throw core::ConfigError(fmt::format("weights are saved as fp32, fp16 or bf16, not as '{}'", name));
}

void save_autoencoder(const std::string& folder, const AutoencoderKLConfig& config, const SavedPart& part) {
  const std::size_t levels = config.channels.size();
  const auto text =
      JsonLines()
          .text("_class_name", "AutoencoderKL")
          .text("_diffusers_version", kDiffusersVersion)
          .integer("sample_size", config.sample_size)
          .integer("in_channels", config.in_channels)
          .integer("out_channels", config.out_channels)
          .integer("latent_channels", config.latent_channels)
          .list("block_out_channels", config.channels)
          .integer("layers_per_block", config.layers)
          .names("down_block_types", repeated("DownEncoderBlock2D", levels))
          .names("up_block_types", repeated("UpDecoderBlock2D", levels))
          .integer("norm_num_groups", config.norm_groups)
          .text("act_fn", "silu")
          .truth("mid_block_add_attention", config.mid_attention)
          .truth("use_quant_conv", config.quant_conv)
          .truth("use_post_quant_conv", config.post_quant_conv)
          .number("scaling_factor", config.scaling_factor)
          .raw("shift_factor", config.shift_factor == 0 ? "null" : fmt::format("{}", config.shift_factor))
          .truth("force_upcast", config.force_upcast)
          .str();
  write_part(folder, text, kUnetFile, part);
}

void save_unet(const std::string& folder, const UNet2DConfig& config, const SavedPart& part) {
  write_part(folder, unet_text(config), kUnetFile, part);
}

void save_clip_text(const std::string& folder, const ClipTextConfig& config, const SavedPart& part) {
  const auto text =
      JsonLines()
          .names("architectures", {config.projection > 0 ? "CLIPTextModelWithProjection" : "CLIPTextModel"})
          .text("model_type", "clip_text_model")
          .integer("hidden_size", config.hidden)
          .integer("intermediate_size", config.intermediate)
          .integer("num_hidden_layers", config.layers)
          .integer("num_attention_heads", config.heads)
          .integer("max_position_embeddings", config.positions)
          .integer("vocab_size", config.vocab)
          .integer("projection_dim", config.projection > 0 ? config.projection : config.hidden)
          .integer("bos_token_id", config.eos_token - 1)
          .integer("eos_token_id", config.eos_token)
          .integer("pad_token_id", config.eos_token)
          .text("hidden_act", config.activation)
          .number("layer_norm_eps", config.epsilon)
          .number("attention_dropout", 0)
          .text("torch_dtype", names_of(part.type).torch)
          .str();
  write_part(folder, text, kTextFile, part);
}

void save_pipeline_index(const std::string& folder, const SavedSchedule& schedule) {
  const auto scheduler = path_in(folder, "scheduler");
  core::make_directories(scheduler);
  write_synced(path_in(scheduler, "scheduler_config.json"), schedule_text(schedule));
  const auto component = [](const char* library, const char* name) {
    return fmt::format("[\"{}\", \"{}\"]", library, name);
  };
  write_synced(path_in(folder, "model_index.json"),
               JsonLines()
                   .text("_class_name", "StableDiffusionPipeline")
                   .text("_diffusers_version", kDiffusersVersion)
                   .raw("feature_extractor", "[null, null]")
                   .raw("image_encoder", "[null, null]")
                   .truth("requires_safety_checker", false)
                   .raw("safety_checker", "[null, null]")
                   .raw("scheduler", component("diffusers", schedule.class_name.c_str()))
                   .raw("text_encoder", component("transformers", "CLIPTextModel"))
                   .raw("tokenizer", component("transformers", "CLIPTokenizer"))
                   .raw("unet", component("diffusers", "UNet2DConditionModel"))
                   .raw("vae", component("diffusers", "AutoencoderKL"))
                   .str());
  core::sync_directory(scheduler);
  core::sync_directory(folder);
}

void save_clip_tokenizer(const std::string& folder, const std::string& vocabulary, const std::string& merges,
                         std::int64_t positions) {
  core::make_directories(folder);
  JsonLines special;
  special.text("bos_token", "<|startoftext|>")
      .text("eos_token", "<|endoftext|>")
      .text("unk_token", "<|endoftext|>")
      .text("pad_token", "<|endoftext|>");
  write_synced(path_in(folder, "special_tokens_map.json"), special.str());
  special.text("tokenizer_class", "CLIPTokenizer")
      .integer("model_max_length", positions)
      .truth("do_lower_case", true)
      .truth("add_prefix_space", false);
  write_synced(path_in(folder, "tokenizer_config.json"), special.str());
  write_synced(path_in(folder, "vocab.json"), vocabulary);
  write_synced(path_in(folder, "merges.txt"), merges);
  core::sync_directory(folder);
}

}  // namespace muster::models
