// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "muster/comm/communicator.h"
#include "muster/formats/segment.h"
#include "muster/io/run_directory.h"

namespace muster::io::test {

/// A folder that goes with the object.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// Something mounted for the life of the object; check `mounted()` and skip with `reason()`.
class Mount {
 public:
  static Mount tmpfs(const std::string& where, const std::string& options);
  static Mount read_only(const std::string& where);
  Mount(Mount&& other) noexcept;
  ~Mount();
  bool mounted() const { return reason_.empty(); }
  const std::string& reason() const { return reason_; }

 private:
  Mount() = default;
  std::string where_, reason_;
};

/// A world of one rank without MPI.
comm::Communicator one_rank();

/// Runs `body` in a forked child that ends with what it returns (an escaping exception: its exit code). Gives
/// the child's pid.
pid_t start_child(const std::function<int()>& body);
/// The exit code of a child, 128 + n when signal n ended it.
int wait_for(pid_t pid);

/// A test that needs a process of its own (planted faults, MPI) starts this program again with only itself
/// selected: the second instance sees a role. Empty in the first.
std::string role();
std::string role_folder();
struct Rerun {
  std::string role, folder;
  int ranks = 0;  ///< 0: no mpirun
  std::map<std::string, std::string> environment;
};
/// The exit code of the second instance. `seconds` limits it: past them it is killed and 124 returned.
int rerun_current_test(const Rerun& rerun, int seconds = 60);

/// What a second instance under mpirun does: `work` in the world of its ranks. Ends with its exit code; root
/// leaves the message of an error in the folder's `error`.
[[noreturn]] void play_role(const std::function<void(comm::Communicator&)>& work);

/// A record whose payload follows from its item, and the check.
formats::Record make_record(std::uint64_t item, std::size_t bytes = 40);
bool payload_is_right(std::uint64_t item, std::span<const std::byte> payload);

/// All records of a directory, last wins; a payload that is not make_record's gives a failing value of -1.
std::map<std::uint64_t, int> read_all(const RunDirectory& directory);

std::string read_text(const std::string& path);
void write_text(const std::string& path, const std::string& text);

}  // namespace muster::io::test
