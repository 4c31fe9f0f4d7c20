// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "muster/phases/commands.h"
#include "muster/phases/item_job.h"
#include "phases/runner/plan_report.h"
#include "phases/runner/survey.h"

namespace muster::phases {

core::ExitCode plan_command(const PhaseInfo& phase, const config::Config& config, int ranks) {
  config::Config resolved = config;
  // A plan may be made for a cluster from a laptop: a GPU that is asked for need not be here.
  device::Device device;
  if (resolved.string("run.device") == "cuda" ||
      (resolved.is_auto("run.device") && device::gpu_count() > 0)) {
    device.kind = device::Kind::kCuda;
  }
  resolve_auto(resolved, device.kind, device::cpu_has_bf16() ? CpuBf16::kInHardware : CpuBf16::kEmulated);
  const auto planned = phase.create({resolved, device});
  fmt::print("{}", plan_report(phase, resolved, *planned, input_of(resolved), ranks).text);
  return core::ExitCode::kDone;
}

}  // namespace muster::phases
