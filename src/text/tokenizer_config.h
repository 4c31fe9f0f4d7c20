// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "muster/formats/json.h"
#include "text/added_tokens.h"

namespace muster::text {

/// An added token as a file beside the vocabulary declares it, at its place there.
struct DeclaredToken {
  AddedToken token;                      ///< the id is not set
  std::optional<std::uint32_t> id;       ///< where the file gives one
  std::optional<formats::JsonValue> at;  ///< nothing for a default
};

/// tokenizer_config.json, special_tokens_map.json and added_tokens.json of a folder; each may be absent, and
/// so may every key. As transformers reads them: the map counts before the config's own tokens unless that
/// has an added_tokens_decoder.
class TokenizerConfig {
 public:
  explicit TokenizerConfig(const std::string& folder);

  /// Refuses a tokenizer_class other than `name` or its "Fast" twin; an absent one is taken for it.
  void expect_class(std::string_view name) const;
  bool flag(std::string_view key, bool fallback) const;
  std::optional<bool> optional_flag(std::string_view key) const;
  /// Refuses a flag that is there and has the other value.
  void expect_flag(std::string_view key, bool value) const;

  /// The token of a role ("pad_token"), written "[PAD]" or {"content": "[PAD]", ...}.
  std::optional<DeclaredToken> token(std::string_view key) const;
  DeclaredToken token(std::string_view key, std::string_view fallback) const;
  /// Those of added_tokens_decoder, or else of added_tokens.json, in the order of their ids.
  std::vector<DeclaredToken> added_tokens() const;
  /// Those without a role: additional_special_tokens and extra_special_tokens.
  std::vector<DeclaredToken> extra_tokens() const;

 private:
  std::optional<formats::JsonValue> find(std::string_view key) const;
  std::set<std::string, std::less<>> special_contents() const;

  std::optional<formats::JsonValue> config_, map_, added_;
};

}  // namespace muster::text
