// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "muster/core/strings.h"

namespace muster::text {
namespace {

std::optional<formats::JsonValue> read_if_there(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  auto root = formats::read_json(path.string());
  if (!root.is_object()) root.fail("is not an object");
  return root;
}

/// "[PAD]", which is matched in the raw text, or an object that says where.
DeclaredToken declared(const formats::JsonValue& value) {
  DeclaredToken out;
  out.at = value;
  if (!value.is_object()) {
    out.token.content = value.as<std::string>();
    return out;
  }
  out.token.content = value.get<std::string>("content");
  out.token.single_word = value.get_or<bool>("single_word", false);
  out.token.strip_left = value.get_or<bool>("lstrip", false);
  out.token.strip_right = value.get_or<bool>("rstrip", false);
  const bool normalized = value.get_or<bool>("normalized", !value.get_or<bool>("special", true));
  out.token.match_on = normalized ? MatchOn::kNormalizedText : MatchOn::kRawText;
  return out;
}

std::uint32_t id_from_key(std::string_view key, const formats::JsonValue& place) {
  std::uint32_t id = 0;
  const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
  if (error != std::errc() || end != key.data() + key.size())
    place.fail(fmt::format("has the key '{}', expected a token's id", core::printable(key)));
  return id;
}

}  // namespace

TokenizerConfig::TokenizerConfig(const std::string& folder) {
  const std::filesystem::path path(folder);
  config_ = read_if_there(path / "tokenizer_config.json");
  map_ = read_if_there(path / "special_tokens_map.json");
  added_ = read_if_there(path / "added_tokens.json");
}

std::optional<formats::JsonValue> TokenizerConfig::find(std::string_view key) const {
  const auto value = config_ ? config_->find(key) : std::nullopt;
  return value && !value->is_null() ? value : std::nullopt;
}

void TokenizerConfig::expect_class(std::string_view name) const {
  const auto type = find("tokenizer_class");
  if (!type || type->view() == name || type->view() == fmt::format("{}Fast", name)) return;
  type->fail(
      fmt::format("is '{}': without a tokenizer.json only {} is supported here; save the folder once with "
                  "AutoTokenizer.from_pretrained(...).save_pretrained(...)",
                  core::printable(type->view()), name));
}

std::optional<bool> TokenizerConfig::optional_flag(std::string_view key) const {
  const auto value = find(key);
  return value ? std::optional(value->as<bool>()) : std::nullopt;
}

bool TokenizerConfig::flag(std::string_view key, bool fallback) const {
  return optional_flag(key).value_or(fallback);
}

void TokenizerConfig::expect_flag(std::string_view key, bool value) const {
  if (flag(key, value) != value) find(key)->fail(fmt::format("is {}, which is not supported", !value));
}

std::optional<DeclaredToken> TokenizerConfig::token(std::string_view key) const {
  std::optional<formats::JsonValue> value;
  if (map_ && !find("added_tokens_decoder")) value = map_->find(key);
  if (!value || value->is_null()) value = find(key);
  if (!value) return std::nullopt;
  return declared(*value);
}

DeclaredToken TokenizerConfig::token(std::string_view key, std::string_view fallback) const {
  auto out = token(key);
  if (out) return *std::move(out);
  DeclaredToken usual;
  usual.token.content = fallback;
  return usual;
}

std::vector<DeclaredToken> TokenizerConfig::added_tokens() const {
  std::vector<DeclaredToken> out;
  if (const auto decoder = find("added_tokens_decoder")) {
    for (const auto& [id, entry] : decoder->members()) {
      if (!entry.is_object()) entry.fail("is not a token");
      out.push_back(declared(entry));
      out.back().id = id_from_key(id, *decoder);
    }
  } else if (added_) {
    const auto special = special_contents();
    for (const auto& [content, id] : added_->members()) {
      out.emplace_back();
      out.back().id = id.as<std::uint32_t>();
      out.back().at = id;
      out.back().token.content = content;
      out.back().token.match_on = special.contains(content) ? MatchOn::kRawText : MatchOn::kNormalizedText;
    }
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return out;
}

std::set<std::string, std::less<>> TokenizerConfig::special_contents() const {
  std::set<std::string, std::less<>> out;
  for (const std::string_view key :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    if (const auto named = token(key)) out.insert(named->token.content);
  }
  for (const auto& extra : extra_tokens()) out.insert(extra.token.content);
  return out;
}

std::vector<DeclaredToken> TokenizerConfig::extra_tokens() const {
  std::vector<DeclaredToken> out;
  for (const std::string_view key : {"additional_special_tokens", "extra_special_tokens"}) {
    for (const auto& root : {config_, map_}) {
      const auto list = root ? root->find(key) : std::nullopt;
      if (!list || list->is_null()) continue;
      if (list->is_object()) {
        for (const auto& [role, entry] : list->members()) out.push_back(declared(entry));
      } else {
        for (const auto& entry : list->elements()) out.push_back(declared(entry));
      }
    }
  }
  return out;
}

}  // namespace muster::text
