// SPDX-License-Identifier: Apache-2.0
#include "support.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "muster/comm/session.h"
#include "muster/core/clock.h"
#include "muster/core/env.h"
#include "muster/core/error.h"
#include "muster/core/fault.h"
#include "muster/core/log.h"

extern char** environ;

namespace muster::io::test {
namespace {

class OneRank final : public comm::Backend {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string name() const override { return "alone"; }
  void barrier() override {}
  void broadcast(comm::Buffer, int) override {}
  void all_reduce(comm::Buffer, comm::Op, comm::Accumulate) override {}
  void all_gather(comm::ConstBuffer send, comm::Buffer receive) override { copy(send, receive); }
  void gatherv(comm::ConstBuffer send, comm::Buffer receive, std::span<const std::uint64_t>, int) override {
    copy(send, receive);
  }
  void scatterv(comm::ConstBuffer send, std::span<const std::uint64_t>, comm::Buffer receive, int) override {
    copy(send, receive);
  }
  void all_to_allv(comm::ConstBuffer send, std::span<const std::uint64_t>, comm::Buffer receive,
                   std::span<const std::uint64_t>) override {
    copy(send, receive);
  }
  void send(comm::ConstBuffer, int, int) override { throw core::InternalError("one rank has no peer"); }
  void receive(comm::Buffer, int, int) override { throw core::InternalError("one rank has no peer"); }
  std::optional<int> probe(int) override { return std::nullopt; }
  std::unique_ptr<comm::Backend> duplicate() override { return std::make_unique<OneRank>(); }
  std::unique_ptr<comm::Backend> split(int color, int) override { return color < 0 ? nullptr : duplicate(); }
  void abort(const std::string&) noexcept override {}

 private:
  static void copy(comm::ConstBuffer from, comm::Buffer to) {
    if (from.bytes() > 0) std::memcpy(to.data, from.data, from.bytes());
  }
};

/// Warnings are expected by the hundred: damage is what these tests are about.
class QuietLog final : public testing::Environment {
 public:
  void SetUp() override { core::log::set_console_level(core::log::Level::kError); }
};
const auto* const kQuietLog = testing::AddGlobalTestEnvironment(new QuietLog);

void mount_or_reason(const char* source, const std::string& where, const char* type, unsigned long flags,
                     const char* options, std::string& reason) {
  if (::mount(source, where.c_str(), type, flags, options) != 0) {
    reason = fmt::format("mounting {} needs root: {}", where, core::errno_text(errno));
  }
}

}  // namespace

TempFolder::TempFolder() : path_(std::filesystem::temp_directory_path() / "muster_io_XXXXXX") {
  if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("mkdtemp");
}
TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Mount Mount::tmpfs(const std::string& where, const std::string& options) {
  Mount mount;
  std::filesystem::create_directories(where);
  mount_or_reason("tmpfs", where, "tmpfs", 0, options.c_str(), mount.reason_);
  if (mount.mounted()) mount.where_ = where;
  return mount;
}

Mount Mount::read_only(const std::string& where) {
  Mount mount;
  std::filesystem::create_directories(where);
  mount_or_reason(where.c_str(), where, nullptr, MS_BIND, nullptr, mount.reason_);
  if (!mount.mounted()) return mount;
  mount.where_ = where;
  mount_or_reason(nullptr, where, nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr, mount.reason_);
  return mount;
}

Mount::Mount(Mount&& other) noexcept : where_(std::exchange(other.where_, "")), reason_(other.reason_) {}
Mount::~Mount() {
  if (!where_.empty()) ::umount2(where_.c_str(), MNT_DETACH);
}

comm::Communicator one_rank() {
  return comm::Communicator(std::make_unique<OneRank>());
}

pid_t start_child(const std::function<int()>& body) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  int code = 1;
  try {
    code = body();
  } catch (const std::exception& error) {
    code = static_cast<int>(core::exit_code_of(error));
  }
  ::_exit(code);
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

std::string role() {
  return core::env("MUSTER_TEST_ROLE").value_or("");
}
std::string role_folder() {
  return core::env("MUSTER_TEST_FOLDER").value_or("");
}

void play_role(const std::function<void(comm::Communicator&)>& work) {
  int code = 0;
  {
    int argc = 0;
    char** argv = nullptr;
    comm::Session session(&argc, &argv);
    core::set_fault_rank(session.place().rank);
    try {
      work(session.world());
    } catch (const std::exception& error) {
      code = static_cast<int>(core::exit_code_of(error));
      if (session.world().is_root()) write_text(role_folder() + "/error", error.what());
    }
  }
  ::_exit(code);
}

int rerun_current_test(const Rerun& rerun, int seconds) {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  std::vector<std::string> words;
  if (rerun.ranks > 0)
    words = {"mpirun", "-n", std::to_string(rerun.ranks), "--oversubscribe", "--bind-to", "none", "-q"};
  words.push_back(std::filesystem::read_symlink("/proc/self/exe").string());
  words.push_back(fmt::format("--gtest_filter={}.{}", info->test_suite_name(), info->name()));
  std::map<std::string, std::string> extra = rerun.environment;
  extra.insert({{"MUSTER_TEST_ROLE", rerun.role},
                {"MUSTER_TEST_FOLDER", rerun.folder},
                {"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}});
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
  for (const auto& [name, value] : extra) environment.push_back(name + "=" + value);
  std::vector<char*> arguments, variables;
  for (auto& word : words) arguments.push_back(word.data());
  for (auto& variable : environment) variables.push_back(variable.data());
  arguments.push_back(nullptr);
  variables.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), variables.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0)
    throw std::runtime_error(fmt::format("cannot start {}: {}", words[0], core::errno_text(error)));
  const double end = core::monotonic_seconds() + seconds;
  int status = 0;
  while (::waitpid(pid, &status, WNOHANG) == 0) {
    if (core::monotonic_seconds() > end) {
      ::kill(pid, SIGKILL);
      wait_for(pid);
      return 124;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

formats::Record make_record(std::uint64_t item, std::size_t bytes) {
  formats::Record record{.item = item};
  record.payload.resize(bytes);
  for (std::size_t i = 0; i < bytes; ++i)
    record.payload[i] = static_cast<std::byte>((item * 131 + i * 7) & 0xff);
  return record;
}

bool payload_is_right(std::uint64_t item, std::span<const std::byte> payload) {
  const auto expected = make_record(item, payload.size()).payload;
  return std::equal(payload.begin(), payload.end(), expected.begin());
}

std::map<std::uint64_t, int> read_all(const RunDirectory& directory) {
  std::map<std::uint64_t, int> found;
  directory.for_each_ref(directory.journal(), [&](const JournalEntry& entry, const formats::RecordRef& ref) {
    const bool right = payload_is_right(ref.item, directory.payload(entry.segment, ref));
    found[ref.item] += right ? 1 : -1000;
  });
  return found;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace muster::io::test
