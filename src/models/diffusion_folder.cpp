// SPDX-License-Identifier: Apache-2.0
#include "muster/models/diffusion_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <limits>
#include <set>
#include <span>
#include <string_view>

#include "models/diffusion_weights.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/strings.h"

namespace muster::models {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndex = "model_index.json";
constexpr const char* kSchedulerConfig = "scheduler/scheduler_config.json";

constexpr std::string_view kTextClasses[] = {"CLIPTextModel", "CLIPTextModelWithProjection"};
constexpr std::string_view kProjectionClasses[] = {"CLIPTextModelWithProjection"};
constexpr std::string_view kTokenizerClasses[] = {"CLIPTokenizer", "CLIPTokenizerFast"};
constexpr std::string_view kUNetClasses[] = {"UNet2DConditionModel"};
constexpr std::string_view kVaeClasses[] = {"AutoencoderKL"};

/// A component that pictures are made with, and the classes it may be of; none: any.
struct Component {
  std::string_view name;
  std::span<const std::string_view> classes;
};

constexpr Component kStableDiffusion[] = {{"text_encoder", kTextClasses},
                                          {"tokenizer", kTokenizerClasses},
                                          {"unet", kUNetClasses},
                                          {"vae", kVaeClasses},
                                          {"scheduler", {}}};
constexpr Component kStableDiffusionXL[] = {{"text_encoder", kTextClasses},
                                            {"text_encoder_2", kProjectionClasses},
                                            {"tokenizer", kTokenizerClasses},
                                            {"tokenizer_2", kTokenizerClasses},
                                            {"unet", kUNetClasses},
                                            {"vae", kVaeClasses},
                                            {"scheduler", {}}};

struct PipelineClass {
  std::string_view name;
  PipelineKind kind;
  std::span<const Component> components;
};

constexpr PipelineClass kPipelines[] = {
    {"StableDiffusionPipeline", PipelineKind::kStableDiffusion, kStableDiffusion},
    {"StableDiffusionXLPipeline", PipelineKind::kStableDiffusionXL, kStableDiffusionXL}};

// They judge or condition on pictures; a picture from a prompt needs none of them.
constexpr std::array<std::string_view, 3> kIgnored{"safety_checker", "feature_extractor", "image_encoder"};

formats::JsonValue read_index(const std::string& path) {
  if (!fs::is_directory(path)) {
    const bool single = path.ends_with(".safetensors") || path.ends_with(".ckpt");
    throw core::DataError(fmt::format(
        "{}: no such pipeline folder{}", path,
        single ? "; a checkpoint in one file must be converted first: diffusers' "
                 "StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER), for SDXL "
                 "StableDiffusionXLPipeline"
               : ""));
  }
  const fs::path index = fs::path(path) / kIndex;
  if (!fs::exists(index))
    throw core::DataError(fmt::format(
        "{}: there is no {}; expected the folder of a text-to-image pipeline in diffusers' layout, as its "
        "save_pretrained(folder) writes it",
        path, kIndex));
  return formats::read_json(index.string());
}

const PipelineClass& class_of(const formats::JsonValue& index) {
  const auto name = index.at("_class_name");
  for (const PipelineClass& pipeline : kPipelines)
    if (pipeline.name == name.as<std::string>()) return pipeline;
  name.fail(fmt::format("is '{}'; the pipelines known are {} and {}", core::printable(name.view()),
                        kPipelines[0].name, kPipelines[1].name));
}

/// [library, class] of a component; nothing where the pipeline goes without: null or [null, null].
std::optional<std::string> component_class(const formats::JsonValue& entry) {
  if (entry.is_null()) return std::nullopt;
  if (entry.size() != 2) entry.fail("is no [library, class] pair");
  const auto name = entry.element(1);
  return name.is_null() ? std::nullopt : std::optional(name.as<std::string>());
}

std::string needed_class(const formats::JsonValue& index, const Component& component) {
  const auto entry = index.at(component.name);
  const auto name = component_class(entry);
  if (!name) entry.fail("is null, but pictures are not made without it");
  if (!component.classes.empty() &&
      std::find(component.classes.begin(), component.classes.end(), *name) == component.classes.end())
    entry.fail(fmt::format("is of class '{}'; known: {}", core::printable(*name),
                           fmt::join(component.classes, ", ")));
  return *name;
}

// A component nobody knows would change the pictures; options (true, "x", 3) stand beside the components.
void refuse_unknown(const formats::JsonValue& index, const PipelineClass& pipeline) {
  for (const auto& [key, value] : index.members()) {
    const auto is_key = [&name = key](const Component& component) { return component.name == name; };
    if (!value.is_array() || std::ranges::find(kIgnored, key) != kIgnored.end() ||
        std::ranges::any_of(pipeline.components, is_key))
      continue;
    if (const auto name = component_class(value))
      value.fail(fmt::format("is a component (of class '{}') that a {} is not known to have",
                             core::printable(*name), pipeline.name));
  }
}

formats::JsonValue read_config(const std::string& path, std::string_view component) {
  const fs::path file = fs::path(path) / component / "config.json";
  if (!fs::exists(file))
    throw core::DataError(
        fmt::format("{}: {} names the component {}, but there is no {}/config.json; is the folder complete?",
                    path, kIndex, component, component));
  return formats::read_json(file.string());
}

// Configs of both text models have a projection's width; the class tells which has the projection.
ClipTextConfig read_text_encoder(const formats::JsonValue& json, const std::string& class_name) {
  ClipTextConfig config = ClipTextConfig::read(json);
  if (class_name == "CLIPTextModel") {
    config.projection = 0;
  } else if (config.projection == 0) {
    config.projection = json.get<std::int64_t>("projection_dim");
    if (config.projection < 1) json.at("projection_dim").fail("must be above 0");
  }
  return config;
}

// Python writes -Infinity (DPM-Solver's lambda_min_clipped), which JSON does not have: the lowest number
// instead.
std::string without_infinities(std::string_view text) {
  constexpr std::string_view kInfinity = "-Infinity", kLowest = "-1e308";
  std::string out;
  bool quoted = false;
  while (!text.empty()) {
    std::size_t taken = 1;
    if (quoted && text.front() == '\\') taken = std::min<std::size_t>(2, text.size());
    if (text.front() == '"') quoted = !quoted;
    if (!quoted && text.starts_with(kInfinity)) {
      out += kLowest;
      taken = kInfinity.size();
    } else {
      out += text.substr(0, taken);
    }
    text.remove_prefix(taken);
  }
  return out;
}

formats::JsonValue read_scheduler(const std::string& path) {
  constexpr std::uint64_t kMostBytes = 16 << 20;
  const std::string file = (fs::path(path) / kSchedulerConfig).string();
  if (!fs::exists(file))
    throw core::DataError(fmt::format("{}: there is no {}; is the folder complete?", path, kSchedulerConfig));
  return formats::parse_json(without_infinities(core::read_file(file, kMostBytes)), file);
}

// What every encoder has positions for and every tokenizer's own limit allows (1e30 stands for "none").
std::int64_t read_prompt_tokens(const DiffusionFolder& folder) {
  constexpr std::int64_t kLeast = 3;  // one beside the special ones
  auto most = std::numeric_limits<std::int64_t>::max();
  for (const ClipTextConfig& encoder : folder.text_encoders) most = std::min(most, encoder.positions);
  for (const std::string& tokenizer : folder.tokenizer_folders) {
    const fs::path file = fs::path(folder.path) / tokenizer / "tokenizer_config.json";
    if (!fs::exists(file)) continue;
    const auto limit = formats::read_json(file.string()).find("model_max_length");
    if (!limit || limit->is_null()) continue;
    const auto length = limit->as<double>();
    if (!(length >= kLeast)) limit->fail(fmt::format("is {}, expected {} or more", length, kLeast));
    if (length < static_cast<double>(most)) most = static_cast<std::int64_t>(length);
  }
  return most;
}

// What the text encoders hand to the UNet must fit, or the first product would fail without naming a key.
void check_widths(const DiffusionFolder& folder, const formats::JsonValue& unet) {
  std::int64_t width = 0;
  for (const ClipTextConfig& encoder : folder.text_encoders) width += encoder.hidden;
  if (folder.unet.cross_width != width)
    unet.at("cross_attention_dim")
        .fail(fmt::format("is {}, but the pipeline's text encoders make states of width {}",
                          folder.unet.cross_width, width));
  if (folder.unet.in_channels != folder.vae.latent_channels)
    unet.at("in_channels")
        .fail(fmt::format("is {}, but the VAE has {} latent channels; pipelines for inpainting or "
                          "depth, whose UNet takes more, are not text-to-image",
                          folder.unet.in_channels, folder.vae.latent_channels));
  if (folder.unet.out_channels != folder.vae.latent_channels)
    unet.at("out_channels")
        .fail(fmt::format("is {}, but the VAE has {} latent channels", folder.unet.out_channels,
                          folder.vae.latent_channels));
}

void check_vae(DiffusionFolder& folder) {
  constexpr std::int64_t kColours = 3;
  if (folder.vae.out_channels != kColours)
    throw core::DataError(fmt::format("{}/vae/config.json: key 'out_channels' is {}, but a picture has {}",
                                      folder.path, folder.vae.out_channels, kColours));
  if (folder.kind == PipelineKind::kStableDiffusionXL) return;
  folder.vae.latents_mean.clear();  // not read by this pipeline's reference
  folder.vae.latents_std.clear();
}

// SDXL: the second encoder's projection and six sizes make the added condition.
void check_added(const DiffusionFolder& folder, const formats::JsonValue& unet) {
  constexpr std::int64_t kTimeIds = 6;
  const bool added = folder.unet.time_ids_width > 0;
  if (added != (folder.kind == PipelineKind::kStableDiffusionXL))
    throw core::DataError(
        fmt::format("{}/unet/config.json: key 'addition_embed_type' does not fit the pipeline: {} "
                    "conditions on sizes and a pooled text ('text_time')",
                    folder.path, added ? "this UNet alone" : "a StableDiffusionXLPipeline"));
  if (!added) return;
  const std::int64_t width = folder.text_encoders.back().projection + kTimeIds * folder.unet.time_ids_width;
  if (folder.unet.added_projection_width != width)
    unet.at("projection_class_embeddings_input_dim")
        .fail(fmt::format("is {}, but text_encoder_2's projection and {} sizes of {} numbers each make {}",
                          folder.unet.added_projection_width, kTimeIds, folder.unet.time_ids_width, width));
}

// Whatever of these a tokenizer's folder has decides the ids.
constexpr const char* kTokenizerFiles[] = {"vocab.json",        "merges.txt",
                                           "tokenizer.json",    "tokenizer_config.json",
                                           "added_tokens.json", "special_tokens_map.json"};

}  // namespace

