// SPDX-License-Identifier: Apache-2.0
#include "training/layout.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "muster/core/checked.h"
#include "muster/core/digest.h"

namespace muster::training {
namespace {

constexpr std::int64_t kAlignment = 32;  // elements: a cache line in 16-bit types

std::int64_t round_up(std::int64_t value, std::int64_t unit) {
  return core::ceil_div(value, unit) * unit;
}

std::int64_t elements_of(const ParameterSpec& parameter) {
  return std::accumulate(parameter.shape.begin(), parameter.shape.end(), std::int64_t{1},
                         std::multiplies<>());
}

}  // namespace

Layout::Layout(std::span<const ParameterSpec> parameters, std::int64_t bucket_elements, int ranks)
    : places_(parameters.size()), ranks_(ranks) {
  for (std::size_t p = parameters.size(); p-- > 0;) {
    places_[p] = {elements_, elements_ + elements_of(parameters[p])};
    elements_ = round_up(places_[p].end, kAlignment);
  }
  bucket_elements_ = round_up(std::max<std::int64_t>(bucket_elements, 1), kBlock * ranks);
  buckets_ = std::max<std::int64_t>(1, core::ceil_div(elements_, bucket_elements_));
}

std::size_t Layout::parameter_at(std::int64_t place) const {
  // Places fall as numbers rise.
  const auto found = std::partition_point(places_.begin(), places_.end(),
                                          [place](const Range& range) { return range.begin > place; });
  return static_cast<std::size_t>(found - places_.begin());
}

Range Layout::bucket(std::size_t b) const {
  const std::int64_t begin = static_cast<std::int64_t>(b) * bucket_elements_;
  return {begin, begin + slice_elements(b) * ranks_};
}

std::int64_t Layout::slice_elements(std::size_t b) const {
  if (b + 1 < buckets()) return bucket_elements_ / ranks_;
  const std::int64_t rest = elements_ - static_cast<std::int64_t>(b) * bucket_elements_;
  return round_up(core::ceil_div<std::int64_t>(rest, ranks_), kBlock);
}

Range Layout::slice(std::size_t b, int rank) const {
  const std::int64_t begin = bucket(b).begin + slice_elements(b) * rank;
  return {begin, begin + slice_elements(b)};
}

std::int64_t Layout::own_begin(std::size_t b) const {
  return static_cast<std::int64_t>(b) * (bucket_elements_ / ranks_);
}

std::pair<std::size_t, std::size_t> Layout::buckets_of(std::size_t p) const {
  // A parameter without elements may lie behind the last bucket.
  const auto bucket_at = [this](std::int64_t place) {
    return static_cast<std::size_t>(std::min(place / bucket_elements_, buckets_ - 1));
  };
  const Range& place = places_[p];
  return {bucket_at(place.begin), bucket_at(std::max(place.begin, place.end - 1))};
}

std::string layout_digest(std::span<const ParameterSpec> parameters) {
  core::Sha256 digest;
  for (const auto& parameter : parameters) {
    digest.update(
        fmt::format("{}:{} [{}]\n", parameter.name.size(), parameter.name, fmt::join(parameter.shape, ",")));
  }
  return digest.finish_hex();
}

}  // namespace muster::training
