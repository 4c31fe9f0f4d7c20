// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace muster::formats {

/// A prompt, and what its row says beside it; what is absent is the job's to say. It travels as the text of
/// an item, so that equal texts are equal pictures.
struct PromptRow {
  std::string id;  ///< of the item
  std::string prompt;
  std::optional<std::string> negative_prompt;
  std::optional<std::uint64_t> seed;
  std::optional<std::uint32_t> width, height, steps;
  std::optional<double> guidance;
  std::uint64_t row = 0;   ///< of the input, rejected rows counted
  std::uint32_t copy = 0;  ///< 0 to count - 1
  bool operator==(const PromptRow&) const = default;
};

inline constexpr std::uint64_t kMostPromptSeed = (std::uint64_t{1} << 63) - 1;
inline constexpr std::uint32_t kMostPromptCopies = 1'000'000;

/// A JSON object in one spelling: members in the order above, absent ones left out.
std::string to_json(const PromptRow& row);
/// DataError when `json` is not what to_json writes.
PromptRow parse_prompt_row(std::string_view json);

/// ID of a prompt's first picture, ID_1, ID_2, ... of its others.
std::string copy_id(const std::string& id, std::uint32_t copy);

}  // namespace muster::formats
