// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>

#include "io/run_lock.h"
#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "support.h"

namespace muster::io::test {
namespace {

using testing::HasSubstr;

int no_flock(int, int) {
  errno = ENOLCK;
  return -1;
}

class Pipe {
 public:
  Pipe() {
    if (::pipe(ends_.data()) != 0) throw std::runtime_error("pipe");
  }
  ~Pipe() {
    close_reader();
    close_writer();
  }
  /// Blocks until every writer is closed.
  void wait() {
    close_writer();
    char byte = 0;
    while (::read(ends_[0], &byte, 1) > 0) {
    }
  }
  void close_writer() { close_end(1); }
  void close_reader() { close_end(0); }
  void say() { EXPECT_EQ(::write(ends_[1], "x", 1), 1); }
  void hear() {
    char byte = 0;
    EXPECT_EQ(::read(ends_[0], &byte, 1), 1);
  }

 private:
  void close_end(std::size_t end) {
    if (ends_[end] >= 0) ::close(std::exchange(ends_[end], -1));
  }
  std::array<int, 2> ends_{};
};

struct Race {
  int winners = 0, losers = 0, others = 0;
  double slowest_loser = 0;
};

/// Starts the two at the same instant; the winner holds on until the other one is gone.
Race race(const std::function<void(const std::function<void()>& hold)>& job) {
  Pipe start, stop;
  const auto body = [&] {
    start.wait();
    job([&] { stop.wait(); });
    return 0;
  };
  const std::array<pid_t, 2> pids = {start_child(body), start_child(body)};
  start.close_writer();
  const double begin = core::monotonic_seconds();
  Race result;
  for (int i = 0; i < 2; ++i) {
    int status = 0;
    pid_t pid = 0;
    while (pid != pids[0] && pid != pids[1]) pid = ::wait(&status);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    result.winners += code == 0;
    result.losers += code == 7;
    result.others += code != 0 && code != 7;
    if (code == 7) result.slowest_loser = std::max(result.slowest_loser, core::monotonic_seconds() - begin);
    stop.close_writer();
  }
  return result;
}

/// `pairs` races, some at a time because a loser mostly waits.
Race many_races(
    int pairs, const std::function<void(const std::string& folder, const std::function<void()>& hold)>& job) {
  constexpr int kAtOnce = 20;
  Race total;
  for (int done = 0; done < pairs; done += kAtOnce) {
    std::vector<std::pair<pid_t, std::unique_ptr<TempFolder>>> running;
    for (int i = done; i < std::min(pairs, done + kAtOnce); ++i) {
      auto folder = std::make_unique<TempFolder>();
      const auto path = folder->path();
      const pid_t pid = start_child([&] {
        const auto result = race([&](const std::function<void()>& hold) { job(path, hold); });
        write_text(path + "/slowest", fmt::format("{}", result.slowest_loser));
        return result.winners == 1 && result.losers == 1 && result.others == 0 ? 0 : 1;
      });
      running.emplace_back(pid, std::move(folder));
    }
    for (auto& [pid, folder] : running) {
      (wait_for(pid) == 0 ? total.winners : total.others) += 1;
      total.slowest_loser =
          std::max(total.slowest_loser, std::stod("0" + read_text(folder->file("slowest"))));
    }
  }
  return total;
}

TEST(RunDirectoryLock, OfTwoRacingJobsOneWins) {
  constexpr int kPairs = 100;
  const auto result = many_races(kPairs, [](const std::string& folder, const std::function<void()>& hold) {
    auto world = one_rank();
    const RunDirectory directory({.path = folder + "/out", .command = "race"}, world);
    hold();
  });
  EXPECT_EQ(result.winners, kPairs);
  EXPECT_EQ(result.others, 0);
  EXPECT_LT(result.slowest_loser, 2.0);
  fmt::print("slowest loser after {:.2f} s\n", result.slowest_loser);
}

TEST(RunDirectoryLock, OfTwoRacingJobsOneWinsWithoutFlock) {
  constexpr int kPairs = 40;
  const auto result = many_races(kPairs, [](const std::string& folder, const std::function<void()>& hold) {
    // Every second race starts with the token of a dead process, which both want to replace.
    if (::getppid() % 2 == 0) {
      auto dead = Owner::myself("dead");
      dead.process_start -= 1;
      const core::UniqueFd once(::open((folder + "/token").c_str(), O_WRONLY | O_CREAT | O_EXCL, 0644));
      if (once) core::write_all(once.get(), dead.to_json(), folder);
    }
    const OwnerLock lock({.folder = folder, .owner = Owner::myself("race"), .flock = no_flock});
    hold();
  });
  EXPECT_EQ(result.winners, kPairs);
  EXPECT_EQ(result.others, 0);
  EXPECT_LT(result.slowest_loser, 2.0);
}

TEST(RunDirectoryLock, LoserNamesTheOwner) {
  const TempFolder folder;
  auto world = one_rank();
  const RunDirectory winner({.path = folder.file("out"), .command = "first"}, world);
  const double start = core::monotonic_seconds();
  try {
    const RunDirectory loser({.path = folder.file("out"), .command = "second"}, world);
    FAIL() << "two jobs on one directory";
  } catch (const core::OutputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("pid " + std::to_string(::getpid())));
    EXPECT_THAT(error.what(), HasSubstr("host " + Owner::myself("").host));
    EXPECT_THAT(error.what(), HasSubstr("started 20"));
    EXPECT_EQ(error.code(), core::ExitCode::kOutput);
  }
  EXPECT_LT(core::monotonic_seconds() - start, 2.0);
  EXPECT_THAT(read_text(folder.file("out/.run/owner.json")), HasSubstr("first"));
}

TEST(RunDirectoryLock, KilledHolderLeavesNoLock) {
  const TempFolder folder;
  for (const auto flock_function : std::array<FlockFunction, 2>{&::flock, &no_flock}) {
    const RunLockConfig config{
        .folder = folder.path(), .owner = Owner::myself("next"), .flock = flock_function};
    Pipe held;
    const pid_t holder = start_child([&] {
      auto mine = config;
      mine.owner = Owner::myself("killed");
      const OwnerLock lock(mine);
      held.say();
      ::pause();
      return 0;
    });
    held.hear();
    EXPECT_THROW(OwnerLock{config}, core::OutputError);
    ::kill(holder, SIGKILL);
    EXPECT_EQ(wait_for(holder), 128 + SIGKILL);
    EXPECT_NO_THROW(OwnerLock{config});
  }
}

TEST(RunDirectoryLock, SurvivingRanksOfADeadJobBlockTheNext) {
  const TempFolder folder;
  const RunLockConfig config{
      .folder = folder.path(), .owner = Owner::myself("next"), .survivor_patience = 0.2};
  write_text(folder.file("ranks.lock"), "");
  Pipe ready;
  const pid_t survivor = start_child([&] {
    const MemberLock lock(config);
    ready.say();
    ::pause();
    return 0;
  });
  ready.hear();
  try {
    const OwnerLock next(config);
    FAIL() << "a rank of the earlier job still lives";
  } catch (const core::OutputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("ranks of an earlier job"));
  }
  ::kill(survivor, SIGKILL);
  wait_for(survivor);
  EXPECT_NO_THROW(OwnerLock{config});
}

