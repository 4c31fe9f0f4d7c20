// SPDX-License-Identifier: Apache-2.0
#include "phases/text_model/model_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "muster/core/digest.h"
#include "muster/core/env.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/strings.h"
#include "phases/version.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kSchemaVersion = 1;

bool is_model_folder(const fs::path& path) {
  const auto has = [&](const char* name) { return fs::exists(path / name); };
  return fs::is_directory(path) && (has("config.json") || has("modules.json") || has("model_index.json"));
}

fs::path hub_cache() {
  if (const auto cache = core::env("HF_HUB_CACHE")) return *cache;
  if (const auto home = core::env("HF_HOME")) return fs::path(*home) / "hub";
  if (const auto xdg = core::env("XDG_CACHE_HOME")) return fs::path(*xdg) / "huggingface/hub";
  return fs::path(core::env("HOME").value_or("/")) / ".cache/huggingface/hub";
}

// models--org--name/refs/main names the snapshot; without it any complete snapshot serves.
std::string find_in_hub_cache(const std::string& model) {
  std::string folder = "models--" + model;
  folder.replace(folder.find('/'), 1, "--");
  const fs::path base = hub_cache() / folder;
  if (fs::exists(base / "refs/main")) {
    const std::string revision(core::trim(core::read_file(base / "refs/main", 4096)));
    const fs::path snapshot = base / "snapshots" / revision;
    if (revision.find('/') == std::string::npos && is_model_folder(snapshot)) return snapshot;
  }
  std::vector<std::string> snapshots;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(base / "snapshots", ignored)) {
    if (is_model_folder(entry.path())) snapshots.push_back(entry.path());
  }
  std::sort(snapshots.begin(), snapshots.end());
  return snapshots.empty() ? "" : snapshots.front();
}

bool is_tokenizer_file(const std::string& name) {
  const std::string file = fs::path(name).filename();
  return file.rfind("tokenizer", 0) == 0 || file == "vocab.txt" || file == "vocab.json" ||
         file == "merges.txt" || file == "special_tokens_map.json";
}

std::string digest_files(const std::string& folder, const std::vector<std::string>& names) {
  core::Sha256 sha;
  for (const auto& name : names) sha.update(name + "\n" + core::sha256_file(folder + "/" + name) + "\n");
  return sha.finish_hex();
}

}  // namespace

config::Schema encoder_schema() {
  using config::AffectsResults;
  using config::KeyType;
  config::Schema schema;
  schema.add(
      {.name = "model.pooling",
       .type = KeyType::kString,
       .default_value = "auto",
       .doc = "token vectors to one; auto: as the folder says",
       .flags = {"--pooling"},
       .affects = AffectsResults::kYes,
       .choices = {"auto", "cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"}});
  schema.add({.name = "model.normalize",
              .type = KeyType::kString,
              .default_value = "auto",
              .doc = "unit length embeddings; auto: as the folder says",
              .flags = {"--normalize"},
              .affects = AffectsResults::kYes,
              .choices = {"auto", "true", "false"}});
  schema.add(max_length_key());
  schema.add({.name = "model.prompt",
              .type = KeyType::kString,
              .default_value = "",
              .doc = "text put before every document",
              .flags = {"--prompt"},
              .affects = AffectsResults::kYes});
  schema.add({.name = "model.prompt_name",
              .type = KeyType::kString,
              .default_value = "",
              .doc = "one of the model's own prompts, by name",
              .flags = {"--prompt-name"},
              .affects = AffectsResults::kYes});
  schema.add({.name = "output.dtype",
              .type = KeyType::kString,
              .default_value = "fp32",
              .doc = "type of the stored embeddings",
              .flags = {"--output-dtype"},
              .affects = AffectsResults::kYes,
              .choices = {"fp32", "fp16"}});
  return schema;
}

config::Key max_length_key() {
  return {.name = "model.max_length",
          .type = config::KeyType::kInt,
          .default_value = "auto",
          .doc = "tokens of a text, special ones included",
          .flags = {"--max-length"},
          .affects = config::AffectsResults::kYes,
          .auto_allowed = true,
          .minimum = 1};
}

std::string find_model_folder(const std::string& model) {
  if (is_model_folder(model)) return model;
  const bool hub_name =
      std::count(model.begin(), model.end(), '/') == 1 && model.front() != '/' && model.front() != '.';
  if (hub_name && !fs::exists(model)) {
    const std::string folder = find_in_hub_cache(model);
    if (!folder.empty()) return folder;
    throw core::DataError(
        fmt::format("model '{}' is neither a folder nor in the local Hugging Face cache ({}); nothing is "
                    "downloaded at run time. Fetch it with: huggingface-cli download {}",
                    model, hub_cache().string(), model));
  }
  if (!fs::exists(model)) {
    throw core::DataError(fmt::format(
        "model folder {} does not exist; give a folder with config.json, or org/name of a model in the "
        "Hugging Face cache",
        model));
  }
  throw core::DataError(fmt::format(
      "{} is not a model folder: it has neither config.json, modules.json nor model_index.json", model));
}

