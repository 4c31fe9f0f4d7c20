// SPDX-License-Identifier: Apache-2.0
#include "comm/board.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "muster/core/digest.h"
#include "muster/core/error.h"

namespace muster::comm {
namespace {

constexpr std::size_t kSlotBytes = 512;       // a sector: neighbours never share one
constexpr std::uint32_t kMagic = 0x7462756d;  // "mubt"
constexpr int kReadAttempts = 3;

struct Slot {
  std::uint32_t magic;
  std::uint32_t crc;  // of everything after it
  std::uint64_t job, counter, steps, done, work;
  double busy_seconds, step_seconds;
  std::int64_t pid;
  std::uint32_t waiting;
  char host[64], phase[32], what[kSlotBytes - 2 * 4 - 8 * 8 - 4 - 64 - 32];
};
static_assert(sizeof(Slot) == kSlotBytes && std::is_trivially_copyable_v<Slot>);

std::uint32_t slot_crc(const Slot& slot) {
  constexpr std::size_t kStart = offsetof(Slot, job);
  return core::crc32c(std::as_bytes(std::span(&slot, 1)).subspan(kStart));
}

template <std::size_t N>
void put_text(char (&field)[N], const std::string& text) {
  std::memcpy(field, text.data(), std::min(text.size(), N - 1));
}

template <std::size_t N>
std::string get_text(const char (&field)[N]) {
  return std::string(field, ::strnlen(field, N));
}

Beat to_beat(const Slot& slot) {
  Beat beat;
  beat.counter = slot.counter;
  beat.steps = slot.steps;
  beat.done = slot.done;
  beat.busy_seconds = slot.busy_seconds;
  beat.step_seconds = slot.step_seconds;
  beat.work = slot.work;
  beat.pid = slot.pid;
  beat.waiting = slot.waiting != 0;
  beat.host = get_text(slot.host);
  beat.phase = get_text(slot.phase);
  beat.what = get_text(slot.what);
  return beat;
}

/// NFS keeps writes to itself for half a minute; local and parallel file systems show them at once.
int sync_flag(const std::string& path) {
  struct statfs info {};
  return ::statfs(path.c_str(), &info) == 0 && info.f_type == NFS_SUPER_MAGIC ? O_DSYNC : 0;
}

}  // namespace

Board::Board(const std::string& path, int rank, int ranks, std::uint64_t job)
    : path_(path), rank_(rank), ranks_(ranks), job_(job) {
  file_ = core::UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (file_ && sync_flag(path) != 0)
    file_ = core::UniqueFd(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_DSYNC));
  if (!file_) {
    throw core::OutputError(
        fmt::format("cannot open the watchdog's board {}: {}", path, core::errno_text(errno)));
  }
}

bool Board::write(const Beat& beat) {
  Slot slot;
  std::memset(&slot, 0, sizeof slot);
  slot.magic = kMagic;
  slot.job = job_;
  slot.counter = beat.counter;
  slot.steps = beat.steps;
  slot.done = beat.done;
  slot.work = beat.work;
  slot.busy_seconds = beat.busy_seconds;
  slot.step_seconds = beat.step_seconds;
  slot.pid = beat.pid;
  slot.waiting = beat.waiting ? 1 : 0;
  put_text(slot.host, beat.host);
  put_text(slot.phase, beat.phase);
  put_text(slot.what, beat.what);
  slot.crc = slot_crc(slot);
  return ::pwrite(file_.get(), &slot, sizeof slot, static_cast<off_t>(rank_ * kSlotBytes)) == sizeof slot;
}

std::vector<Beat> Board::read() const {
  std::vector<Beat> beats(static_cast<std::size_t>(ranks_));
  // Opened anew each time: that is when NFS looks at the server.
  const core::UniqueFd file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return beats;
  for (std::size_t r = 0; r < beats.size(); ++r) {
    for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
      Slot slot;
      if (::pread(file.get(), &slot, sizeof slot, static_cast<off_t>(r * kSlotBytes)) != sizeof slot) break;
      if (slot.magic == kMagic && slot.crc == slot_crc(slot)) {
        if (slot.job == job_) beats[r] = to_beat(slot);
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  return beats;
}

}  // namespace muster::comm