TEST(RunDirectoryLock, WaitsForRanksThatAreJustEnding) {
  const TempFolder folder;
  const RunLockConfig config{.folder = folder.path(), .owner = Owner::myself("next")};
  Pipe ready;
  write_text(folder.file("ranks.lock"), "");
  const pid_t survivor = start_child([&] {
    const MemberLock lock(config);
    ready.say();
    ::usleep(1'500'000);
    return 0;
  });
  ready.hear();
  const double start = core::monotonic_seconds();
  EXPECT_NO_THROW(OwnerLock{config});
  EXPECT_GT(core::monotonic_seconds() - start, 1.0);
  wait_for(survivor);
}

TEST(RunDirectoryLock, TokenOfAnotherHostIsNotTouched) {
  const TempFolder folder;
  auto other = Owner::myself("elsewhere");
  other.host = "another-host";
  write_text(folder.file("token"), other.to_json());
  const RunLockConfig config{
      .folder = folder.path(), .owner = Owner::myself("here"), .owner_patience = 0.1, .flock = no_flock};
  try {
    const OwnerLock lock(config);
    FAIL() << "the other host's job may be alive";
  } catch (const core::OutputError& error) {
    EXPECT_THAT(error.what(), HasSubstr("another-host"));
    EXPECT_THAT(error.what(), HasSubstr("remove that file"));
  }
  EXPECT_EQ(read_text(folder.file("token")), other.to_json());
}

TEST(RunDirectoryLock, OwnerSurvivesJson) {
  auto owner = Owner::myself("muster encode \"a b\" \xff\n");
  const auto back = Owner::from_json(owner.to_json());
  EXPECT_EQ(back.description(), owner.description());
  EXPECT_EQ(back.command, "muster encode \"a b\" \xEF\xBF\xBD\n");
  EXPECT_EQ(liveness(back), Liveness::kAlive);
  owner.boot_id = "another boot";
  EXPECT_EQ(liveness(owner), Liveness::kDead);
  for (const char* damaged : {"", "{", "[]", "{\"host\": 3}", "nonsense"})
    EXPECT_EQ(Owner::from_json(damaged).host, "") << damaged;
}

TEST(RunDirectoryLock, LinksAreNotFollowed) {
  const TempFolder folder;
  std::filesystem::create_directories(folder.file("elsewhere"));
  std::filesystem::create_directories(folder.file("out"));
  std::filesystem::create_directory_symlink(folder.file("elsewhere"), folder.file("out/.run"));
  auto world = one_rank();
  EXPECT_THROW(RunDirectory({.path = folder.file("out")}, world), core::OutputError);
  EXPECT_TRUE(std::filesystem::is_empty(folder.file("elsewhere")));
  std::filesystem::remove(folder.file("out/.run"));
  std::filesystem::create_directories(folder.file("out/.run"));
  std::filesystem::create_symlink(folder.file("precious"), folder.file("out/.run/lock"));
  EXPECT_THROW(RunDirectory({.path = folder.file("out")}, world), core::OutputError);
  EXPECT_FALSE(std::filesystem::exists(folder.file("precious")));
}

TEST(ReadOnly, IsFoundAtOnce) {
  const TempFolder folder;
  std::filesystem::create_directories(folder.file("out/.run"));
  const auto mount = Mount::read_only(folder.path());
  if (!mount.mounted()) GTEST_SKIP() << mount.reason();
  auto world = one_rank();
  for (const char* name : {"out", "new"}) {
    const double start = core::monotonic_seconds();
    try {
      const RunDirectory directory({.path = folder.file(name)}, world);
      FAIL() << "the file system is read-only";
    } catch (const core::OutputError& error) {
      EXPECT_THAT(error.what(), HasSubstr(folder.file(name)));
      EXPECT_THAT(error.what(), HasSubstr("Read-only file system"));
      EXPECT_THAT(error.what(), HasSubstr("choose a writable output directory"));
    }
    EXPECT_LT(core::monotonic_seconds() - start, 1.0);
  }
}

}  // namespace
}  // namespace muster::io::test