ModelChoice choose_folder(const config::Config& config, const device::Device& device) {
  ModelChoice choice;
  choice.load.folder = find_model_folder(config.string("model.path"));
  choice.load.device = device;
  choice.load.compute_type = models::compute_type_from_name(config.string("run.dtype"));
  models::check_hardware(choice.load);
  if (!config.is_auto("model.max_length")) {
    choice.load.overrides.max_length = static_cast<std::uint32_t>(config.integer("model.max_length"));
  }
  return choice;
}

ModelChoice choose_model(const config::Config& config, const device::Device& device) {
  ModelChoice choice = choose_folder(config, device);
  if (const auto pooling = config.string("model.pooling"); pooling != "auto") {
    choice.load.overrides.pooling = models::pooling_from_name(pooling);
  }
  if (const auto normalize = config.string("model.normalize"); normalize != "auto") {
    choice.load.overrides.normalize = normalize == "true";
  }
  return choice;
}

std::string tokenizer_folder(const std::string& folder, const models::EncoderDescription& description) {
  return description.transformer_folder.empty() ? folder : folder + "/" + description.transformer_folder;
}

std::string choose_prompt(const config::Config& config, const models::EncoderDescription& description) {
  if (const auto prompt = config.string("model.prompt"); !prompt.empty()) return prompt;
  std::string name = config.string("model.prompt_name");
  if (name.empty()) name = description.default_prompt_name;
  if (name.empty()) return "";
  const auto found = description.prompts.find(name);
  if (found != description.prompts.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [known, text] : description.prompts) names.push_back(known);
  throw core::ConfigError(fmt::format("the model has no prompt called '{}'; it has: {}", name,
                                      names.empty() ? "none" : core::join(names, ", ")));
}

io::Identity model_digests(const std::string& folder, const std::vector<std::string>& files) {
  static auto* const known = new std::map<std::pair<std::string, std::vector<std::string>>, io::Identity>;
  const auto found = known->find({folder, files});
  if (found != known->end()) return found->second;
  std::vector<std::string> model, tokenizer;
  for (const auto& name : files) (is_tokenizer_file(name) ? tokenizer : model).push_back(name);
  return (*known)[{folder, files}] = {{"model.sha256", digest_files(folder, model)},
                                      {"tokenizer.sha256", digest_files(folder, tokenizer)}};
}

std::map<std::string, io::H5Attribute> model_attributes(const models::EncoderDescription& description,
                                                        const ModelChoice& choice) {
  std::vector<std::string> pooling;
  for (const auto mode : description.pooling) pooling.push_back(models::pooling_name(mode));
  return {{"schema_version", kSchemaVersion},
          {"model_path", choice.load.folder},
          {"pooling", core::join(pooling, "+")},
          {"normalized", static_cast<std::int64_t>(description.normalize)},
          {"max_length", static_cast<std::int64_t>(description.max_length)},
          {"dtype", models::compute_type_name(choice.load.compute_type)},
          {"muster_version", std::string(kVersion)},
          {"commit", std::string(kCommit)}};
}

std::string attribute_name(std::string identity_name) {
  std::replace(identity_name.begin(), identity_name.end(), '.', '_');
  return identity_name;
}

double expected_rate(const device::Device& device, models::ComputeType type) {
  if (device.kind == device::Kind::kCuda) return type == models::ComputeType::kFp32 ? 40e12 : 300e12;
  if (type == models::ComputeType::kInt8) return 650e9;
  if (type == models::ComputeType::kBf16) return device::cpu_has_bf16() ? 430e9 : 2e9;
  return 200e9;
}

Footprint encoder_footprint(const models::EncoderDescription& description, const ModelChoice& choice,
                            std::uint64_t batch_tokens) {
  const double width = choice.load.compute_type == models::ComputeType::kFp32 ? 4 : 2;
  const auto tokens =
      static_cast<double>(std::max<std::uint64_t>(batch_tokens, description.max_length) + 256);
  Footprint footprint;
  footprint.weight_bytes = static_cast<double>(description.weight_count) * width;
  // Hidden states, their residual, fused query-key-value, attention output and the wide middle of a layer.
  footprint.worker_bytes = tokens * width * (6.0 * description.hidden + description.intermediate);
  footprint.flops = {.per_item = 0,
                     .linear = description.linear_flops_per_token,
                     .quadratic = description.attention_flops_per_token2};
  footprint.flops_per_second = expected_rate(choice.load.device, choice.load.compute_type);
  return footprint;
}

}  // namespace muster::phases
