// SPDX-License-Identifier: Apache-2.0
#include "models/sentence_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "models/registry.h"
#include "muster/core/error.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"

namespace muster::models {
namespace {

// Old sentence-transformers named this file by model.
constexpr const char* kTransformerConfigs[] = {
    "sentence_bert_config.json",      "sentence_roberta_config.json",     "sentence_distilbert_config.json",
    "sentence_camembert_config.json", "sentence_xlm-roberta_config.json",
};

formats::JsonValue empty_object(const std::string& path) {
  return formats::parse_json("{}", path);
}

formats::JsonValue read_or_empty(const std::string& path) {
  return std::filesystem::exists(path) ? formats::read_json(path) : empty_object(path);
}

struct ModuleEntry {
  std::string kind;    // "Pooling", the last part of the class path
  std::string folder;  // relative
};

std::vector<ModuleEntry> read_modules(const std::string& folder) {
  const std::string path = path_in(folder, "modules.json");
  std::vector<ModuleEntry> modules;
  if (!std::filesystem::exists(path)) {
    core::log::warning("{}: there is no modules.json; taken as a bare transformer with mean pooling", folder);
    return {{"Transformer", ""}, {"Pooling", ""}};
  }
  for (const auto& entry : formats::read_json(path).elements()) {
    const auto type = entry.get<std::string>("type");
    const auto relative = entry.get<std::string>("path");
    const auto parts = core::split(relative, '/');
    if (relative.starts_with('/') || std::find(parts.begin(), parts.end(), "..") != parts.end())
      entry.at("path").fail(
          fmt::format("is '{}'; modules lie inside the model's folder", core::printable(relative)));
    modules.push_back({type.substr(type.rfind('.') + 1), relative});
  }
  if (modules.size() < 2 || modules[0].kind != "Transformer" || modules[1].kind != "Pooling")
    throw core::DataError(fmt::format(
        "{}: expected the modules Transformer, Pooling and then any of Dense, LayerNorm, Normalize", path));
  return modules;
}

void read_transformer(SentenceFolder& out) {
  const std::string path = path_in(path_in(out.folder, out.transformer_folder), "config.json");
  if (!std::filesystem::exists(path))
    throw core::DataError(
        fmt::format("{}: there is no config.json; expected a Hugging Face model folder", out.folder));
  const auto config = formats::read_json(path);
  out.model_type = config.get<std::string>("model_type");
  out.transformer = make_transformer(config);
  out.weights = out.transformer->facts().weights;
}

void expect_value(const formats::JsonValue& config, const char* key, std::string_view expected) {
  const auto value = config.find(key);
  if (value && !value->is_null() && value->as<std::string>() != expected)
    value->fail(fmt::format("is '{}'; only '{}' is supported", value->view(), expected));
}

// sentence-transformers' own limit, else the tokenizer's, and never more than there are positions.
void read_max_length(SentenceFolder& out) {
  const std::string folder = path_in(out.folder, out.transformer_folder);
  const auto most = static_cast<double>(out.transformer->facts().max_positions);
  double length = most;
  const auto tokenizer = read_or_empty(path_in(folder, "tokenizer_config.json"));
  if (const auto limit = tokenizer.find("model_max_length"); limit && limit->is_number())
    length = limit->as<double>();  // 1e30 stands for "none"
  for (const char* name : kTransformerConfigs) {
    const std::string path = path_in(folder, name);
    if (!std::filesystem::exists(path)) continue;
    const auto config = formats::read_json(path);
    expect_value(config, "transformer_task", "feature-extraction");
    expect_value(config, "module_output_name", "token_embeddings");
    out.lower_case = config.get_or<bool>("do_lower_case", false);
    if (const auto limit = config.find("max_seq_length"); limit && !limit->is_null()) {
      length = limit->as<double>();
      if (!(length >= 1)) limit->fail("must be at least 1");
    }
    break;
  }
  out.max_length = static_cast<std::uint32_t>(std::clamp(length, 1.0, most));
}

void read_prompts(SentenceFolder& out) {
  const auto config = read_or_empty(path_in(out.folder, "config_sentence_transformers.json"));
  if (const auto prompts = config.find("prompts"); prompts && !prompts->is_null())
    for (const auto& [name, prompt] : prompts->members())
      out.prompts[std::string(name)] = prompt.is_null() ? "" : prompt.as<std::string>();
  out.default_prompt_name = config.get_or<std::string>("default_prompt_name", "");
  if (!out.default_prompt_name.empty() && !out.prompts.contains(out.default_prompt_name))
    config.at("default_prompt_name").fail("is not among the prompts");
}

void read_steps(SentenceFolder& out, std::span<const ModuleEntry> modules) {
  std::int64_t width = out.transformer->facts().hidden * static_cast<std::int64_t>(out.pooling.modes.size());
  for (const auto& [kind, relative] : modules) {
    if (kind == "Dropout") continue;  // nothing outside training
    const std::string path = path_in(path_in(out.folder, relative), "config.json");
    auto module = make_sentence_module(kind, read_or_empty(path), width);
    if (!module)
      throw core::DataError(
          fmt::format("{}/modules.json: module '{}' ({}) is not supported behind pooling; supported: Dense, "
                      "LayerNorm, Normalize, Dropout",
                      out.folder, core::printable(kind), core::printable(relative)));
    width = module->outputs();
    out.steps.push_back(
        {.module = std::move(module), .folder = relative, .is_normalize = kind == "Normalize"});
  }
}

void apply_normalize(SentenceFolder& out, bool normalize) {
  if (normalize == out.normalizes()) return;
  if (!normalize) return out.steps.pop_back();
  out.steps.push_back({.module = make_normalize(out.dimensions()), .folder = "", .is_normalize = true});
}

}  // namespace

void apply_max_length(SentenceFolder& folder, std::uint32_t length) {
  const std::int64_t most = folder.transformer->facts().max_positions;
  if (length < 1 || length > most)
    throw core::ConfigError(
        fmt::format("model.max_length is {}, but {} takes 1 to {} tokens", length, folder.folder, most));
  folder.max_length = length;
}

SentenceFolder read_transformer_folder(const std::string& folder, const std::string& transformer_folder) {
  SentenceFolder out;
  out.folder = folder;
  out.transformer_folder = transformer_folder;
  read_transformer(out);
  read_max_length(out);
  return out;
}

std::string path_in(const std::string& folder, const std::string& relative) {
  return relative.empty() ? folder : (std::filesystem::path(folder) / relative).string();
}

SentenceFolder read_sentence_folder(const std::string& folder, const EncoderOverrides& overrides) {
  if (!std::filesystem::is_directory(folder))
    throw core::DataError(fmt::format("{}: no such model folder", folder));
  const auto modules = read_modules(folder);
  SentenceFolder out = read_transformer_folder(folder, modules[0].folder);
  out.pooling_folder = modules[1].folder;
  const auto pooling = out.pooling_folder.empty()
                           ? empty_object(folder)
                           : formats::read_json(path_in(path_in(folder, out.pooling_folder), "config.json"));
  out.pooling = PoolingConfig::read(pooling, out.transformer->facts().hidden);
  if (overrides.pooling) out.pooling.modes = {*overrides.pooling};
  read_steps(out, std::span(modules).subspan(2));
  read_prompts(out);
  if (overrides.normalize) apply_normalize(out, *overrides.normalize);
  if (overrides.max_length) apply_max_length(out, *overrides.max_length);
  return out;
}

std::string transformer_folder_of(const std::string& folder) {
  return std::filesystem::exists(path_in(folder, "modules.json")) ? read_modules(folder)[0].folder : "";
}

std::uint32_t SentenceFolder::dimensions() const {
  if (!steps.empty()) return static_cast<std::uint32_t>(steps.back().module->outputs());
  return static_cast<std::uint32_t>(transformer->facts().hidden *
                                    static_cast<std::int64_t>(pooling.modes.size()));
}

EncoderDescription SentenceFolder::describe() const {
  const TransformerFacts& facts = transformer->facts();
  const auto h = static_cast<double>(facts.hidden), inner = static_cast<double>(facts.intermediate);
  const auto layers = static_cast<double>(facts.layers);
  EncoderDescription out;
  out.architecture = model_type;
  out.transformer_folder = transformer_folder;
  out.layers = static_cast<std::uint32_t>(facts.layers);
  out.hidden = static_cast<std::uint32_t>(facts.hidden);
  out.heads = static_cast<std::uint32_t>(facts.heads);
  out.intermediate = static_cast<std::uint32_t>(facts.intermediate);
  out.vocab = static_cast<std::uint32_t>(facts.vocab);
  out.max_positions = static_cast<std::uint32_t>(facts.max_positions);
  out.max_length = max_length;
  out.dimensions = dimensions();
  out.pooling = pooling.modes;
  out.include_prompt = pooling.include_prompt;
  out.normalize = normalizes();
  out.lower_case = lower_case;
  out.weight_count = transformer->parameter_count();
  for (const SentenceStep& step : steps) out.weight_count += step.module->parameter_count();
  out.linear_flops_per_token = 2 * layers * (4 * h * h + 2 * h * inner);
  out.attention_flops_per_token2 = 2 * layers * 2 * h;
  out.prompts = prompts;
  out.default_prompt_name = default_prompt_name;
  return out;
}

}  // namespace muster::models
