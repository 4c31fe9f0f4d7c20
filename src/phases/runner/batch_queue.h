// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "phases/runner/packing.h"

namespace muster::phases {

/// A rank's batches, from the thread that talks to the other ranks to its workers.
class BatchQueue {
 public:
  void push(std::vector<Batch> batches) {
    {
      const std::lock_guard lock(mutex_);
      for (auto& batch : batches) batches_.push_back(std::move(batch));
    }
    changed_.notify_all();
  }

  /// Waits for a batch; nullopt when the queue was stopped, or closed and is empty.
  std::optional<Batch> pop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stopped_ || closed_ || !batches_.empty(); });
    if (stopped_ || batches_.empty()) return std::nullopt;
    Batch batch = std::move(batches_.front());
    batches_.pop_front();
    lock.unlock();
    changed_.notify_all();
    return batch;
  }

  /// Waits until fewer than `count` batches wait, or the queue was stopped.
  void wait_below(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stopped_ || batches_.size() < count; });
  }

  /// No more batches will come.
  void close() { set(closed_); }
  /// Workers finish the batch in hand; what waits is dropped (a rerun does it).
  void stop() { set(stopped_); }
  bool stopped() const {
    const std::lock_guard lock(mutex_);
    return stopped_;
  }

 private:
  void set(bool& flag) {
    {
      const std::lock_guard lock(mutex_);
      flag = true;
    }
    changed_.notify_all();
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch> batches_;
  bool closed_ = false;
  bool stopped_ = false;
};

}  // namespace muster::phases
