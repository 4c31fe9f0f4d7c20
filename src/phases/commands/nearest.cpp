// SPDX-License-Identifier: Apache-2.0
#include "phases/commands/nearest.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace muster::phases {
namespace {

// Four vectors of sums side by side, of any processor's smallest vector: more would not help, memory is what
// a search waits for.
constexpr std::size_t kVectors = 4;
using Vector [[gnu::vector_size(16)]] = float;
constexpr std::size_t kStep = kVectors * sizeof(Vector) / sizeof(float);

Vector load(const float* from) {
  Vector value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

float sum_of(const Vector (&sums)[kVectors]) {
  const Vector all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return (all[0] + all[1]) + (all[2] + all[3]);
}

struct Products {
  float with_query = 0;
  float with_itself = 0;
};

Products multiply(const float* row, const float* query, std::size_t size) {
  Vector with_query[kVectors] = {}, with_itself[kVectors] = {};
  std::size_t i = 0;
  for (; i + kStep <= size; i += kStep)
    for (std::size_t v = 0; v < kVectors; ++v) {
      const Vector x = load(row + i + v * sizeof(Vector) / sizeof(float));
      with_query[v] += x * load(query + i + v * sizeof(Vector) / sizeof(float));
      with_itself[v] += x * x;
    }
  Products products{sum_of(with_query), sum_of(with_itself)};
  for (; i < size; ++i) {
    products.with_query += row[i] * query[i];
    products.with_itself += row[i] * row[i];
  }
  return products;
}

}  // namespace

NearestRows::NearestRows(std::span<const float> query, std::size_t top)
    : query_(query),
      query_norm_(std::sqrt(multiply(query.data(), query.data(), query.size()).with_itself)),
      top_(top) {}

void NearestRows::add(std::span<const float> rows, std::uint64_t first) {
  const std::size_t size = query_.size(), count = rows.size() / size;
  for (std::size_t i = 0; i < count; ++i) {
    const auto [with_query, with_itself] = multiply(rows.data() + i * size, query_.data(), size);
    const float norm = std::sqrt(with_itself) * query_norm_;
    const Hit hit{norm > 0 ? with_query / norm : 0, first + i};
    if (heap_.size() < top_) {
      heap_.push_back(hit);
      std::push_heap(heap_.begin(), heap_.end());
    } else if (top_ > 0 && hit < heap_.front()) {
      std::pop_heap(heap_.begin(), heap_.end());
      heap_.back() = hit;
      std::push_heap(heap_.begin(), heap_.end());
    }
  }
}

std::vector<Hit> NearestRows::hits() const {
  std::vector<Hit> sorted = heap_;
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

}  // namespace muster::phases
