// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "io/journal.h"
#include "muster/core/clock.h"
#include "muster/core/file.h"
#include "muster/formats/segment.h"

namespace muster::io {

struct CommitConfig {
  std::string folder;                             ///< .run
  SegmentName name;                               ///< files that must not exist yet
  double seconds = 1.0;                           ///< a record waits at most this long for its commit
  std::uint64_t bytes = std::uint64_t{64} << 20;  ///< a group this large is committed at once
};

/// One rank's appender. Records are framed as they come; a thread writes and syncs them in groups, so that
/// workers wait for the disk only when it is slower than they are. After the first failure nothing more is
/// written: what fsync could not save may be gone from the page cache, so trying again would only look like
/// success.
class CommitThread {
 public:
  explicit CommitThread(const CommitConfig& config);
  /// Commits what is pending; a failure is logged.
  ~CommitThread();
  CommitThread(const CommitThread&) = delete;
  CommitThread& operator=(const CommitThread&) = delete;

  void append(const std::vector<formats::Record>& records);
  void flush();
  std::uint64_t committed() const { return committed_.load(); }
  double seconds_spent() const { return seconds_spent_.load(); }

 private:
  void run();
  /// Waits for records that are due: many enough, old enough or asked for. False at the end, when none are
  /// left.
  bool wait_for_work(std::unique_lock<std::mutex>& lock);
  void commit(const formats::SegmentGroup& group, const JournalEntry& entry);
  void throw_if_failed() const;

  const CommitConfig config_;
  core::UniqueFd segment_, journal_;  // the thread's alone
  std::string segment_path_, journal_path_;

  mutable std::mutex mutex_;
  std::condition_variable work_, done_;
  std::unique_ptr<formats::SegmentGroup> pending_;
  core::Clock::time_point pending_since_;
  bool flush_wanted_ = false, stopping_ = false, committing_ = false;
  std::exception_ptr failure_;
  std::atomic<std::uint64_t> committed_{0};
  std::atomic<double> seconds_spent_{0};
  std::thread thread_;  // last: starts when all else is there
};

}  // namespace muster::io
