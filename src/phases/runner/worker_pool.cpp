// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/worker_pool.h"

#include <fmt/format.h>

#include <new>

#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/fault.h"
#include "muster/core/log.h"

namespace muster::phases {
namespace {

// So many items in a row without a single success mean that the job is wrong, not the items.
constexpr std::uint64_t kHopeless = 64;

}  // namespace

std::string ItemWorker::too_long(const ItemView& item) const {
  return fmt::format("the text is longer than the model takes; {} tokens fit", item.length);
}

formats::Record failure_record(std::uint64_t row, std::string_view reason) {
  formats::Record record{.item = row, .kind = formats::RecordKind::kFailure, .payload = {}};
  const auto bytes = std::as_bytes(std::span(reason.data(), reason.size()));
  record.payload.assign(bytes.begin(), bytes.end());
  return record;
}

WorkerPool::WorkerPool(Surroundings around, Config config)
    : around_(around), config_(std::move(config)), any_success_(config_.had_success) {
  if (config_.role == Role::kServes) {
    threads_.emplace_back([this] { serve(); });
    return;
  }
  for (int i = 0; i < config_.workers; ++i) threads_.emplace_back([this, i] { work(i); });
}

WorkerPool::~WorkerPool() {
  around_.queue.stop();
  join();
}

void WorkerPool::join() {
  for (auto& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

PoolTotals WorkerPool::totals() const {
  const std::lock_guard lock(mutex_);
  return totals_;
}

void WorkerPool::work(int number) {
  auto& recorder = around_.activity.recorder();
  try {
    recorder.worker_waits(number);
    const auto worker = around_.phase.make_worker();
    while (const auto batch = around_.queue.pop()) {
      recorder.worker_works(number);
      run_batch(*worker, number, *batch);
      recorder.worker_waits(number);
    }
  } catch (const std::exception& error) {
    config_.on_fatal(error);
  }
}

void WorkerPool::serve() {
  try {
    around_.phase.serve([&] {
      around_.activity.batch_begins("what its leader asks for");
      around_.activity.batch_ends();
    });
  } catch (const std::exception& error) {
    config_.on_fatal(error);
  }
}

void WorkerPool::run_batch(ItemWorker& worker, int number, const Batch& batch) {
  around_.activity.batch_begins(fmt::format("batch {} ({} items)", batch.number, batch.items.size()));
  core::fault_point("worker.before_batch");
  std::vector<formats::Record> records;
  records.reserve(batch.items.size());
  const double begin = core::monotonic_seconds();
  double busy = 0;
  std::uint64_t length = 0, refused = 0;
  {
    const core::ScopedTimer timer(&busy);
    std::vector<ItemView> items;
    for (const auto& item : batch.items) {
      length += item.length;
      if (item.truncated && config_.on_truncate == OnTruncate::kFail) {
        records.push_back(failure_record(item.row, worker.too_long(item)));
      } else {
        items.push_back(item);
      }
    }
    refused = records.size();
    if (!items.empty()) run_items(worker, items, records);
  }
  core::internal_check(records.size() == batch.items.size(), "a worker must return one record an item");
  std::uint64_t failed = 0;
  for (const auto& record : records) failed += record.kind == formats::RecordKind::kFailure;
  {
    const std::lock_guard lock(mutex_);
    totals_.items += records.size();
    totals_.length += length;
    totals_.batches += 1;
    totals_.failed += failed;
    totals_.busy_seconds += busy;
    // Items that were not tried say nothing about the others.
    if (failed < records.size()) any_success_ = true;
    if (!any_success_) failed_without_success_ += failed - refused;
    if (failed_without_success_ >= kHopeless && !any_success_) {
      throw core::DataError(
          fmt::format("all {} items that were tried failed, so the job is given up; the last one: {}",
                      failed_without_success_,
                      std::string_view(reinterpret_cast<const char*>(records.back().payload.data()),
                                       records.back().payload.size())));
    }
  }
  core::fault_point("worker.after_batch");
  const std::uint64_t count = records.size();
  auto& recorder = around_.activity.recorder();
  recorder.batch_done(
      {.worker = number, .begin = begin, .end = begin + busy, .items = batch.items, .records = records});
  double saving = 0;
  {
    const core::ScopedTimer timer(&saving);
    around_.results.append(std::move(records));
  }
  recorder.saved(saving);
  around_.activity.watchdog().add_progress(count, length, busy);
  around_.activity.batch_ends();
}

void WorkerPool::run_items(ItemWorker& worker, std::span<const ItemView> items,
                           std::vector<formats::Record>& records) {
  try {
    core::fault_point("worker.run");
    auto made = worker.run(items);
    std::move(made.begin(), made.end(), std::back_inserter(records));
  } catch (const core::ResourceError& error) {
    halve_for_memory(worker, items, error.bytes(), records);
  } catch (const std::bad_alloc&) {
    halve_for_memory(worker, items, 0, records);
  } catch (const core::DataError& error) {
    find_guilty(worker, items, error.what(), records);
  } catch (const core::Error&) {
    throw;  // ours, and not about an item: the job cannot go on
  } catch (const std::exception& error) {
    find_guilty(worker, items, error.what(), records);
  }
}

void WorkerPool::halve_for_memory(ItemWorker& worker, std::span<const ItemView> items, std::size_t bytes,
                                  std::vector<formats::Record>& records) {
  worker.release_memory();
  const std::string asked =
      bytes > 0 ? fmt::format(" ({} asked for)", core::human_bytes(static_cast<double>(bytes))) : "";
  if (items.size() == 1) {
    throw core::ResourceError(fmt::format("out of memory{} for a single item (row {}, length {}); use fewer "
                                          "run.workers, a smaller dtype or "
                                          "a machine with more memory",
                                          asked, items[0].row, items[0].length),
                              bytes);
  }
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    first = totals_.halvings++ == 0;
  }
  if (first) {
    core::log::warning(
        "out of memory{} in a batch of {} items: it is halved; said once. A smaller run.batch_tokens avoids "
        "it",
        asked, items.size());
  }
  run_items(worker, items.first(items.size() / 2), records);
  run_items(worker, items.subspan(items.size() / 2), records);
}

void WorkerPool::find_guilty(ItemWorker& worker, std::span<const ItemView> items, const std::string& reason,
                             std::vector<formats::Record>& records) {
  if (items.size() == 1) {
    records.push_back(failure_record(items[0].row, reason));
    return;
  }
  run_items(worker, items.first(items.size() / 2), records);
  run_items(worker, items.subspan(items.size() / 2), records);
}

}  // namespace muster::phases
