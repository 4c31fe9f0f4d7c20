// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

namespace muster::test {

/// A temporary folder that goes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// A program in a child process, its stdout and stderr kept; killed with the object when it still runs.
class ChildProcess {
 public:
  /// `environment` holds NAME=value entries added to this process's own.
  explicit ChildProcess(const std::vector<std::string>& command,
                        const std::vector<std::string>& environment = {});
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  /// The exit code, 128+n for a signal, -1 when it still runs after `seconds`.
  int wait(double seconds);
  std::string output() const;

 private:
  TemporaryFolder folder_;
  pid_t pid_ = -1;
  bool running_ = true;
  int status_ = 0;
};

/// Waits until `path` exists; false after `seconds`.
bool wait_for_file(const std::string& path, double seconds);
/// Waits until no process has this id (a zombie counts as none); false after `seconds`.
bool wait_until_gone(pid_t pid, double seconds);
/// A file beside the running test program.
std::string beside_this_program(const std::string& name);

}  // namespace muster::test
