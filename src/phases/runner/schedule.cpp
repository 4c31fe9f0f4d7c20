// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/schedule.h"

#include <fmt/format.h>

#include "muster/core/error.h"

namespace muster::phases {
namespace {

DealtWindow deal_in_order(std::span<const std::uint32_t> lengths, const plan::CutConfig& cut,
                          std::span<double> loads) {
  DealtWindow window;
  window.deal.resize(loads.size());
  const auto blocks =
      plan::deal_ceil(static_cast<std::uint32_t>(lengths.size()), static_cast<int>(loads.size()));
  for (std::size_t rank = 0; rank < blocks.size(); ++rank) {
    for (auto& batch : plan::cut_in_order(lengths, blocks[rank].first, blocks[rank].count, cut)) {
      loads[rank] += batch.cost;
      window.deal[rank].push_back(static_cast<std::uint32_t>(window.batches.size()));
      window.batches.push_back(std::move(batch));
    }
  }
  return window;
}

}  // namespace

Schedule schedule_from_name(const std::string& name) {
  if (name == "balanced") return Schedule::kBalanced;
  if (name == "ceil") return Schedule::kCeil;
  if (name == "dynamic") return Schedule::kDynamic;
  throw core::ConfigError(fmt::format("run.schedule '{}' is not one of balanced, ceil, dynamic", name));
}

DealtWindow deal_window(std::span<const std::uint32_t> lengths, Schedule schedule, const plan::CutConfig& cut,
                        std::span<double> loads) {
  if (schedule == Schedule::kCeil) return deal_in_order(lengths, cut, loads);
  DealtWindow window;
  window.batches = plan::cut_window(lengths, cut);
  window.deal = schedule == Schedule::kDynamic ? plan::simulate_dynamic(window.batches, loads)
                                               : plan::deal_balanced(window.batches, loads);
  return window;
}

}  // namespace muster::phases
