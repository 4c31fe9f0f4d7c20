// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "muster/formats/prompt_row.h"

namespace muster::formats {

/// Columns (or keys) beside id and prompt that a row of prompts may have.
inline constexpr std::array<std::string_view, 7> kPromptColumns{
    "negative_prompt", "seed", "width", "height", "steps", "guidance", "count"};

/// Their cells in this order, as they are written; nullopt: absent. Valid while the row is.
using PromptCells = std::array<std::optional<std::string_view>, kPromptColumns.size()>;

/// A row's prompt and how many pictures it wants, if it says so.
struct DecodedPrompt {
  PromptRow row;
  std::optional<std::uint32_t> count;
};

/// Reads the cells into `out`, whose prompt stays; one sentence when a value cannot be used.
std::string read_prompt_cells(const PromptCells& cells, DecodedPrompt& out);

}  // namespace muster::formats
