// SPDX-License-Identifier: Apache-2.0
#include "muster/core/fault.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "muster/core/env.h"
#include "muster/core/error.h"
#include "muster/core/strings.h"

namespace muster::core {
namespace {

struct Fault {
  std::string point;
  int rank;  // -1: every rank
  long count;
  std::string action;
  std::atomic<long> seen{0};
};

std::atomic<int> fault_rank{0};

// Parsed at the first point that is passed; kept for the life of the process.
const std::vector<std::unique_ptr<Fault>>& faults() {
  static const auto* const parsed = [] {
    auto* list = new std::vector<std::unique_ptr<Fault>>;
    const auto text = env("MUSTER_FAULT");
    if (!text) return list;
    for (const auto& entry : split(*text, ',')) {
      const auto parts = split(entry, ':');
      if (parts.size() != 4)
        throw ConfigError(fmt::format("MUSTER_FAULT: '{}' is not point:rank:count:action", entry));
      auto fault = std::make_unique<Fault>();
      fault->point = parts[0];
      fault->rank = parts[1] == "*" ? -1 : std::stoi(parts[1]);
      fault->count = std::stol(parts[2]);
      fault->action = parts[3];
      list->push_back(std::move(fault));
    }
    return list;
  }();
  return *parsed;
}

bool act(const Fault& fault) {
  if (fault.action == "kill") {
    ::kill(::getpid(), SIGKILL);
    for (;;) ::pause();
  }
  if (fault.action == "stop") ::kill(::getpid(), SIGSTOP);
  if (fault.action == "throw") throw InternalError(fmt::format("planted fault at {}", fault.point));
  if (fault.action == "oom") throw std::bad_alloc();
  if (fault.action == "usr1") ::kill(::getpid(), SIGUSR1);
  if (fault.action == "hang") {
    for (;;) ::sleep(3600);
  }
  return fault.action == "eio";
}

}  // namespace

void set_fault_rank(int rank) {
  fault_rank = rank;
}

bool fault_point(std::string_view point) {
  const auto& list = faults();
  if (list.empty()) return false;
  bool fail_call = false;
  for (const auto& fault : list) {
    if (fault->point != point || (fault->rank >= 0 && fault->rank != fault_rank)) continue;
    if (++fault->seen == fault->count) fail_call |= act(*fault);
  }
  return fail_call;
}

}  // namespace muster::core
