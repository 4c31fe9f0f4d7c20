// SPDX-License-Identifier: Apache-2.0
#include "phases/sample/sample_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "muster/core/clock.h"
#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "phases/text_model/model_choice.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

// Of a group that shares the UNet: each step waits for the slowest and for the exchange.
constexpr double kSharedShare = 0.9;

/// What people report of SDXL in fp16 on a GPU, caches and workspaces of the libraries included.
struct UsualRange {
  const char* part;
  const char* range;
};
constexpr UsualRange kUsualSdxl[] = {
    {"text encoders", "2-3"}, {"UNet", "6-8"}, {"VAE", "1-2"}, {"adapters", "+1-2"}, {"buffers", "2-3"}};
constexpr const char* kUsualSdxlTotal = "12-18";

bool has_usual_ranges(const SampleOptions& options, const diffusion::PipelineDescription& description) {
  return description.kind == "StableDiffusionXLPipeline" &&
         options.pipeline.compute_type == models::ComputeType::kFp16;
}

std::string usual(const std::string& part) {
  for (const auto& [name, range] : kUsualSdxl) {
    if (part == name) return fmt::format(" (usual: {} GB)", range);
  }
  return "";
}

}  // namespace

Footprint sample_footprint(const SampleOptions& options, const diffusion::PipelineDescription& description,
                           std::uint64_t together) {
  Footprint footprint;
  const bool ranges = has_usual_ranges(options, description);
  double total = 0;
  for (const auto& [part, bytes] :
       description.memory(options.pipeline, options.usual.width, options.usual.height,
                          static_cast<std::uint32_t>(together))) {
    (part == "buffers" ? footprint.worker_bytes : footprint.weight_bytes) += bytes;
    total += bytes;
    footprint.details.emplace_back("memory: " + part, core::human_bytes(bytes) + (ranges ? usual(part) : ""));
  }
  footprint.details.emplace_back(
      "memory: in all",
      core::human_bytes(total) + (ranges ? fmt::format(" (usual: {} GB)", kUsualSdxlTotal) : ""));
  footprint.details.emplace_back(
      "usual picture", fmt::format("{} x {}, {} steps, {}, guidance {}: {:.2f} TFLOP", options.usual.width,
                                   options.usual.height, options.usual.steps, options.sampler_name,
                                   options.usual.guidance, description.flops(options.usual) / 1e12));
  footprint.flops_per_second = expected_rate(options.pipeline.device, options.pipeline.compute_type);
  if (options.parallel == Parallel::kUnet) footprint.flops_per_second *= options.unet_ranks * kSharedShare;
  return footprint;
}

std::string digest_path(const std::string& path) {
  if (!fs::is_directory(path)) return core::sha256_file(path);
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path)) {
    const auto extension = entry.path().extension();
    if (extension == ".safetensors" || extension == ".json")
      names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  if (names.empty()) throw core::DataError(fmt::format("{} holds no .safetensors file", path));
  core::Sha256 digest;
  for (const auto& name : names)
    digest.update(name + "\n" + core::sha256_file((fs::path(path) / name).string()) + "\n");
  return digest.finish_hex();
}

}  // namespace muster::phases