DiffusionFolder DiffusionFolder::read(const std::string& path) {
  const auto index = read_index(path);
  const PipelineClass& pipeline = class_of(index);
  refuse_unknown(index, pipeline);
  auto scheduler = read_scheduler(path);  // by itself: GCC 12 frees members twice when an initializer throws
  DiffusionFolder out{.path = path, .kind = pipeline.kind, .scheduler = std::move(scheduler)};
  for (const Component& component : pipeline.components) {
    const std::string name(component.name), class_name = needed_class(index, component);
    if (name == "scheduler") out.scheduler_class = class_name;
    if (name.starts_with("tokenizer")) out.tokenizer_folders.push_back(name);
    if (name == "vae") out.vae = AutoencoderKLConfig::read(read_config(path, name));
    if (!name.starts_with("text_encoder")) continue;
    out.text_encoder_folders.push_back(name);
    out.text_encoders.push_back(read_text_encoder(read_config(path, name), class_name));
  }
  const auto unet = read_config(path, "unet");
  out.unet = UNet2DConfig::read(unet);
  out.prompt_tokens = read_prompt_tokens(out);
  check_vae(out);
  check_widths(out, unet);
  check_added(out, unet);
  out.zeros_for_empty_prompt = index.get_or<bool>("force_zeros_for_empty_prompt", true);
  return out;
}

std::vector<std::string> DiffusionFolder::files() const {
  std::set<std::string> out{kIndex, kSchedulerConfig};
  for (const std::string& tokenizer : tokenizer_folders)
    for (const char* name : kTokenizerFiles)
      if (fs::exists(fs::path(path) / tokenizer / name)) out.insert(tokenizer + "/" + name);
  std::vector<std::string> components = text_encoder_folders;
  components.insert(components.end(), {"unet", "vae"});
  for (const std::string& component : components) {
    out.insert(component + "/config.json");
    for (const std::string& file : component_files(path, component)) out.insert(file);
  }
  return {out.begin(), out.end()};
}

}  // namespace muster::models
