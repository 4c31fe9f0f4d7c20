// SPDX-License-Identifier: Apache-2.0
#include "muster/phases/item_job.h"

namespace muster::phases {
namespace {

constexpr int kCpuBatchTokens =
    2048;  // eight canonical tiles: small enough for the caches, many enough to balance
constexpr int kCudaBatchTokens = 16384;

}  // namespace

void resolve_auto(config::Config& config, device::Kind kind, CpuBf16 bf16) {
  const bool cpu = kind == device::Kind::kCpu;
  if (config.is_auto("run.dtype")) {
    config.resolve("run.dtype", cpu ? (bf16 == CpuBf16::kInHardware ? "bf16" : "fp32") : "fp16");
  }
  if (config.is_auto("run.device")) config.resolve("run.device", cpu ? "cpu" : "cuda");
  if (config.schema().find("run.batch_tokens") != nullptr && config.is_auto("run.batch_tokens")) {
    config.resolve("run.batch_tokens", std::to_string(cpu ? kCpuBatchTokens : kCudaBatchTokens));
  }
  if (config.is_auto("run.backend")) config.resolve("run.backend", cpu ? "mpi" : "nccl");
}

}  // namespace muster::phases
