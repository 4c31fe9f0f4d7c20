// SPDX-License-Identifier: Apache-2.0
// Each test runs in a child process: masks and dispositions belong to the whole process.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include "muster/comm/watchdog.h"

namespace muster::comm {
namespace {

/// The exit code of `body` in a child process; 128+n for a signal.
template <class Body>
int in_child(const Body& body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

class Signals : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Each, Signals, testing::Values(SIGINT, SIGTERM, SIGUSR1, SIGUSR2));

TEST_P(Signals, AreTakenByTheThread) {
  const int wanted = GetParam();
  EXPECT_EQ(in_child([wanted] {
              block_signals();
              std::atomic<int> got{0};
              const SignalThread thread([&](int signal) { got = signal; });
              // Another thread is there to be hit, and must not be.
              std::thread other([&] {
                while (got == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
              });
              ::kill(::getpid(), wanted);
              other.join();
              return got == wanted ? 0 : 1;
            }),
            0);
}

TEST_P(Signals, BeforeTheThreadExistsAreKept) {
  const int wanted = GetParam();
  EXPECT_EQ(in_child([wanted] {
              block_signals();
              ::kill(::getpid(), wanted);
              std::atomic<int> got{0};
              const SignalThread thread([&](int signal) { got = signal; });
              for (int i = 0; i < 2000 && got == 0; ++i)
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
              return got == wanted ? 0 : 1;
            }),
            0);
}

TEST(SignalThreads, EndWithoutASignal) {
  EXPECT_EQ(in_child([] {
              block_signals();
              const SignalThread thread([](int) {});
              return 0;
            }),
            0);
}

TEST(SignalThreads, WritingToAClosedPipeIsAnErrorNotTheEnd) {
  EXPECT_EQ(in_child([] {
              block_signals();
              int ends[2];
              if (::pipe(ends) != 0) return 1;
              ::close(ends[0]);
              return ::write(ends[1], "x", 1) < 0 ? 0 : 1;
            }),
            0);
}

}  // namespace
}  // namespace muster::comm
