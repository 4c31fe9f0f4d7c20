// SPDX-License-Identifier: Apache-2.0
#include "io/run_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <optional>
#include <thread>

#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/log.h"

namespace muster::io {
namespace {

enum class Attempt { kTaken, kHeld, kUnsupported };

std::string in(const std::string& folder, const char* name) {
  return (std::filesystem::path(folder) / name).string();
}

core::UniqueFd open_lock_file(const std::string& path, int extra_flags) {
  core::UniqueFd fd(::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC | extra_flags, 0644));
  if (!fd) {
    throw core::OutputError(
        fmt::format("cannot open {}: {}; the output directory must be writable and, for ranks on "
                    "several hosts, on a file system that all of them share",
                    path, core::errno_text(errno)));
  }
  return fd;
}

Attempt try_flock(const RunLockConfig& config, int fd, int operation, const std::string& path) {
  const auto flock_file = config.flock != nullptr ? config.flock : &::flock;
  for (;;) {
    if (flock_file(fd, operation | LOCK_NB) == 0) return Attempt::kTaken;
    if (errno == EINTR) continue;
    if (errno == EWOULDBLOCK) return Attempt::kHeld;
    if (errno == ENOLCK || errno == ENOTSUP || errno == ENOSYS || errno == EINVAL)
      return Attempt::kUnsupported;
    throw core::OutputError(fmt::format("cannot lock {}: {}", path, core::errno_text(errno)));
  }
}

/// The job that held the folder may have removed .run between our open and our flock: then we hold a file
/// that nobody else will ever find.
bool still_at(int fd, const std::string& path) {
  struct stat ours {
  }, there{};
  return ::fstat(fd, &ours) == 0 && ::lstat(path.c_str(), &there) == 0 && ours.st_dev == there.st_dev &&
         ours.st_ino == there.st_ino;
}

Attempt try_owner_lock(const RunLockConfig& config, core::UniqueFd& fd) {
  const auto path = in(config.folder, "lock");
  core::UniqueFd candidate = open_lock_file(path, O_CREAT);
  const auto attempt = try_flock(config, candidate.get(), LOCK_EX, path);
  if (attempt != Attempt::kTaken) return attempt;
  if (!still_at(candidate.get(), path)) return Attempt::kHeld;
  fd = std::move(candidate);
  return Attempt::kTaken;
}

/// Calls `attempt` every few milliseconds until it gives something else than kHeld or `patience` is over.
template <class F>
Attempt with_patience(double patience, F attempt) {
  const double end = core::monotonic_seconds() + patience;
  for (;;) {
    const Attempt result = attempt();
    if (result != Attempt::kHeld || core::monotonic_seconds() >= end) return result;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

std::string read_small(const std::string& path) {
  try {
    return core::read_file(path, 1 << 16);
  } catch (const core::DataError&) {
    return "";
  }
}

[[noreturn]] void throw_held(const std::string& folder, const Owner& owner) {
  throw core::OutputError(
      fmt::format("{} is in use by another job ({}); wait until it ends, stop it, or choose another "
                  "output directory",
                  std::filesystem::path(folder).parent_path().string(), owner.description()));
}

/// Makes the token exist with our content, or says that another one does.
Attempt try_create_token(const std::string& token, const Owner& owner) {
  core::UniqueFd fd(::open(token.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd) {
    if (errno == EEXIST) return Attempt::kHeld;
    throw core::OutputError(fmt::format("cannot create {}: {}", token, core::errno_text(errno)));
  }
  core::write_all(fd.get(), owner.to_json(), token);
  core::sync(fd.get(), token);
  return Attempt::kTaken;
}

/// Removes the token of a dead process. Two jobs may both find it dead, and the slower one must not remove
/// the token that the faster one made meanwhile: the file is first moved to a name of our own, then looked
/// at.
void remove_dead_token(const std::string& token, const std::string& dead_content) {
  const std::string mine = fmt::format("{}.{}", token, ::getpid());
  if (::rename(token.c_str(), mine.c_str()) != 0) return;
  if (read_small(mine) != dead_content && ::link(mine.c_str(), token.c_str()) != 0) {
    core::log::warning("could not put back {}: {}", token, core::errno_text(errno));
  }
  ::unlink(mine.c_str());
}

Attempt try_token(const std::string& token, const Owner& owner) {
  if (try_create_token(token, owner) == Attempt::kTaken) return Attempt::kTaken;
  const std::string content = read_small(token);
  const Owner other = Owner::from_json(content);
  // An empty token is one being written.
  if (!other.host.empty() && liveness(other) == Liveness::kDead) remove_dead_token(token, content);
  return Attempt::kHeld;
}

void take_token(const RunLockConfig& config, const std::string& token) {
  if (with_patience(config.owner_patience, [&] { return try_token(token, config.owner); }) == Attempt::kTaken)
    return;
  const Owner other = Owner::from_json(read_small(token));
  if (liveness(other) == Liveness::kUnknown) {
    throw core::OutputError(
        fmt::format("{} says that another job holds this directory ({}), and this file system has no "
                    "flock to tell whether it still runs; when you know that it has ended, remove "
                    "that file and run the same command again",
                    token, other.description()));
  }
  throw_held(config.folder, other);
}

/// No rank of an earlier job may be left: each holds ranks.lock shared.
void wait_for_survivors(const RunLockConfig& config) {
  const auto path = in(config.folder, "ranks.lock");
  const core::UniqueFd fd = open_lock_file(path, O_CREAT);
  const auto attempt =
      with_patience(config.survivor_patience, [&] { return try_flock(config, fd.get(), LOCK_EX, path); });
  if (attempt == Attempt::kHeld) {
    throw core::OutputError(
        fmt::format("ranks of an earlier job still hold {}; end them and run the same command again "
                    "(`fuser {}` on their hosts lists them)",
                    path, path));
  }
}

}  // namespace

OwnerLock::OwnerLock(const RunLockConfig& config) {
  const auto attempt = with_patience(config.owner_patience, [&] { return try_owner_lock(config, fd_); });
  const auto owner_file = in(config.folder, "owner.json");
  if (attempt == Attempt::kHeld) throw_held(config.folder, Owner::from_json(read_small(owner_file)));
  if (attempt == Attempt::kUnsupported) {
    core::log::warning("{}: this file system has no flock; a token file guards the directory instead",
                       config.folder);
    const auto token = in(config.folder, "token");
    take_token(config, token);
    token_.path = token;
  }
  ::unlink((owner_file + ".tmp").c_str());  // what a killed job left, or a link that somebody planted
  core::publish_text(owner_file, config.owner.to_json());
  wait_for_survivors(config);
}

OwnerLock::Token::~Token() {
  if (!path.empty()) ::unlink(path.c_str());
}

MemberLock::MemberLock(const RunLockConfig& config) {
  const auto path = in(config.folder, "ranks.lock");
  fd_ = open_lock_file(path, 0);
  // Rank 0 of this job holds the owner lock, so nobody but it can have held this one exclusively, and it has
  // let go.
  const auto attempt =
      with_patience(config.owner_patience, [&] { return try_flock(config, fd_.get(), LOCK_SH, path); });
  if (attempt == Attempt::kHeld) throw core::OutputError(fmt::format("{} is locked by somebody else", path));
}

void probe_writable(const std::string& folder) {
  const auto path = in(folder, fmt::format("probe.{}.{}", Owner::myself("").host, ::getpid()).c_str());
  ::unlink(path.c_str());  // of an earlier process with our pid
  core::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd) {
    throw core::OutputError(fmt::format("cannot write to {}: {}; choose a writable output directory", folder,
                                        core::errno_text(errno)));
  }
  struct Remover {
    const std::string& path;
    ~Remover() { ::unlink(path.c_str()); }
  } const remover{path};
  core::write_all(fd.get(), std::string(4096, '\0'), path);
  core::sync(fd.get(), path);
}

}  // namespace muster::io
