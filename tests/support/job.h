// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace muster::test {

using Command = std::vector<std::string>;
using Environment = std::map<std::string, std::string>;

/// How a command ended: `exit_code` as a shell says it (128 + n for a signal).
struct Outcome {
  int exit_code = -1;
  std::string output;  ///< stdout and stderr
  double seconds = 0;
  bool timed_out = false;
  bool contains(const std::string& text) const { return output.find(text) != std::string::npos; }
};

/// A command in a process group of its own, its output in a file. Killed with its whole group when it goes
/// out of scope.
class Job {
 public:
  explicit Job(const Command& command, const Environment& environment = {},
               const std::string& directory = "");
  ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  std::string output() const;
  /// Waits until the output holds `text`; false when the job ended first or `seconds` passed.
  bool wait_for(const std::string& text, double seconds) const;
  bool running() const;
  /// Waits for the end; kills the group after `seconds`.
  Outcome wait(double seconds = 120);
  /// Processes that descend from the job and are named `name`, youngest last.
  std::vector<pid_t> descendants(const std::string& name) const;

 private:
  pid_t pid_ = -1;
  std::string output_path_;
  double start_ = 0;
};

Outcome run(const Command& command, const Environment& environment = {}, double seconds = 120);

/// mpirun -n `ranks` --oversubscribe --bind-to none
Command mpirun(int ranks);
/// The program under test and its parts.
std::string muster_program();
std::string toy_program();
std::string source_file(const std::string& name);

Command operator+(Command a, const Command& b);

/// A folder that vanishes at the end of the test.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

void write_text(const std::string& path, const std::string& text);
std::string read_text(const std::string& path);
bool exists(const std::string& path);

}  // namespace muster::test
