// SPDX-License-Identifier: Apache-2.0
#include "phases/sample/choices.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <string_view>
#include <utility>

#include "muster/core/error.h"
#include "muster/core/strings.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 3> kParts{"unet", "text_encoder", "text_encoder_2"};

bool is_there(const std::string& path) {
  std::error_code ignored;  // a name that is too long, say
  return fs::exists(path, ignored);
}

bool is_part(const std::string& name) {
  return std::find(kParts.begin(), kParts.end(), name) != kParts.end();
}

bool holds_safetensors(const fs::path& folder) {
  std::error_code error;
  return std::any_of(fs::directory_iterator(folder, error), {},
                     [](const auto& entry) { return entry.path().extension() == ".safetensors"; });
}

std::vector<std::string> files_or_parts(const std::string& path) {
  std::vector<std::string> parts;
  std::error_code ignored;
  if (fs::is_directory(path, ignored) && !holds_safetensors(path)) {
    for (const char* part : kParts)
      if (holds_safetensors(fs::path(path) / part)) parts.push_back((fs::path(path) / part).string());
  }
  return parts.empty() ? std::vector<std::string>{path} : parts;
}

/// Absolute, without dots and slashes at the end.
fs::path plain_path(const std::string& path) {
  const auto plain = fs::absolute(path).lexically_normal();
  return plain.has_filename() ? plain : plain.parent_path();
}

/// Without what programs spell differently: "DPM++ 2M Karras" is dpmpp2mkarras.
std::string plain_name(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '+') out += 'p';
    if (std::isalnum(static_cast<unsigned char>(c)) != 0)
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return out;
}

constexpr std::array<std::pair<std::string_view, const char*>, 10> kOtherNames{{
    {"plms", "pndm"},
    {"eulerancestral", "euler_a"},
    {"dpmsolverpp", "dpmpp_2m"},
    {"ddimscheduler", "ddim"},
    {"pndmscheduler", "pndm"},
    {"eulerdiscretescheduler", "euler"},
    {"eulerancestraldiscretescheduler", "euler_a"},
    {"dpmsolvermultistepscheduler", "dpmpp_2m"},
    {"unipcmultistepscheduler", "unipc"},
    {"flowmatcheulerdiscretescheduler", "flow_euler"},
}};

}  // namespace

std::vector<diffusion::AdapterChoice> parse_adapter(const std::string& text) {
  std::string path = text;
  double scale = 1;
  if (const auto colon = text.rfind(':'); colon != std::string::npos && !is_there(text)) {
    const char* begin = text.data() + colon + 1;
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(begin, end, scale);
    if (colon == 0 || error != std::errc() || rest != end || !std::isfinite(scale))
      throw core::ConfigError(fmt::format(
          "sample.adapters: '{}' is neither a path nor PATH:SCALE with a number", core::printable(text)));
    path = text.substr(0, colon);
  }
  if (!is_there(path))
    throw core::DataError(
        fmt::format("the adapter {} does not exist; give a .safetensors file or a folder with one",
                    core::printable(path)));
  std::vector<diffusion::AdapterChoice> choices;
  for (auto& one : files_or_parts(path)) choices.push_back({.path = std::move(one), .scale = scale});
  return choices;
}

std::string adapter_name(const std::string& path) {
  fs::path plain = plain_path(path);
  if (plain.extension() == ".safetensors") {
    const auto stem = plain.stem().string();
    if (stem != "pytorch_lora_weights" && stem != "adapter_model") return stem;
    plain = plain.parent_path();
  }
  if (is_part(plain.filename().string())) plain = plain.parent_path();
  return plain.filename().string();
}

std::string model_name(const std::string& path) {
  return plain_path(path).filename().string();
}

std::string sampler_called(const std::string& text) {
  const auto plain = plain_name(text);
  for (auto& name : diffusion::sampler_names())
    if (plain_name(name) == plain) return name;
  for (const auto& [other, name] : kOtherNames)
    if (other == plain) return name;
  return text;
}

}  // namespace muster::phases
