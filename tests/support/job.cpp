// SPDX-License-Identifier: Apache-2.0
#include "support/job.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "muster/core/clock.h"
#include "muster/core/env.h"

namespace muster::test {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(5);

std::string required(const char* name) {
  const auto value = core::env(name);
  if (!value) throw std::runtime_error(std::string(name) + " is not set; start the tests with ctest");
  return *value;
}

int shell_code(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Job::Job(const Command& command, const Environment& environment, const std::string& directory)
    : start_(core::monotonic_seconds()) {
  char name[] = "/tmp/muster_job_XXXXXX";
  const int fd = ::mkstemp(name);
  if (fd < 0) throw std::runtime_error("cannot create a file in /tmp");
  output_path_ = name;
  pid_ = ::fork();
  if (pid_ == 0) {
    ::setpgid(0, 0);
    ::dup2(fd, STDOUT_FILENO);
    ::dup2(fd, STDERR_FILENO);
    ::close(fd);
    const int null = ::open("/dev/null", O_RDONLY);
    ::dup2(null, STDIN_FILENO);
    for (const auto& [key, value] : environment) ::setenv(key.c_str(), value.c_str(), 1);
    if (!directory.empty() && ::chdir(directory.c_str()) != 0) ::_exit(126);
    std::vector<char*> arguments;
    for (const auto& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }
  ::close(fd);
}

Job::~Job() {
  if (pid_ > 0) {
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  ::unlink(output_path_.c_str());
}

void Job::signal(int number) const {
  ::kill(pid_, number);
}

std::string Job::output() const {
  return read_text(output_path_);
}

bool Job::running() const {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == 0;
}

bool Job::wait_for(const std::string& text, double seconds) const {
  const double deadline = core::monotonic_seconds() + seconds;
  for (;;) {
    if (output().find(text) != std::string::npos) return true;
    if (!running() || core::monotonic_seconds() > deadline) return output().find(text) != std::string::npos;
    std::this_thread::sleep_for(kPoll);
  }
}

Outcome Job::wait(double seconds) {
  Outcome outcome;
  int status = 0;
  while (::waitpid(pid_, &status, WNOHANG) == 0) {
    if (core::monotonic_seconds() - start_ > seconds) {
      outcome.timed_out = true;
      ::kill(-pid_, SIGKILL);
      ::waitpid(pid_, &status, 0);
      break;
    }
    std::this_thread::sleep_for(kPoll);
  }
  pid_ = -1;
  outcome.exit_code = shell_code(status);
  outcome.seconds = core::monotonic_seconds() - start_;
  outcome.output = output();
  return outcome;
}

std::vector<pid_t> Job::descendants(const std::string& name) const {
  // Parents are read from /proc; a few rounds find grandchildren whatever the order of the listing.
  std::set<pid_t> family{pid_};
  std::vector<pid_t> found;
  for (std::size_t before = 0; before != family.size();) {
    before = family.size();
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const pid_t pid = static_cast<pid_t>(std::atoi(entry.path().filename().c_str()));
      if (pid <= 0 || family.contains(pid)) continue;
      const std::string stat = read_text(entry.path().string() + "/stat");
      const auto open = stat.find('('), close = stat.rfind(')');
      if (close == std::string::npos || stat.size() < close + 4) continue;
      std::istringstream rest(stat.substr(close + 4));
      pid_t parent = 0;
      rest >> parent;
      if (!family.contains(parent)) continue;
      family.insert(pid);
      if (stat.substr(open + 1, close - open - 1) == name) found.push_back(pid);
    }
  }
  return found;
}

Outcome run(const Command& command, const Environment& environment, double seconds) {
  return Job(command, environment).wait(seconds);
}

Command mpirun(int ranks) {
  return {"mpirun", "-n", std::to_string(ranks), "--oversubscribe", "--bind-to", "none"};
}

std::string muster_program() {
  return required("MUSTER_PROGRAM");
}
std::string toy_program() {
  return required("MUSTER_TOY_PROGRAM");
}
std::string source_file(const std::string& name) {
  return required("MUSTER_SOURCE_DIR") + "/" + name;
}

Command operator+(Command a, const Command& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Scratch::Scratch() {
  char name[] = "/tmp/muster_test_XXXXXX";
  if (::mkdtemp(name) == nullptr) throw std::runtime_error("cannot create a folder in /tmp");
  path_ = name;
}

Scratch::~Scratch() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  if (!out.flush()) throw std::runtime_error("cannot write " + path);
}

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

bool exists(const std::string& path) {
  return std::filesystem::exists(path);
}

}  // namespace muster::test
