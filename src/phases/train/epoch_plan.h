// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "muster/plan/plan.h"

namespace muster::phases {

/// Which documents are trained on together, and who computes which: pure functions of lengths and seed.

enum class Grouping { kByLength, kNone };

struct EpochConfig {
  std::uint64_t seed = 0;
  std::uint64_t global_batch = 1;  ///< documents of a step, over all ranks
  Grouping grouping = Grouping::kByLength;
};

using DocumentList = std::vector<std::uint32_t>;

/// All numbers 0 .. count-1 in an order that seed and stream decide (Fisher and Yates, by Philox).
DocumentList shuffled(std::uint32_t count, std::uint64_t seed, std::uint64_t stream);

/// The batches of an epoch, in order: `documents` shuffled by (seed, epoch) and cut; the last one may be
/// smaller. By length, runs of 50 batches are sorted before they are cut and the batches shuffled after it,
/// so that a batch's documents are of similar length while batches of all lengths alternate.
std::vector<DocumentList> plan_epoch(std::span<const std::uint32_t> documents,
                                     std::span<const std::uint32_t> lengths, const EpochConfig& config,
                                     std::uint64_t epoch);
std::uint64_t batches_of_epoch(std::uint64_t documents, std::uint64_t global_batch);

/// Deals a batch into slots of about equal cost: the longest first, each to the slot with the least so far.
/// Some are empty when there are fewer documents. Longest first in each.
std::vector<DocumentList> cut_slots(std::span<const std::uint32_t> batch,
                                    std::span<const std::uint32_t> lengths, std::size_t slots,
                                    const plan::CostModel& cost);

/// Cuts a slot into micro-batches of at most `tokens` tokens; a longer document is alone.
std::vector<std::span<const std::uint32_t>> cut_micro_batches(std::span<const std::uint32_t> slot,
                                                              std::span<const std::uint32_t> lengths,
                                                              std::uint64_t tokens);

}  // namespace muster::phases
