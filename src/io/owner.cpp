// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <sstream>

#include "io/json_text.h"
#include "io/run_lock.h"
#include "muster/core/clock.h"
#include "muster/core/env.h"
#include "muster/core/error.h"
#include "muster/formats/json.h"

namespace muster::io {
namespace {

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

std::string this_boot() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

/// Field 22 of /proc/PID/stat; 0 when there is no such process. The second field, the command's name in
/// parentheses, may hold anything, so counting starts behind its last parenthesis.
std::uint64_t process_start_ticks(std::int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  std::getline(file, line);
  const auto name_end = line.rfind(')');
  if (name_end == std::string::npos) return 0;
  std::istringstream fields(line.substr(name_end + 1));
  std::string field;
  for (int i = 3; i < 22; ++i) fields >> field;
  std::uint64_t start = 0;
  fields >> start;
  return start;
}

std::string batch_job_id() {
  for (const char* name : {"SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"}) {
    if (const auto id = core::env(name)) return *id;
  }
  return "none";
}

}  // namespace

Owner Owner::myself(const std::string& command) {
  Owner owner;
  owner.host = host_name();
  owner.boot_id = this_boot();
  owner.job = batch_job_id();
  owner.started = core::utc_now();
  owner.command = command;
  owner.pid = ::getpid();
  owner.process_start = process_start_ticks(owner.pid);
  return owner;
}

std::string Owner::to_json() const {
  return fmt::format(
      R"({{"host":{},"pid":{},"job":{},"started":{},"command":{},"boot_id":{},"process_start":{}}})"
      "\n",
      json_text(host), pid, json_text(job), json_text(started), json_text(command), json_text(boot_id),
      process_start);
}

Owner Owner::from_json(const std::string& text) {
  Owner owner;
  try {
    const auto json = formats::parse_json(text, "owner.json");
    owner.job = json.get_or<std::string>("job", "");
    owner.started = json.get_or<std::string>("started", "");
    owner.command = json.get_or<std::string>("command", "");
    owner.boot_id = json.get_or<std::string>("boot_id", "");
    owner.pid = json.get_or<std::int64_t>("pid", 0);
    owner.process_start = json.get_or<std::uint64_t>("process_start", 0);
    owner.host = json.get_or<std::string>("host", "");
  } catch (const core::DataError&) {
    return {};  // being written, or damaged: the caller says "unknown" instead
  }
  return owner;
}

std::string Owner::description() const {
  if (host.empty()) return "its owner.json says nothing yet";
  return fmt::format("host {}, pid {}, job {}, started {}", host, pid, job, started);
}

Liveness liveness(const Owner& owner) {
  if (owner.host != host_name() || owner.boot_id.empty()) return Liveness::kUnknown;
  if (owner.boot_id != this_boot()) return Liveness::kDead;
  return owner.pid > 0 && process_start_ticks(owner.pid) == owner.process_start ? Liveness::kAlive
                                                                                : Liveness::kDead;
}

}  // namespace muster::io
