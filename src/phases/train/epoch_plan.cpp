// SPDX-License-Identifier: Apache-2.0
#include "phases/train/epoch_plan.h"

#include <algorithm>
#include <numeric>
#include <queue>

#include "muster/core/philox.h"

namespace muster::phases {
namespace {

constexpr std::uint64_t kBatchesSortedTogether = 50;
// Streams of random numbers of one seed.
constexpr std::uint32_t kDocumentOrder = 0;
constexpr std::uint32_t kBatchOrder = 1;

template <class T>
void shuffle(std::vector<T>& values, core::Philox random) {
  for (std::size_t left = values.size(); left > 1; --left)
    std::swap(values[left - 1], values[random.next_below(left)]);
}

void longest_first(DocumentList& documents, std::span<const std::uint32_t> lengths) {
  std::stable_sort(documents.begin(), documents.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return lengths[a] > lengths[b]; });
}

}  // namespace

DocumentList shuffled(std::uint32_t count, std::uint64_t seed, std::uint64_t stream) {
  DocumentList order(count);
  std::iota(order.begin(), order.end(), 0U);
  shuffle(order, core::Philox(seed, stream, kDocumentOrder));
  return order;
}

std::uint64_t batches_of_epoch(std::uint64_t documents, std::uint64_t global_batch) {
  return (documents + global_batch - 1) / global_batch;
}

std::vector<DocumentList> plan_epoch(std::span<const std::uint32_t> documents,
                                     std::span<const std::uint32_t> lengths, const EpochConfig& config,
                                     std::uint64_t epoch) {
  DocumentList order(documents.begin(), documents.end());
  shuffle(order, core::Philox(config.seed, epoch, kDocumentOrder));
  const auto batch = static_cast<std::size_t>(config.global_batch);
  const std::size_t together = config.grouping == Grouping::kNone ? batch : batch * kBatchesSortedTogether;
  std::vector<DocumentList> batches;
  for (std::size_t begin = 0; begin < order.size(); begin += together) {
    DocumentList part(order.begin() + static_cast<std::ptrdiff_t>(begin),
                      order.begin() + static_cast<std::ptrdiff_t>(std::min(begin + together, order.size())));
    if (config.grouping == Grouping::kByLength) longest_first(part, lengths);
    for (std::size_t at = 0; at < part.size(); at += batch) {
      const auto first = part.begin() + static_cast<std::ptrdiff_t>(at);
      batches.emplace_back(first, first + static_cast<std::ptrdiff_t>(std::min(batch, part.size() - at)));
    }
  }
  if (config.grouping == Grouping::kByLength) shuffle(batches, core::Philox(config.seed, epoch, kBatchOrder));
  return batches;
}

std::vector<DocumentList> cut_slots(std::span<const std::uint32_t> batch,
                                    std::span<const std::uint32_t> lengths, std::size_t slots,
                                    const plan::CostModel& cost) {
  struct Load {
    double cost;
    std::size_t slot;
    bool operator>(const Load& other) const {
      return cost != other.cost ? cost > other.cost : slot > other.slot;
    }
  };
  DocumentList order(batch.begin(), batch.end());
  std::sort(order.begin(), order.end());  // equal lengths go by number, whatever the batch's order is
  longest_first(order, lengths);
  std::priority_queue<Load, std::vector<Load>, std::greater<>> loads;
  for (std::size_t slot = 0; slot < slots; ++slot) loads.push({0, slot});
  std::vector<DocumentList> dealt(slots);
  for (const std::uint32_t document : order) {
    auto [load, slot] = loads.top();
    loads.pop();
    dealt[slot].push_back(document);
    loads.push({load + cost(lengths[document]), slot});
  }
  return dealt;
}

std::vector<std::span<const std::uint32_t>> cut_micro_batches(std::span<const std::uint32_t> slot,
                                                              std::span<const std::uint32_t> lengths,
                                                              std::uint64_t tokens) {
  std::vector<std::span<const std::uint32_t>> cut;
  std::size_t begin = 0;
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < slot.size(); ++i) {
    if (i > begin && sum + lengths[slot[i]] > tokens) {
      cut.push_back(slot.subspan(begin, i - begin));
      begin = i;
      sum = 0;
    }
    sum += lengths[slot[i]];
  }
  if (begin < slot.size()) cut.push_back(slot.subspan(begin));
  return cut;
}

}  // namespace muster::phases
