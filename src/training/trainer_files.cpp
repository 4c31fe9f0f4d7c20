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
      parts.push_back({range,
                       {stored(t.masters(b)), stored(t.own_part(t.first_moment, b)),
                        stored(t.own_part(t.second_moment, b))}});
    }
    const StateHeader header{t.steps, t.scaler.state(), layout_digest(t.parameters), t.layout.elements(),
                             t.world.size()};
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
    StateFiles files(folder, layout_digest(t.parameters), t.layout.elements());
    header = files.header();
    for (std::size_t b = 0; b < t.layout.buckets(); ++b) {
      const Range range = stored_range(t.layout, b, t.world.rank());
      if (range.count() == 0) continue;
      StatePart part{range, {}};
      for (at::Tensor& values : part.values) values = at::empty({range.count()}, c10::ScalarType::Float);
      files.read(part);
      const auto restore = [&](const at::Tensor& slice, const at::Tensor& values) {
        slice.narrow(0, 0, range.count()).copy_(values);
      };
      restore(t.masters(b), part.values[0]);
      restore(t.own_part(t.first_moment, b), part.values[1]);
      restore(t.own_part(t.second_moment, b), part.values[2]);
    }
  });
  t.steps = header.steps;
  t.scaler.restore(header.scaler);
  t.spread_masters();
}

}  // namespace muster::training
