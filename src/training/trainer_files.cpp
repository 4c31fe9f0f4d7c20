// SPDX-License-Identifier: Apache-2.0
#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <filesystem>

#include "training/state_file.h"
#include "training/trainer_impl.h"

namespace muster::training {
namespace {

/// The bucket's slice of a rank without the tail behind the last weight.
Range stored_range(const Layout& layout, std::size_t bucket, int rank) {
  const Range slice = layout.slice(bucket, rank);
  return {std::min(slice.begin, layout.elements()), std::min(slice.end, layout.elements())};
}

template <class Impl>
StateHeader state_header(const Impl& t) {
  return {t.steps,
          t.scaler.state(),
          layout_digest(t.parameters),
          t.layout.elements(),
          t.world.size(),
          t.averages() ? Averages::kYes : Averages::kNo};
}

/// This rank's slices of a bucket, in the order of kStateArrays.
template <class Impl>
std::vector<at::Tensor> state_slices(const Impl& t, std::size_t bucket) {
  std::vector<at::Tensor> slices{t.masters(bucket), t.own_part(t.first_moment, bucket),
                                 t.own_part(t.second_moment, bucket)};
  if (t.averages()) slices.push_back(t.own_part(t.flat_averages, bucket));
  return slices;
}

}  // namespace

std::string Trainer::save(const std::string& folder) {
  const at::NoGradGuard no_graph;
  Impl& t = *impl_;
  core::internal_check(!t.in_step, "a state is saved between steps");
  const std::string name = state_file_name(t.world.rank());
  comm::collectively(t.world, [&] {
    core::make_directories(folder);
    std::vector<StatePart> parts;
    for (std::size_t b = 0; b < t.layout.buckets(); ++b) {
      const Range range = stored_range(t.layout, b, t.world.rank());
      if (range.count() == 0) continue;
      const auto stored = [&](const at::Tensor& slice) { return slice.narrow(0, 0, range.count()).cpu(); };
      StatePart part{range, {}};
      for (const at::Tensor& slice : state_slices(t, b)) part.values.push_back(stored(slice));
      parts.push_back(std::move(part));
    }
    const StateHeader header = state_header(t);
    write_state_file((std::filesystem::path(folder) / name).string(), header, parts);
    core::sync_directory(folder);
  });
  return name;
}

void Trainer::load(const std::string& folder) {
  const at::NoGradGuard no_graph;
  Impl& t = *impl_;
  core::internal_check(!t.in_step, "a state is loaded between steps");
  StateHeader header;
  comm::collectively(t.world, [&] {
    StateFiles files(folder, state_header(t));
    header = files.header();
    for (std::size_t b = 0; b < t.layout.buckets(); ++b) {
      const Range range = stored_range(t.layout, b, t.world.rank());
      if (range.count() == 0) continue;
      StatePart part{range, {}};
      const auto slices = state_slices(t, b);
      for (std::size_t a = 0; a < slices.size(); ++a)
        part.values.push_back(at::empty({range.count()}, c10::ScalarType::Float));
      files.read(part);
      for (std::size_t a = 0; a < slices.size(); ++a)
        slices[a].narrow(0, 0, range.count()).copy_(part.values[a]);
    }
  });
  t.steps = header.steps;
  t.scaler.restore(header.scaler);
  t.spread_masters();
}

}  // namespace muster::training
