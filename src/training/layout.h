// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "muster/training/trainer.h"

namespace muster::training {

/// Weights lie in blocks of this many elements: sums of squares are taken by block, and slices of ranks are
/// whole blocks, so that the gradient's norm does not depend on who owns what.
constexpr std::int64_t kBlock = 4096;

/// A half-open range of elements of the flat layout.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t count() const { return end - begin; }
};

/// All parameters as one flat array: the last one first, because backward finishes it first; each begins at a
/// multiple of 32 elements, zeros between. The array is cut into buckets of equal length wherever that falls,
/// and each bucket into one slice a rank. What lies where does not depend on ranks or buckets; only the tail
/// of zeros does, which fills up the last bucket's slices.
class Layout {
 public:
  Layout(std::span<const ParameterSpec> parameters, std::int64_t bucket_elements, int ranks);

  std::size_t parameters() const { return places_.size(); }
  Range parameter(std::size_t p) const { return places_[p]; }
  /// The parameter at a place of the layout, or the one before it when the place is padding.
  std::size_t parameter_at(std::int64_t place) const;
  std::int64_t elements() const { return elements_; }  ///< without the tail
  std::int64_t padded_elements() const { return bucket(buckets() - 1).end; }

  std::size_t buckets() const { return static_cast<std::size_t>(buckets_); }
  Range bucket(std::size_t b) const;
  std::int64_t slice_elements(std::size_t b) const;  ///< of each rank
  Range slice(std::size_t b, int rank) const;
  /// The slices of a rank, one bucket after another, make its own flat array.
  std::int64_t own_begin(std::size_t b) const;
  std::int64_t own_elements() const { return own_begin(buckets() - 1) + slice_elements(buckets() - 1); }
  /// Buckets that hold a part of a parameter.
  std::pair<std::size_t, std::size_t> buckets_of(std::size_t p) const;  ///< first and last

 private:
  std::vector<Range> places_;
  std::int64_t elements_ = 0;
  std::int64_t bucket_elements_ = 0;
  std::int64_t buckets_ = 0;
  int ranks_ = 1;
};

/// Of the parameters' names, shapes and order: equal digests share checkpoint files.
std::string layout_digest(std::span<const ParameterSpec> parameters);

}  // namespace muster::training
