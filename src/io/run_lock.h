// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>

#include "muster/core/file.h"

namespace muster::io {

/// Who holds an output directory: the content of owner.json, and of the token where flock does not exist.
struct Owner {
  std::string host, boot_id, job, started, command;
  std::int64_t pid = 0;
  std::uint64_t process_start =
      0;  ///< in clock ticks since boot: tells a process from a later one with the same pid

  /// This process, now. `job` is the batch system's job id, or "none".
  static Owner myself(const std::string& command);
  std::string to_json() const;
  /// Fields that are missing stay empty; text that is no JSON object gives an owner without a host.
  static Owner from_json(const std::string& text);
  /// "host node7, pid 4711, job 12, started 2026-11-21T10:37:12.345Z"
  std::string description() const;
};

/// What can be known from here about whether a token's owner still runs.
enum class Liveness { kAlive, kDead, kUnknown };
Liveness liveness(const Owner& owner);

using FlockFunction = int (*)(int fd, int operation);

struct RunLockConfig {
  std::string folder;  ///< .run, which exists
  Owner owner;
  double owner_patience = 1.0;  ///< seconds to wait for another job's rank 0, which may be ending just now
  double survivor_patience = 10.0;  ///< seconds to wait for the other ranks of a job whose rank 0 is gone
  FlockFunction flock = nullptr;    ///< ::flock; tests give one that fails
};

/// Rank 0's exclusive lock on the folder. Its constructor leaves no rank of an earlier job alive. Where the
/// file system has no flock a token file, made with O_EXCL, takes its place.
class OwnerLock {
 public:
  /// OutputError naming the owner when another job holds the folder.
  explicit OwnerLock(const RunLockConfig& config);

 private:
  struct Token {
    std::string path;  // set when the token is ours to remove
    Token() = default;
    Token(const Token&) = delete;
    Token& operator=(const Token&) = delete;
    ~Token();
  };
  core::UniqueFd fd_;
  Token token_;
};

/// Every rank's shared lock: as long as one rank lives, no other job starts. OutputError on a rank that does
/// not see the folder. Taken after rank 0 has its OwnerLock.
class MemberLock {
 public:
  explicit MemberLock(const RunLockConfig& config);

 private:
  core::UniqueFd fd_;
};

/// Creates, syncs and removes a small file. OutputError when the folder cannot be written.
void probe_writable(const std::string& folder);

}  // namespace muster::io
