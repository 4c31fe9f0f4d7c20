// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <thread>

#include "muster/comm/environment.h"
#include "muster/comm/nccl.h"
#include "muster/core/clock.h"
#include "muster/core/env.h"
#include "muster/core/file.h"
#include "muster/core/strings.h"
#include "muster/diffusion/text_to_image.h"
#include "muster/models/text_classifier.h"
#include "muster/phases/commands.h"
#include "phases/version.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPipelineFile = "model_index.json";

void print_device() {
  const device::Device cpu;
  const auto memory = device::memory_info(cpu);
  fmt::print("devices\n  cpu      {}, {} hardware threads, {} memory ({} free), bf16 in hardware: {}\n",
             device::cpu_model(), std::thread::hardware_concurrency(),
             core::human_bytes(static_cast<double>(memory.total_bytes)),
             core::human_bytes(static_cast<double>(memory.free_bytes)),
             device::cpu_has_bf16() ? "yes" : "no");
  for (int gpu = 0; gpu < device::gpu_count(); ++gpu) {
    const device::Device device{device::Kind::kCuda, gpu};
    const auto gpu_memory = device::memory_info(device);
    fmt::print("  {:<8} {} memory ({} free)\n", device.name(),
               core::human_bytes(static_cast<double>(gpu_memory.total_bytes)),
               core::human_bytes(static_cast<double>(gpu_memory.free_bytes)));
  }
  if (device::gpu_count() == 0) fmt::print("  cuda     none\n");
}

void print_classifier(const std::string& folder) {
  const auto model = models::describe_text_classifier(folder);
  const auto& encoder = model.encoder;
  fmt::print("  {:<32} {}: {} layers x {}, {:.1f} M weights, {} classes, {} head, at most {} tokens\n",
             folder, encoder.architecture, encoder.layers, encoder.hidden,
             static_cast<double>(encoder.weight_count) / 1e6, model.class_names.size(), model.head,
             encoder.max_length);
}

void print_pipeline(const std::string& folder) {
  const auto pipeline = diffusion::describe_pipeline(folder);
  diffusion::PipelineConfig config;
  config.folder = folder;
  config.compute_type = models::ComputeType::kBf16;
  double bytes = 0;
  for (const auto& [part, size] : pipeline.memory(config, pipeline.default_width, pipeline.default_height, 1))
    bytes += part == "buffers" ? 0 : size;
  fmt::print("  {:<32} {}: pictures of {} x {}, sampler {}, weights of {} in 16 bits\n", folder,
             pipeline.kind, pipeline.default_width, pipeline.default_height, pipeline.sampler,
             core::human_bytes(bytes));
}

void print_model(const std::string& folder) {
  try {
    if (fs::exists(fs::path(folder) / kPipelineFile)) return print_pipeline(folder);
    if (models::is_text_classifier(folder)) return print_classifier(folder);
    const auto model = models::describe_text_encoder(folder);
    std::vector<std::string> pooling;
    for (const auto mode : model.pooling) pooling.push_back(models::pooling_name(mode));
    fmt::print(
        "  {:<32} {}: {} layers x {}, {:.1f} M weights, embeddings of {}, at most {} tokens, pooling {}{}\n",
        folder, model.architecture, model.layers, model.hidden, static_cast<double>(model.weight_count) / 1e6,
        model.dimensions, model.max_length, core::join(pooling, "+"), model.normalize ? ", normalized" : "");
  } catch (const core::Error& error) {
    fmt::print("  {:<32} not usable: {}\n", folder, error.what());
  }
}

bool looks_like_model(const fs::path& path) {
  return fs::exists(path / "config.json") || fs::exists(path / "modules.json") ||
         fs::exists(path / kPipelineFile);
}

void print_models(const std::string& folder) {
  if (!fs::is_directory(folder)) throw core::DataError(fmt::format("{} is not a folder", folder));
  fmt::print("models in {} (architectures: {})\n", folder,
             core::join(models::registered_text_encoders(), ", "));
  if (looks_like_model(folder)) return print_model(folder);
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (looks_like_model(entry.path())) found.push_back(entry.path().string());
  }
  std::sort(found.begin(), found.end());
  for (const auto& path : found) print_model(path);
  if (found.empty()) fmt::print("  none\n");
}

