// SPDX-License-Identifier: Apache-2.0
#include "muster/plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <queue>

#include "muster/core/checked.h"
#include "muster/core/digest.h"
#include "muster/core/error.h"

namespace muster::plan {
namespace {

// Grows one micro-batch at a time and knows when it is full.
class Cutter {
 public:
  Cutter(std::span<const std::uint32_t> lengths, const CutConfig& config)
      : lengths_(lengths), config_(config) {}

  void add(std::uint32_t item, std::uint64_t budget) {
    const std::uint32_t length = lengths_[item];
    const bool full = config_.batch_items != 0 ? batch_.items.size() >= config_.batch_items
                                               : batch_.length + length > budget;
    if (full) close();
    batch_.items.push_back(item);
    batch_.length += length;
    batch_.cost += config_.cost(length);
  }

  void close() {
    if (batch_.items.empty()) return;
    // The last tile of a batch is padded to its full row count, so it is paid in full.
    const std::uint64_t padding = (config_.tile - batch_.length % config_.tile) % config_.tile;
    batch_.cost += config_.cost.linear * static_cast<double>(padding);
    batches_.push_back(std::move(batch_));
    batch_ = {};
  }

  std::vector<MicroBatch> take() {
    close();
    return std::move(batches_);
  }

 private:
  std::span<const std::uint32_t> lengths_;
  const CutConfig& config_;
  MicroBatch batch_;
  std::vector<MicroBatch> batches_;
};

std::uint64_t whole_tiles(double length, const CutConfig& config) {
  const auto tiles = static_cast<std::uint64_t>(length) / config.tile;
  return std::max<std::uint64_t>(tiles, 1) * config.tile;
}

std::vector<std::uint32_t> dearest_first(std::span<const MicroBatch> batches) {
  std::vector<std::uint32_t> order(batches.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return batches[a].cost > batches[b].cost; });
  return order;
}

// Gives every batch of `order` to the rank with the least load; ties go to the lowest rank.
Deal list_schedule(std::span<const MicroBatch> batches, std::span<const std::uint32_t> order,
                   std::span<double> loads) {
  using Slot = std::pair<double, std::size_t>;
  std::priority_queue<Slot, std::vector<Slot>, std::greater<>> ranks;
  for (std::size_t rank = 0; rank < loads.size(); ++rank) ranks.emplace(loads[rank], rank);
  Deal deal(loads.size());
  for (const std::uint32_t batch : order) {
    const auto [load, rank] = ranks.top();
    ranks.pop();
    deal[rank].push_back(batch);
    loads[rank] = load + batches[batch].cost;
    ranks.emplace(loads[rank], rank);
  }
  return deal;
}

}  // namespace

void CutConfig::validate() const {
  if (batch_tokens == 0 && batch_items == 0) throw core::ConfigError("run.batch_tokens must be at least 1");
  if (tile == 0) throw core::ConfigError("the tile must have at least one row");
  if (!(taper >= 0 && taper <= 1))
    throw core::ConfigError(fmt::format("the taper {} is not between 0 and 1", taper));
}

std::vector<MicroBatch> cut_window(std::span<const std::uint32_t> lengths, const CutConfig& config) {
  config.validate();
  std::vector<std::uint32_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return lengths[a] > lengths[b]; });
  double remaining = 0;
  for (const std::uint32_t length : lengths) remaining += config.cost(length);
  const double tapered = remaining * config.taper;

  Cutter cutter(lengths, config);
  const auto full = static_cast<double>(config.batch_tokens);
  for (const std::uint32_t item : order) {
    const double share = tapered > 0 ? std::min(1.0, remaining / tapered) : 1.0;
    cutter.add(item, whole_tiles(full * share, config));
    remaining -= config.cost(lengths[item]);
  }
  return cutter.take();
}

std::vector<MicroBatch> cut_in_order(std::span<const std::uint32_t> lengths, std::uint32_t first,
                                     std::uint32_t count, const CutConfig& config) {
  config.validate();
  Cutter cutter(lengths, config);
  for (std::uint32_t item = first; item < first + count; ++item) {
    cutter.add(item, whole_tiles(static_cast<double>(config.batch_tokens), config));
  }
  return cutter.take();
}

Deal deal_balanced(std::span<const MicroBatch> batches, std::span<double> loads) {
  return list_schedule(batches, dearest_first(batches), loads);
}

std::vector<Block> deal_ceil(std::uint32_t items, int ranks) {
  const std::uint32_t share = core::ceil_div(items, static_cast<std::uint32_t>(ranks));
  std::vector<Block> blocks(static_cast<std::size_t>(ranks));
  std::uint32_t first = 0;
  for (auto& block : blocks) {
    block = {first, std::min(share, items - first)};
    first += block.count;
  }
  return blocks;
}

double balance(std::span<const double> loads) {
  const double sum = std::accumulate(loads.begin(), loads.end(), 0.0);
  if (loads.empty() || sum <= 0) return 1;
  return *std::max_element(loads.begin(), loads.end()) * static_cast<double>(loads.size()) / sum;
}

Deal simulate_dynamic(std::span<const MicroBatch> batches, std::span<double> loads) {
  // The service hands batches out dearest first to whoever asks, and the rank that is done first asks first.
  return list_schedule(batches, dearest_first(batches), loads);
}

std::uint64_t plan_digest(std::span<const MicroBatch> batches) {
  std::uint64_t digest = batches.size();
  for (const auto& batch : batches) {
    const auto bytes = std::as_bytes(std::span(batch.items));
    digest = core::hash64({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, digest);
  }
  return digest;
}

}  // namespace muster::plan
