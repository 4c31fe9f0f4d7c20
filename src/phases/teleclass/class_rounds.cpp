// SPDX-License-Identifier: Apache-2.0
#include "phases/teleclass/class_rounds.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "muster/nn/row_products.h"

namespace muster::phases {
namespace {

constexpr std::uint64_t kNoRow = std::numeric_limits<std::uint64_t>::max();
// Of a coordinate of a unit vector: far finer than a float's, and 2^22 documents of a class still fit 64
// bits.
constexpr double kFixedPoint = static_cast<double>(std::int64_t{1} << 40);

bool is_better(const Hit& a, const Hit& b) {
  return a.score != b.score ? a.score > b.score : a.row < b.row;
}

}  // namespace

void for_each_score_block(const UnitRows& rows, const ClassVectors& vectors, WorkerTeam& team,
                          const std::function<void(const ScoreBlock&)>& use) {
  const nn::RowProducts products(vectors.values, vectors.dimensions);
  const std::size_t block = nn::RowProducts::block_rows();
  std::atomic<std::size_t> next{0};
  team.run([&](int worker) {
    std::vector<float> scores;
    for (;;) {
      const std::size_t first = next.fetch_add(block);
      if (first >= rows.count()) return;
      const std::size_t count = std::min(block, rows.count() - first);
      scores.resize(count * vectors.classes);
      products.multiply(std::span(rows.values).subspan(first * rows.dimensions, count * rows.dimensions),
                        scores);
      use({.worker = worker, .first = first, .count = count, .scores = scores, .classes = vectors.classes});
    }
  });
}

void BestDocuments::add(std::size_t id, const Hit& hit) {
  auto& heap = hits_[id];
  if (heap.size() == most_) {
    if (most_ == 0 || !is_better(hit, heap.front())) return;
    std::pop_heap(heap.begin(), heap.end(), is_better);
    heap.pop_back();
  }
  heap.push_back(hit);
  std::push_heap(heap.begin(), heap.end(), is_better);
}

void BestDocuments::add(const BestDocuments& other) {
  for (std::size_t id = 0; id < hits_.size(); ++id)
    for (const Hit& hit : other.hits_[id]) add(id, hit);
}

void BestDocuments::merge(comm::Communicator& world) {
  // As many places as a class can fill, the same on every rank.
  std::size_t width = 0;
  for (const auto& heap : hits_) width = std::max(width, heap.size());
  width = world.all_reduce_value<std::uint64_t>(width, comm::Op::kMax);
  if (width == 0 || world.size() == 1) return;
  std::vector<Hit> mine(hits_.size() * width, Hit{.row = kNoRow});
  for (std::size_t id = 0; id < hits_.size(); ++id)
    std::copy(hits_[id].begin(), hits_[id].end(), mine.begin() + static_cast<std::ptrdiff_t>(id * width));
  std::vector<Hit> all(mine.size() * static_cast<std::size_t>(world.size()));
  world.all_gather(comm::ConstBuffer(std::as_bytes(std::span(std::as_const(mine)))),
                   comm::Buffer(std::as_writable_bytes(std::span(all))));
  for (auto& heap : hits_) heap.clear();
  for (std::size_t i = 0; i < all.size(); ++i)
    if (all[i].row != kNoRow) add(i / width % hits_.size(), all[i]);
}

BestDocuments best_documents(comm::Communicator& world, const UnitRows& rows, const ClassVectors& vectors,
                             std::size_t most, WorkerTeam& team) {
  std::vector<BestDocuments> of_workers(static_cast<std::size_t>(team.size()),
                                        BestDocuments(vectors.classes, most));
  for_each_score_block(rows, vectors, team, [&](const ScoreBlock& block) {
    auto& best = of_workers[static_cast<std::size_t>(block.worker)];
    for (std::size_t i = 0; i < block.count; ++i) {
      const std::size_t local = block.first + i;
      if (rows.usable[local] == 0) continue;
      const auto scores = block.of(i);
      for (std::size_t id = 0; id < scores.size(); ++id)
        best.add(id, {.row = rows.range.first + local, .score = scores[id]});
    }
  });
  BestDocuments best = std::move(of_workers.front());
  for (std::size_t worker = 1; worker < of_workers.size(); ++worker) best.add(of_workers[worker]);
  best.merge(world);
  return best;
}

void move_to_means(comm::Communicator& world, const UnitRows& rows, const BestDocuments& best,
                   ClassVectors& vectors) {
  std::vector<std::int64_t> sums(vectors.values.size());
  for (std::size_t id = 0; id < vectors.classes; ++id) {
    for (const Hit& hit : best.of(id)) {
      if (hit.row < rows.range.first || hit.row >= rows.range.first + rows.range.count) continue;
      const auto row = rows.row(hit.row - rows.range.first);
      for (std::size_t d = 0; d < row.size(); ++d)
        sums[id * vectors.dimensions + d] += std::llround(static_cast<double>(row[d]) * kFixedPoint);
    }
  }
  world.all_reduce(comm::Buffer(sums));
  std::vector<float> mean(vectors.dimensions);
  for (std::size_t id = 0; id < vectors.classes; ++id) {
    const auto documents = static_cast<double>(best.of(id).size());
    if (documents == 0) continue;
    for (std::size_t d = 0; d < mean.size(); ++d)
      mean[d] = static_cast<float>(static_cast<double>(sums[id * mean.size() + d]) / kFixedPoint / documents);
    // Opposite documents leave nothing to point at.
    if (scale_to_unit(mean))
      std::copy(mean.begin(), mean.end(),
                vectors.values.begin() + static_cast<std::ptrdiff_t>(id * mean.size()));
  }
}

}  // namespace muster::phases
