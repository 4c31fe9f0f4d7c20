// SPDX-License-Identifier: Apache-2.0
#include "muster/comm/parallel_layout.h"

#include <fmt/format.h>

#include "muster/core/error.h"

namespace muster::comm {
namespace {

using Axis = ParallelLayout::Axis;
using Coordinates = ParallelLayout::Coordinates;

int ParallelLayout::*size_of(Axis axis) {
  switch (axis) {
    case Axis::kData:
      return &ParallelLayout::data;
    case Axis::kPipeline:
      return &ParallelLayout::pipeline;
    case Axis::kExpert:
      return &ParallelLayout::expert;
    case Axis::kTensor:
      return &ParallelLayout::tensor;
  }
  throw core::InternalError("unknown axis");
}

int Coordinates::*coordinate_of(Axis axis) {
  switch (axis) {
    case Axis::kData:
      return &Coordinates::data;
    case Axis::kPipeline:
      return &Coordinates::pipeline;
    case Axis::kExpert:
      return &Coordinates::expert;
    case Axis::kTensor:
      return &Coordinates::tensor;
  }
  throw core::InternalError("unknown axis");
}

}  // namespace

void ParallelLayout::validate(int world_size) const {
  const std::string text =
      fmt::format("data {} x pipeline {} x expert {} x tensor {}", data, pipeline, expert, tensor);
  if (data < 1 || pipeline < 1 || expert < 1 || tensor < 1) {
    throw core::ConfigError(fmt::format("parallel layout {}: every size must be at least 1", text));
  }
  const long long product = 1LL * data * pipeline;
  // Two factors of 31 bits cannot overflow; a third could, so the rest is compared by division.
  const long long rest = 1LL * expert * tensor;
  if (product > world_size || rest > world_size || product * rest != world_size) {
    throw core::ConfigError(
        fmt::format("parallel layout {} does not make {} ranks; change -n or the sizes", text, world_size));
  }
}

Coordinates ParallelLayout::coordinates(int rank) const {
  core::internal_check(rank >= 0 && rank < size(), "a rank of the layout");
  Coordinates at{};
  at.tensor = rank % tensor;
  rank /= tensor;
  at.expert = rank % expert;
  rank /= expert;
  at.pipeline = rank % pipeline;
  at.data = rank / pipeline;
  return at;
}

int ParallelLayout::rank(const Coordinates& at) const {
  return ((at.data * pipeline + at.pipeline) * expert + at.expert) * tensor + at.tensor;
}

std::vector<int> ParallelLayout::group(int rank, Axis axis) const {
  Coordinates at = coordinates(rank);
  std::vector<int> members;
  for (int i = 0; i < this->*size_of(axis); ++i) {
    at.*coordinate_of(axis) = i;
    members.push_back(this->rank(at));
  }
  return members;
}

int ParallelLayout::color(int rank, Axis axis) const {
  // A group's first rank belongs to no other group of that axis.
  Coordinates at = coordinates(rank);
  at.*coordinate_of(axis) = 0;
  return this->rank(at);
}

}  // namespace muster::comm
