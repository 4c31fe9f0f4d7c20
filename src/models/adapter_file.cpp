// SPDX-License-Identifier: Apache-2.0
#include "models/adapter_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/strings.h"

namespace muster::models {
namespace {

namespace fs = std::filesystem;

constexpr const char* kParts[] = {"unet", "text_encoder", "text_encoder_2"};

[[noreturn]] void fail_without_file(const fs::path& folder, const std::vector<std::string>& found) {
  const bool pickled = std::any_of(fs::directory_iterator(folder), {}, [](const fs::directory_entry& entry) {
    const auto ending = entry.path().extension();
    return ending == ".bin" || ending == ".pt" || ending == ".ckpt";
  });
  throw core::DataError(fmt::format(
      "{}: there is no pytorch_lora_weights.safetensors or adapter_model.safetensors{}", folder.string(),
      found.size() > 1 ? fmt::format(", but {}; name the file that is meant", fmt::join(found, ", "))
      : pickled ? "; Python pickles (.bin, .pt) are not read: convert them with safetensors' save_file()"
                : ""));
}

std::string file_in(const fs::path& folder) {
  for (const char* name : {"pytorch_lora_weights.safetensors", "adapter_model.safetensors"})
    if (fs::exists(folder / name)) return (folder / name).string();
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") found.push_back(entry.path().filename().string());
  std::sort(found.begin(), found.end());
  if (found.size() != 1) fail_without_file(folder, found);
  return (folder / found.front()).string();
}

std::string file_of(const std::string& path) {
  if (!fs::exists(path))
    throw core::DataError(fmt::format(
        "{}: no such adapter; expected a .safetensors file or a folder with one", core::printable(path)));
  return fs::is_directory(path) ? file_in(path) : path;
}

// peft matches its patterns as regular expressions; those that are plain names are all that is needed.
void check_pattern(std::string_view pattern, const formats::JsonValue& place) {
  const bool plain = std::all_of(pattern.begin(), pattern.end(), [](const char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '.';
  });
  if (!plain)
    place.fail(
        fmt::format("has the pattern '{}'; patterns that are not plain names of layers are not supported",
                    core::printable(pattern)));
}

constexpr std::string_view kTextModel = "text_model.";

bool matches(const std::string& pattern, const std::string& layer) {
  if (pattern.starts_with('^')) {
    const std::string whole = pattern.substr(1);
    return layer == whole || layer == std::string(kTextModel) + whole;
  }
  return layer == pattern || layer.ends_with("." + pattern);
}

}  // namespace

LoraSettings::LoraSettings(const formats::JsonValue& config, const std::string& prefix) {
  const auto type = config.find(prefix + "peft_type");
  if (type && !type->is_null() && type->view() != "LORA")
    type->fail(fmt::format("is '{}'; only LORA is supported", core::printable(type->view())));
  const auto layers = config.find(prefix + "layer_replication");
  if (layers && !layers->is_null()) layers->fail("is set, which is not supported");
  constexpr double kUsualAlpha = 8;
  alpha_ = config.get_or<double>(prefix + "lora_alpha", kUsualAlpha);
  if (!std::isfinite(alpha_)) config.at(prefix + "lora_alpha").fail("is not a finite number");
  const auto patterns = config.find(prefix + "alpha_pattern");
  if (patterns && !patterns->is_null()) {
    for (const auto& [pattern, alpha] : patterns->members()) {
      check_pattern(pattern.starts_with('^') ? pattern.substr(1) : pattern, *patterns);
      alphas_.emplace_back(pattern, alpha.as<double>());
    }
  }
  root_scaled_ = config.get_or<bool>(prefix + "use_rslora", false);
  dora_ = config.get_or<bool>(prefix + "use_dora", false);
}

double LoraSettings::scale(const std::string& layer, std::int64_t rank) const {
  const auto found = std::find_if(alphas_.begin(), alphas_.end(),
                                  [&](const auto& entry) { return matches(entry.first, layer); });
  const double alpha = found == alphas_.end() ? alpha_ : found->second;
  const auto size = static_cast<double>(rank);
  return alpha / (root_scaled_ ? std::sqrt(size) : size);
}

AdapterSource::AdapterSource(const std::string& path) : file_(file_of(path)) {
  tensors_ = formats::Safetensors::open(file_);
  const fs::path config = fs::path(file_).parent_path() / "adapter_config.json";
  const bool is_pefts = fs::is_directory(path) || fs::path(file_).filename() == "adapter_model.safetensors";
  if (is_pefts && fs::exists(config)) {
    settings_.emplace("", LoraSettings(formats::read_json(config.string()), ""));
  } else {
    read_metadata();
  }
}

void AdapterSource::read_metadata() {
  const core::MappedFile mapped(file_);
  const auto header = formats::parse_safetensors_header(mapped.bytes(), file_);
  const auto text = header.metadata.find("lora_adapter_metadata");
  if (text == header.metadata.end()) return;
  const auto config = formats::parse_json(text->second, file_ + ": metadata 'lora_adapter_metadata'");
  for (const std::string part : kParts) {
    const std::string prefix = part + ".";
    bool has_any = false;
    for (const auto& [key, value] : config.members()) has_any |= key.starts_with(prefix);
    if (has_any) settings_.emplace(part, LoraSettings(config, prefix));
  }
}

const LoraSettings* AdapterSource::settings(const std::string& part) const {
  for (const std::string& key : {std::string(), part})
    if (const auto found = settings_.find(key); found != settings_.end()) return &found->second;
  return nullptr;
}

}  // namespace muster::models
