// SPDX-License-Identifier: Apache-2.0
#include "muster/comm/launch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "comm/launch_environment.h"
#include "muster/core/env.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/shared_library.h"
#include "muster/core/strings.h"

namespace muster::comm {
namespace {

constexpr int kForwarded[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
constexpr int kSignalBase = 128;  // exit code of a process that a signal ended, as shells count

[[noreturn]] void throw_without_pmix(long tasks) {
  throw core::ConfigError(
      fmt::format("this srun step has {} tasks, but each of them would be a world of its own; start it with "
                  "'srun --mpi=pmix muster ...' "
                  "or with mpirun",
                  tasks));
}

long step_tasks() {
  return core::env_int("SLURM_STEP_NUM_TASKS").value_or(1);
}

/// The signals that the launcher waits for, blocked while it lives.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigemptyset(&set_);
    for (const int signal : kForwarded) sigaddset(&set_, signal);
    sigaddset(&set_, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &set_, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

  int wait() const {
    for (;;) {
      if (const int signal = sigwaitinfo(&set_, nullptr); signal > 0) return signal;
    }
  }

 private:
  sigset_t set_{}, before_{};
};

/// In the child, between fork and exec: async-signal-safe calls only. Tells errno through `report` when exec
/// fails.
[[noreturn]] void become(char* const* arguments, pid_t parent, int report) {
  // A group of its own: a signal to the launcher's group (Ctrl-C) reaches mpirun once, through the launcher.
  // mpirun gives up on its ranks at the second.
  ::setpgid(0, 0);
  // When the launcher is killed, the job ends too.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);
  struct sigaction fallback {};
  fallback.sa_handler = SIG_DFL;
  ::sigaction(SIGPIPE, &fallback, nullptr);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execvp(arguments[0], arguments);
  const int error = errno;
  [[maybe_unused]] const auto ignored = ::write(report, &error, sizeof error);
  ::_exit(127);
}

[[noreturn]] void throw_start_failure(const std::string& program, int error) {
  if (error == ENOENT) {
    throw core::ConfigError(
        fmt::format("'{}' was not found in PATH, and more than one rank needs it; install Open MPI (Debian: "
                    "apt-get install "
                    "openmpi-bin) or run with one rank (-n 1)",
                    program));
  }
  throw core::CommError(fmt::format("cannot start {}: {}", program, core::errno_text(error)));
}

pid_t start(const std::vector<std::string>& command) {
  std::vector<char*> arguments;
  for (const auto& part : command) arguments.push_back(const_cast<char*>(part.c_str()));
  arguments.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw core::CommError("cannot make a pipe: " + core::errno_text(errno));
  const core::UniqueFd reader(ends[0]);
  core::UniqueFd writer(ends[1]);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) throw core::CommError("cannot fork: " + core::errno_text(errno));
  if (child == 0) become(arguments.data(), parent, writer.get());
  ::setpgid(child, child);  // also here: whichever runs first; after exec it fails and is done
  writer.close();
  int error = 0;
  ssize_t got = 0;
  do {
    got = ::read(reader.get(), &error, sizeof error);
  } while (got < 0 && errno == EINTR);
  if (got == sizeof error) {
    ::waitpid(child, nullptr, 0);
    throw_start_failure(command.front(), error);
  }
  return child;
}

struct Ending {
  int status = 0;
  int forwarded = 0;  ///< the last SIGINT or SIGTERM that was passed on
};

Ending wait_and_forward(pid_t child, const BlockedSignals& signals) {
  Ending ending;
  for (;;) {
    const int signal = signals.wait();
    if (signal != SIGCHLD) {
      if (signal == SIGINT || signal == SIGTERM) ending.forwarded = signal;
      ::kill(child, signal);
    } else if (::waitpid(child, &ending.status, WNOHANG) == child) {
      return ending;
    }
  }
}

int exit_code(const Ending& ending) {
  const int code =
      WIFSIGNALED(ending.status) ? kSignalBase + WTERMSIG(ending.status) : WEXITSTATUS(ending.status);
  // After a SIGINT or SIGTERM mpirun returns 1, whatever its ranks return.
  if (ending.forwarded != 0 && code != 0) return kSignalBase + ending.forwarded;
  if (code > kSignalBase && code <= kSignalBase + SIGRTMAX) {
    core::log::error("a rank was ended by signal {} ({}); run the same command again to finish",
                     code - kSignalBase, ::strsignal(code - kSignalBase));
  }
  return code;
}

}  // namespace

Launch detect_launch() {
  if (core::env("OMPI_COMM_WORLD_SIZE") || core::env("PMIX_RANK") || core::env("PMI_RANK"))
    return Launch::kUnderMpi;
  if (const long tasks = step_tasks(); tasks > 1) throw_without_pmix(tasks);
  return Launch::kAlone;
}

void require_one_world(int world_size) {
  // Under mpirun the variable speaks of the daemons' step, not of ours.
  if (world_size > 1 || core::env("OMPI_COMM_WORLD_SIZE")) return;
  if (const long tasks = step_tasks(); tasks > 1) throw_without_pmix(tasks);
}

std::vector<std::string> launch_command(int ranks, const std::vector<std::string>& arguments) {
  // Not bound: the session divides the cores itself. Oversubscribed: slots are counted by hardware cores, and
  // a small machine may still run several ranks. Quiet: the ranks say themselves what went wrong.
  std::vector<std::string> command = {"mpirun",          "-n", std::to_string(ranks), "--bind-to", "none",
                                      "--oversubscribe", "-q"};
  command.push_back(core::program_path());
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

int launch_self(int ranks, const std::vector<std::string>& arguments) {
  const auto command = launch_command(ranks, arguments);
  if (::geteuid() == 0) {
    // mpirun refuses root without both; who started muster as root has decided that already.
    core::set_env("OMPI_ALLOW_RUN_AS_ROOT", "1", /*overwrite=*/false);
    core::set_env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", /*overwrite=*/false);
  }
  core::log::info("starting {} rank{}: {}", ranks, ranks == 1 ? "" : "s", core::join(command, " "));
  const BlockedSignals signals;
  const pid_t child = start(command);
  return exit_code(wait_and_forward(child, signals));
}

}  // namespace muster::comm
