// SPDX-License-Identifier: Apache-2.0
// Stable Diffusion's original UNet numbers what diffusers sorts into blocks: input_blocks.0 is conv_in, then
// each residual block (with its attention) and each downsampler is one; output_blocks likewise, but there an
// upsampler belongs to the residual block before it.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "models/adapter_names.h"
#include "muster/core/strings.h"

namespace muster::models {
namespace {

constexpr std::pair<std::string_view, std::string_view> kOutside[] = {
    {"conv_in", "input_blocks_0_0"},
    {"conv_out", "out_2"},
    {"time_embedding.linear_1", "time_embed_0"},
    {"time_embedding.linear_2", "time_embed_2"},
    {"add_embedding.linear_1", "label_emb_0_0"},
    {"add_embedding.linear_2", "label_emb_0_2"},
};

constexpr std::pair<std::string_view, std::string_view> kInResidual[] = {
    {"conv1", "in_layers_2"},
    {"time_emb_proj", "emb_layers_1"},
    {"conv2", "out_layers_3"},
    {"conv_shortcut", "skip_connection"},
};

/// "down_blocks.1.attentions.0.proj_in"
struct Place {
  std::string side;   ///< down_blocks, mid_block, up_blocks
  int block = 0;      ///< 0 in mid_block
  std::string kind;   ///< resnets, attentions, downsamplers, upsamplers
  int number = 0;     ///< of its kind
  std::string inner;  ///< with underscores
};

std::optional<int> number_of(const std::string& text) {
  int out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return out;
}

std::optional<Place> place_of(const std::string& name) {
  const auto parts = core::split(name, '.');
  if (parts.empty()) return std::nullopt;
  const bool middle = parts[0] == "mid_block";
  if (!middle && parts[0] != "down_blocks" && parts[0] != "up_blocks") return std::nullopt;
  const std::size_t kind = middle ? 1 : 2;
  if (parts.size() < kind + 3) return std::nullopt;
  const auto block = middle ? std::optional(0) : number_of(parts[1]), number = number_of(parts[kind + 1]);
  if (!block || !number) return std::nullopt;
  const std::vector<std::string> inner(parts.begin() + static_cast<std::ptrdiff_t>(kind) + 2, parts.end());
  return Place{parts[0], *block, parts[kind], *number, core::join(inner, "_")};
}

/// How many numbers a block takes, and what is in it.
struct Block {
  int residuals = 0;
  bool attends = false, samples = false;
};
using Blocks = std::map<std::pair<std::string, int>, Block>;

Blocks blocks_of(const std::vector<std::string>& names) {
  Blocks out;
  for (const std::string& name : names) {
    const auto place = place_of(name);
    if (!place) continue;
    Block& block = out[{place->side, place->block}];
    if (place->kind == "resnets") block.residuals = std::max(block.residuals, place->number + 1);
    block.attends |= place->kind == "attentions";
    block.samples |= place->kind.ends_with("samplers");
  }
  return out;
}

// The number of a block's first residual block.
int first_number(const Blocks& blocks, const Place& place) {
  const bool down = place.side == "down_blocks";
  int out = down ? 1 : 0;
  for (const auto& [key, block] : blocks)
    if (key.first == place.side && key.second < place.block)
      out += block.residuals + (down && block.samples ? 1 : 0);
  return out;
}

std::optional<std::string> inside(const Place& place) {
  if (place.kind != "resnets") return place.inner;
  const auto* found = std::find_if(std::begin(kInResidual), std::end(kInResidual),
                                   [&](const auto& row) { return row.first == place.inner; });
  if (found == std::end(kInResidual)) return std::nullopt;
  return std::string(found->second);
}

std::optional<std::string> original_name(const Blocks& blocks, const Place& place) {
  const auto inner = inside(place);
  if (!inner) return std::nullopt;
  const bool attention = place.kind == "attentions";
  if (place.side == "mid_block")
    return fmt::format("middle_block_{}_{}", attention ? 2 * place.number + 1 : 2 * place.number, *inner);
  const Block& block = blocks.at({place.side, place.block});
  const int first = first_number(blocks, place);
  if (place.kind == "downsamplers") return fmt::format("input_blocks_{}_0_op", first + block.residuals);
  if (place.kind == "upsamplers")
    return fmt::format("output_blocks_{}_{}_{}", first + block.residuals - 1, block.attends ? 2 : 1, *inner);
  return fmt::format("{}_{}_{}_{}", place.side == "down_blocks" ? "input_blocks" : "output_blocks",
                     first + place.number, attention ? 1 : 0, *inner);
}

}  // namespace

std::map<std::string, std::string> original_unet_names(const std::vector<std::string>& names) {
  const Blocks blocks = blocks_of(names);
  std::map<std::string, std::string> out;
  for (const std::string& name : names) {
    const auto* outside = std::find_if(std::begin(kOutside), std::end(kOutside),
                                       [&](const auto& row) { return row.first == name; });
    if (outside != std::end(kOutside)) {
      out.emplace(name, outside->second);
    } else if (const auto place = place_of(name)) {
      if (auto original = original_name(blocks, *place)) out.emplace(name, *std::move(original));
    }
  }
  return out;
}

}  // namespace muster::models
