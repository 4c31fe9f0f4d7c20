// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "muster/phases/item_phase.h"
#include "phases/sample/published_pictures.h"
#include "phases/sample/sample_options.h"

namespace muster::phases {

/// A picture as the pairs name it.
struct PairMember {
  std::uint64_t prompt_row = 0;
  std::uint32_t copy = 0;
  std::string prompt, file;
  std::uint64_t seed = 0;
  std::optional<double> clip_score;
};

/// Indices of all pairs of pictures of one prompt, (0,1), (0,2), (1,2), ... `members` are in the order of the
/// items, so that those of a prompt stand together.
std::vector<std::pair<std::size_t, std::size_t>> pairs_of(const std::vector<PairMember>& members);

/// Lines of preference_pairs.jsonl or .csv: prompt, image_a, image_b, seed_a, seed_b and, with scores,
/// clip_score_a, clip_score_b.
std::string preference_pairs(const std::vector<PairMember>& members, PairsFormat format);

/// Collective: writes the file of a job's pairs, scored where a CLIP model is given; returns its name.
std::string write_pairs(PublishContext& context, const PublishedPictures& pictures,
                        const SampleOptions& options);

}  // namespace muster::phases
