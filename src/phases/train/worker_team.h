// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace muster::phases {

/// Threads that do the same thing together, again and again: the workers of a step.
class WorkerTeam {
 public:
  explicit WorkerTeam(int workers) {
    for (int worker = 0; worker < workers; ++worker) threads_.emplace_back([this, worker] { loop(worker); });
  }
  ~WorkerTeam() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    for (auto& thread : threads_) thread.join();
  }
  WorkerTeam(const WorkerTeam&) = delete;
  WorkerTeam& operator=(const WorkerTeam&) = delete;

  int size() const { return static_cast<int>(threads_.size()); }

  /// Calls `work(worker)` on every thread and returns when all are back; the first error is thrown again.
  void run(const std::function<void(int worker)>& work) {
    std::unique_lock lock(mutex_);
    work_ = &work;
    left_ = size();
    error_ = nullptr;
    ++round_;
    changed_.notify_all();
    finished_.wait(lock, [this] { return left_ == 0; });
    work_ = nullptr;
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void loop(int worker) {
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return ended_ || round_ != seen; });
      if (ended_) return;
      seen = round_;
      const auto& work = *work_;
      lock.unlock();
      std::exception_ptr error;
      try {
        work(worker);
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      if (error && !error_) error_ = error;
      if (--left_ == 0) finished_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_, finished_;
  const std::function<void(int)>* work_ = nullptr;
  std::uint64_t round_ = 0;
  int left_ = 0;
  bool ended_ = false;
  std::exception_ptr error_;
  std::vector<std::thread> threads_;  // last: they use all of the above
};

}  // namespace muster::phases
