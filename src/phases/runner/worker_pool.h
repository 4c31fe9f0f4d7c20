// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "muster/phases/item_phase.h"
#include "phases/runner/activity.h"
#include "phases/runner/batch_queue.h"
#include "phases/runner/sealer.h"

namespace muster::phases {

enum class OnTruncate { kWarn, kFail };
/// Whether a rank works on items, or helps the one that does.
enum class Role { kLeads, kServes };

/// What a rank's workers did in this start.
struct PoolTotals {
  std::uint64_t items = 0;
  std::uint64_t length = 0;  ///< sum of item lengths, in the phase's unit
  std::uint64_t batches = 0;
  std::uint64_t failed = 0;
  std::uint64_t halvings = 0;  ///< batches halved for want of memory
  double busy_seconds = 0;     ///< inside ItemWorker::run, summed over workers
};

/// A rank's worker threads: take batches from the queue, run them, hand the records on to be made durable.
class WorkerPool {
 public:
  struct Surroundings {
    ItemPhase& phase;
    Sealer& results;
    Activity& activity;
    BatchQueue& queue;
  };
  struct Config {
    int workers = 1;
    Role role = Role::kLeads;
    OnTruncate on_truncate = OnTruncate::kWarn;
    /// Items of this job have succeeded before, so one that fails now is not a sign that all will.
    bool had_success = false;
    /// Called by the thread that met an error which ends the job; must not return.
    std::function<void(const std::exception&)> on_fatal;
  };
  WorkerPool(Surroundings around, Config config);
  ~WorkerPool();
  /// Waits until the queue is closed and empty, or stopped.
  void join();
  PoolTotals totals() const;

 private:
  void work(int number);
  void serve();
  void run_batch(ItemWorker& worker, int number, const Batch& batch);
  void run_items(ItemWorker& worker, std::span<const ItemView> items, std::vector<formats::Record>& records);
  void halve_for_memory(ItemWorker& worker, std::span<const ItemView> items, std::size_t bytes,
                        std::vector<formats::Record>& records);
  void find_guilty(ItemWorker& worker, std::span<const ItemView> items, const std::string& reason,
                   std::vector<formats::Record>& records);

  Surroundings around_;
  Config config_;
  mutable std::mutex mutex_;
  PoolTotals totals_;
  bool any_success_;
  std::uint64_t failed_without_success_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace muster::phases
