// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "muster/comm/communicator.h"
#include "muster/formats/item_source.h"
#include "muster/phases/step_phase.h"
#include "phases/runner/survey.h"

namespace muster::phases {

/// Where the pictures of an input lie: an item's id is a path, relative to `folder`.
struct PictureInput {
  formats::InputConfig input;
  std::string folder;            ///< "": that of the input file
  std::uint32_t resolution = 0;  ///< pixels a side
};

/// All pictures of a training job with their texts, the same on every rank: any rank may need any of them in
/// any step.
struct PictureSet {
  std::vector<std::string> names, texts;
  std::vector<std::uint64_t> rows;     ///< in the input
  std::vector<std::uint32_t> lengths;  ///< 1 each: all pictures cost the same
  at::Tensor pixels;                   ///< uint8 [pictures, 3, resolution, resolution]
  std::uint32_t size() const { return static_cast<std::uint32_t>(rows.size()); }
  double bytes() const;
  /// fp32 in [-1, 1], [pictures, 3, resolution, resolution].
  at::Tensor batch(std::span<const std::uint32_t> pictures) const;
};

/// A picture as it is trained on: RGB over white, scaled until its shorter side is `resolution`, the middle
/// of it. uint8 [3, resolution, resolution]. DataError names the file.
at::Tensor read_picture(const std::string& path, std::uint32_t resolution);

/// Collective: rank 0 reads the input, every rank its share of the pictures. One DataError lists the pictures
/// that cannot be read.
PictureSet load_pictures(comm::Communicator& world, const Survey& survey, const PictureInput& input,
                         const std::function<void(const std::string&)>& begins);
/// One DataError lists the pictures of an input that cannot be read.
void check_pictures(const PictureInput& input);
/// Rank 0: of names and contents of all pictures.
std::string pictures_digest(const PictureInput& input);

}  // namespace muster::phases
