// SPDX-License-Identifier: Apache-2.0
#include "support/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "muster/core/clock.h"
#include "muster/core/shared_library.h"

namespace muster::test {
namespace {

template <class Condition>
bool wait_until(double seconds, const Condition& condition) {
  const double end = core::monotonic_seconds() + seconds;
  while (!condition()) {
    if (core::monotonic_seconds() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "muster_test_XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

ChildProcess::ChildProcess(const std::vector<std::string>& command,
                           const std::vector<std::string>& environment) {
  const std::string log = folder_.path() + "/output";
  std::vector<char*> arguments;
  for (const auto& part : command) arguments.push_back(const_cast<char*>(part.c_str()));
  arguments.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ < 0) throw std::runtime_error("fork failed");
  if (pid_ > 0) return;
  const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(fd, STDOUT_FILENO);
  ::dup2(fd, STDERR_FILENO);
  for (const auto& entry : environment) ::putenv(const_cast<char*>(entry.c_str()));
  ::execvp(arguments[0], arguments.data());
  ::_exit(127);
}

ChildProcess::~ChildProcess() {
  if (!running_) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void ChildProcess::signal(int number) const {
  ::kill(pid_, number);
}

int ChildProcess::wait(double seconds) {
  if (running_ && !wait_until(seconds, [this] { return ::waitpid(pid_, &status_, WNOHANG) == pid_; }))
    return -1;
  running_ = false;
  return WIFSIGNALED(status_) ? 128 + WTERMSIG(status_) : WEXITSTATUS(status_);
}

std::string ChildProcess::output() const {
  return text_of(folder_.path() + "/output");
}

bool wait_for_file(const std::string& path, double seconds) {
  return wait_until(seconds, [&] { return std::filesystem::exists(path); });
}

bool wait_until_gone(pid_t pid, double seconds) {
  return wait_until(seconds, [&] {
    const std::string stat = text_of(fmt::format("/proc/{}/stat", pid));
    const auto end_of_name = stat.rfind(") ");
    return end_of_name == std::string::npos || stat[end_of_name + 2] == 'Z';
  });
}

std::string beside_this_program(const std::string& name) {
  return (std::filesystem::path(core::program_path()).parent_path() / name).string();
}

}  // namespace muster::test
