// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>
#include <vector>

namespace muster::comm {

/// How ranks are arranged: rank = ((data * pipeline_size + pipeline) * expert_size + expert) * tensor_size +
/// tensor, so that tensor groups lie on neighbouring ranks. A pure value: it answers who is in whose group
/// before any MPI call.
struct ParallelLayout {
  int data = 1;
  int pipeline = 1;
  int expert = 1;
  int tensor = 1;

  int size() const { return data * pipeline * expert * tensor; }
  /// ConfigError unless all sizes are positive and their product is `world_size`.
  void validate(int world_size) const;

  struct Coordinates {
    int data, pipeline, expert, tensor;
    bool operator==(const Coordinates&) const = default;
  };
  Coordinates coordinates(int rank) const;
  int rank(const Coordinates& at) const;
  enum class Axis { kData, kPipeline, kExpert, kTensor };
  /// The ranks that differ from `rank` along `axis` only, in order, `rank` included.
  std::vector<int> group(int rank, Axis axis) const;
  /// A number that is the same for exactly the members of a group: the colour for Communicator::split.
  int color(int rank, Axis axis) const;
};

}  // namespace muster::comm
