// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "muster/phases/commands.h"
#include "muster/phases/item_job.h"
#include "phases/runner/plan_report.h"
#include "phases/runner/survey.h"

namespace muster::phases {

std::string plan_text(const PhaseInfo& phase, const config::Config& config, int ranks) {
  if (phase.pipeline) return phase.pipeline.plan(config, ranks);
  config::Config resolved = config;
  // A plan may be made for a cluster from a laptop: a GPU that is asked for need not be here. Only GPUs
  // compute in fp16.
  device::Device device;
  if (resolved.string("run.device") == "cuda" ||
      (resolved.is_auto("run.device") &&
       (device::gpu_count() > 0 || resolved.string("run.dtype") == "fp16"))) {
    device.kind = device::Kind::kCuda;
  }
  resolve_auto(resolved, device.kind, device::cpu_has_bf16() ? CpuBf16::kInHardware : CpuBf16::kEmulated);
  if (phase.create_step) {
    if (phase.resolve_once) {
      for (const auto& [key, value] : phase.resolve_once(resolved, ranks)) resolved.resolve(key, value);
    }
    const int workers =
        resolved.is_auto("run.workers") ? 1 : static_cast<int>(resolved.integer("run.workers"));
    return phase.create_step({resolved, device})->plan(ranks, workers).text;
  }
  const auto planned = phase.create({resolved, device});
  return plan_report(phase, resolved, *planned, input_of(resolved), ranks).text;
}

core::ExitCode plan_command(const PhaseInfo& phase, const config::Config& config, int ranks) {
  fmt::print("{}", plan_text(phase, config, ranks));
  return core::ExitCode::kDone;
}

}  // namespace muster::phases
