// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace muster::plan {

/// Cost of one item of `length` units (tokens): per_item + linear * length + quadratic * length^2, in
/// arbitrary units that are the same for all items of a job. For a transformer: linear = 2 * weights,
/// quadratic = 4 * hidden * layers.
struct CostModel {
  double per_item = 0;
  double linear = 1;
  double quadratic = 0;
  double operator()(std::uint32_t length) const {
    const double n = length;
    return per_item + linear * n + quadratic * n * n;
  }
};

struct CutConfig {
  std::uint64_t batch_tokens = 2048;  ///< budget of a micro-batch, in length units
  std::uint32_t batch_items = 0;      ///< a fixed number of items instead, when not 0
  std::uint32_t tile = 256;  ///< rows of the canonical matrix product: budgets are cut to fill whole tiles
  double taper = 0.25;       ///< share of the window's cost that is cut into ever smaller batches
  CostModel cost;
  void validate() const;  ///< ConfigError
};

/// A piece of work: items of one window that are run together.
struct MicroBatch {
  std::vector<std::uint32_t> items;  ///< indices into the window
  std::uint64_t length = 0;          ///< sum of lengths
  double cost = 0;
};

/// Cuts a window once, from its sorted order (longest first, ties by index), under the token budget; the last
/// `taper` of the cost is cut into batches that shrink towards one tile, so that many ranks still balance.
/// Depends on the lengths alone, never on the number of ranks.
std::vector<MicroBatch> cut_window(std::span<const std::uint32_t> lengths, const CutConfig& config);
/// The same for items kept in input order (schedule ceil): consecutive items of one block.
std::vector<MicroBatch> cut_in_order(std::span<const std::uint32_t> lengths, std::uint32_t first,
                                     std::uint32_t count, const CutConfig& config);

/// For every rank the indices of its batches, in the order to run them (dearest first).
using Deal = std::vector<std::vector<std::uint32_t>>;

/// Longest processing time first (Graham 1969): each batch, dearest first, goes to the rank that is done
/// earliest. `loads` are the ranks' costs from earlier windows divided by their speeds; updated. makespan <=
/// 4/3 optimum.
Deal deal_balanced(std::span<const MicroBatch> batches, std::span<double> loads);

/// ceil(items / ranks) consecutive items a rank: 5 items on 4 ranks gives 2, 2, 1, 0.
struct Block {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
};
std::vector<Block> deal_ceil(std::uint32_t items, int ranks);

/// max / mean; 1 when there is no load.
double balance(std::span<const double> loads);

/// Greedy list scheduling as the work service does it: every batch goes to the rank that asks first.
Deal simulate_dynamic(std::span<const MicroBatch> batches, std::span<double> loads);

/// SHA-256-free identity of a cut, for logs and tests: equal exactly when batches and their items are equal.
std::uint64_t plan_digest(std::span<const MicroBatch> batches);

}  // namespace muster::plan
