// SPDX-License-Identifier: Apache-2.0
#include "io/commit_thread.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/fault.h"
#include "muster/core/log.h"

namespace muster::io {
namespace {

core::UniqueFd create_exclusively(const std::string& path) {
  core::UniqueFd fd(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd) throw core::OutputError(fmt::format("cannot create {}: {}", path, core::errno_text(errno)));
  return fd;
}

void pass_fault_point(const char* point, const std::string& path) {
  if (core::fault_point(point))
    throw core::OutputError(fmt::format("cannot write {}: {}", path, core::errno_text(EIO)));
}

}  // namespace

CommitThread::CommitThread(const CommitConfig& config)
    : config_(config),
      segment_path_((std::filesystem::path(config.folder) / config.name.segment_file()).string()),
      journal_path_((std::filesystem::path(config.folder) / config.name.journal_file()).string()) {
  segment_ = create_exclusively(segment_path_);
  journal_ = create_exclusively(journal_path_);
  core::sync_directory(config.folder);
  pending_ = std::make_unique<formats::SegmentGroup>(0);
  thread_ = std::thread([this] { run(); });
}

CommitThread::~CommitThread() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  thread_.join();
}

void CommitThread::throw_if_failed() const {
  if (failure_) std::rethrow_exception(failure_);
}

void CommitThread::append(const std::vector<formats::Record>& records) {
  if (records.empty()) return;
  std::unique_lock lock(mutex_);
  // At most one group is being written while the next fills up: memory stays bounded on a slow disk.
  done_.wait(lock, [&] { return failure_ || !committing_ || pending_->bytes().size() < config_.bytes; });
  throw_if_failed();
  if (pending_->empty()) pending_since_ = core::Clock::now();
  for (const auto& record : records) pending_->add(record);
  lock.unlock();
  work_.notify_one();
}

void CommitThread::flush() {
  std::unique_lock lock(mutex_);
  flush_wanted_ = true;
  work_.notify_one();
  done_.wait(lock, [&] { return failure_ || (pending_->empty() && !committing_); });
  throw_if_failed();
}

bool CommitThread::wait_for_work(std::unique_lock<std::mutex>& lock) {
  const auto patience = std::chrono::duration_cast<core::Clock::duration>(core::Seconds(config_.seconds));
  for (;;) {
    if (!pending_->empty()) {
      const bool due = stopping_ || flush_wanted_ || pending_->bytes().size() >= config_.bytes ||
                       core::Clock::now() >= pending_since_ + patience;
      if (due) return true;
      work_.wait_until(lock, pending_since_ + patience);
    } else {
      flush_wanted_ = false;
      if (stopping_) return false;
      work_.wait(lock);
    }
  }
}

void CommitThread::run() {
  std::uint64_t written = 0;
  std::unique_lock lock(mutex_);
  while (wait_for_work(lock)) {
    committing_ = true;
    std::exception_ptr failure;
    try {
      JournalEntry entry{.segment = config_.name.segment_file(), .offset = written};
      entry.index_offset = pending_->finish();
      entry.records = pending_->refs().size();
      entry.bytes = pending_->bytes().size();
      written += entry.bytes;
      const auto group = std::exchange(pending_, std::make_unique<formats::SegmentGroup>(written));
      lock.unlock();
      commit(*group, entry);
    } catch (const std::exception& error) {
      failure = std::current_exception();
      core::log::debug("committing results failed: {}", error.what());  // whoever appends next says it aloud
    }
    if (!lock.owns_lock()) lock.lock();
    committing_ = false;
    failure_ = failure;
    done_.notify_all();
    if (failure_) return;
  }
}

void CommitThread::commit(const formats::SegmentGroup& group, const JournalEntry& entry) {
  const double start = core::monotonic_seconds();
  pass_fault_point("segment.before_write", segment_path_);
  core::write_all(segment_.get(), group.bytes(), segment_path_);
  pass_fault_point("segment.written", segment_path_);
  core::sync(segment_.get(), segment_path_);
  pass_fault_point("segment.synced", segment_path_);
  core::write_all(journal_.get(), journal_line(entry) + "\n", journal_path_);
  pass_fault_point("journal.written", journal_path_);
  core::sync(journal_.get(), journal_path_);
  pass_fault_point("journal.synced", journal_path_);
  committed_ += entry.records;
  seconds_spent_ = seconds_spent_ + (core::monotonic_seconds() - start);
}

}  // namespace muster::io
