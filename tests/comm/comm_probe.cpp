// SPDX-License-Identifier: Apache-2.0
// A small MPI program that the process tests start, watch and kill.
//   comm_probe launch RANKS rank DEED [ARGUMENT]   starts itself under mpirun
//   comm_probe rank DEED [ARGUMENT]                is one of the ranks
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <thread>

#include "muster/comm/launch.h"
#include "muster/comm/session.h"
#include "muster/comm/watchdog.h"
#include "muster/core/log.h"

namespace muster::comm {
namespace {

[[noreturn]] void sleep_for_ever() {
  for (;;) ::sleep(1000);
}

/// Tells the test which process this is, once all ranks are there.
void report_ready(Session& session, const std::string& folder) {
  const std::string path = fmt::format("{}/rank{}", folder, session.place().rank);
  std::ofstream(path + ".tmp") << ::getpid() << "\n";
  std::rename((path + ".tmp").c_str(), path.c_str());
  session.world().barrier();
}

/// Works until a SIGUSR1 reaches any rank, then ends with 75 on all.
int drain(Session& session, const std::string& folder) {
  std::atomic<int> stop{0};
  const SignalThread signals([&](int signal) {
    if (signal == SIGUSR1) stop = 1;
  });
  report_ready(session, folder);
  while (session.world().all_reduce_value<std::int32_t>(stop, Op::kMax) == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return 75;
}

WatchdogConfig quick(const std::string& folder, double hang_seconds) {
  WatchdogConfig config;
  config.board_path = folder + "/beats";
  config.hang_seconds = hang_seconds;
  config.tick_seconds = 0.1;
  return config;
}

/// Rank 1 stops being useful while the others wait for it inside MPI.
int hang(Session& session, const std::string& deed, const std::string& folder) {
  Watchdog watchdog(session.place(), quick(folder, 1));
  watchdog.set_phase("encode");
  session.world().barrier();
  if (session.place().rank == 1) {
    watchdog.step("batch 17 (256 items)");
    std::this_thread::sleep_for(std::chrono::milliseconds(400));  // on the board before the end
    if (deed == "stop") ::raise(SIGSTOP);
    sleep_for_ever();
  }
  watchdog.waiting("gather");
  session.world().barrier();
  return 0;
}

/// All ranks wait, each for a message that nobody sends.
int deadlock(Session& session, const std::string& folder) {
  Watchdog watchdog(session.place(), quick(folder, 1));
  watchdog.set_phase("publish");
  watchdog.waiting("scatter");
  std::uint8_t byte = 0;
  session.world().receive(Buffer(std::span(&byte, 1)), (session.place().rank + 1) % session.place().size, 3);
  return 0;
}

/// Rank 1 works in short steps for longer than the others' limit: nobody hangs.
int slow(Session& session, const std::string& folder) {
  Watchdog watchdog(session.place(), quick(folder, 1));
  session.world().barrier();
  if (session.place().rank == 1) {
    for (int i = 0; i < 12; ++i) {
      watchdog.step(fmt::format("batch {}", i));
      std::this_thread::sleep_for(std::chrono::milliseconds(250));
    }
  }
  watchdog.waiting("gather");
  session.world().barrier();
  return 0;
}

int run_rank(const std::string& deed, const std::string& argument, int argc, char** argv) {
  block_signals();
  Session session(&argc, &argv);
  core::log::set_label(rank_label(session.place()));
  const bool is_first = session.place().rank == 0;
  if (deed == "exit") return std::stoi(argument);
  if (deed == "abort" && is_first) Session::abort(std::stoi(argument));
  if (deed == "die" && is_first) ::raise(SIGKILL);
  if (deed == "drain") return drain(session, argument);
  if (deed == "sleep") report_ready(session, argument);
  if (deed == "hang" || deed == "stop") return hang(session, deed, argument);
  if (deed == "deadlock") return deadlock(session, argument);
  if (deed == "slow") return slow(session, argument);
  sleep_for_ever();
}

int run(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() > 2 && arguments[0] == "launch") {
    block_signals();
    return launch_self(std::stoi(arguments[1]), {arguments.begin() + 2, arguments.end()});
  }
  if (arguments.size() > 1 && arguments[0] == "rank") {
    return run_rank(arguments[1], arguments.size() > 2 ? arguments[2] : "", argc, argv);
  }
  return 2;
}

}  // namespace
}  // namespace muster::comm

int main(int argc, char** argv) {
  try {
    return muster::comm::run(argc, argv);
  } catch (const std::exception& error) {
    muster::core::log::error("{}", error.what());
    return static_cast<int>(muster::core::exit_code_of(error));
  }
}