struct Check {
  std::string name;
  bool ok = true;
  std::string found;
  std::string remedy;
};

Check check_launcher() {
  const bool found = !comm::find_mpirun().empty();
  return {"mpirun", found, found ? comm::find_mpirun() : "not found",
          "install Open MPI (openmpi-bin) or load its module"};
}

Check check_cores() {
  const auto cores = comm::allowed_cores();
  const auto all = std::thread::hardware_concurrency();
  return {"core mask", cores >= all, fmt::format("{} of {} cores", cores, all),
          "start with mpirun --bind-to none (or srun --cpu-bind=none), or ask the scheduler for more cores"};
}

Check check_shared_memory() {
  struct statvfs info {};
  const bool known = ::statvfs("/dev/shm", &info) == 0;
  const double bytes = known ? static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize) : 0;
  return {"shared memory", bytes >= 64e6, fmt::format("{} free in /dev/shm", core::human_bytes(bytes)),
          "MPI moves messages through /dev/shm: give the container --shm-size=1g"};
}

Check check_fsync() {
  const std::string path = fmt::format("{}/.muster_fsync_{}", fs::current_path().string(), ::getpid());
  constexpr int kTimes = 10;
  const double begin = core::monotonic_seconds();
  try {
    const core::UniqueFd fd = core::create_for_writing(path);
    for (int i = 0; i < kTimes; ++i) {
      core::write_all(fd.get(), "0123456789abcdef", path);
      core::sync(fd.get(), path);
    }
  } catch (const core::Error& error) {
    return {"fsync", false, error.what(), "run it in a folder that you can write"};
  }
  const double each = (core::monotonic_seconds() - begin) / kTimes;
  ::unlink(path.c_str());
  return {"fsync", each < 0.1, fmt::format("{:.1f} ms here", each * 1e3),
          "results are committed once a second; put the output directory on a faster file system or raise "
          "run.commit_interval"};
}

Check check_bf16() {
  return {"bf16", device::cpu_has_bf16(), device::cpu_has_bf16() ? "in hardware" : "not in hardware",
          "run.dtype auto takes fp32 on this CPU; do not ask for bf16"};
}

Check check_gpu() {
  const bool node = fs::exists("/dev/nvidia0");
  const bool ok = !node || device::gpu_count() > 0;
  return {"GPUs", ok, node ? fmt::format("{} usable", device::gpu_count()) : "none in this machine",
          "a GPU is here but cannot be used: build with the cuda preset, so that libmuster_cuda.so lies "
          "beside muster"};
}

core::ExitCode run_doctor() {
  bool all_ok = true;
  fmt::print("doctor\n");
  for (const auto& check :
       {check_launcher(), check_cores(), check_shared_memory(), check_fsync(), check_bf16(), check_gpu()}) {
    all_ok &= check.ok;
    fmt::print("  {:<14} {:<5} {}{}\n", check.name, check.ok ? "ok" : "look", check.found,
               check.ok ? "" : " -> " + check.remedy);
  }
  if (const auto pmix = comm::pmix_hint(); !pmix.empty()) fmt::print("  {:<14} {}\n", "PMIx", pmix);
  return all_ok ? core::ExitCode::kDone : core::ExitCode::kUsage;
}

}  // namespace

std::string versions_text() {
  const auto* cuda = device::cuda_services();
  const std::string gpu = cuda != nullptr ? fmt::format("{}\n{}", cuda->versions(), comm::nccl_version())
                                          : "CUDA and NCCL: libmuster_cuda.so is not here";
  return fmt::format("muster {} ({})\nMPI {}\nLibTorch {}\n{}\nHDF5 {}\n", kVersion, kCommit,
                     comm::mpi_version(), models::torch_version(), gpu, io::hdf5_version());
}

core::ExitCode info_command(const std::vector<std::string>& folders, Doctor doctor) {
  fmt::print("{}", versions_text());
  print_device();
  for (const auto& folder : folders) print_models(folder);
  return doctor == Doctor::kYes ? run_doctor() : core::ExitCode::kDone;
}

}  // namespace muster::phases
