// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <condition_variable>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "muster/core/clock.h"
#include "muster/phases/item_phase.h"
#include "phases/runner/rank_activity.h"

namespace muster::phases {

/// A micro-batch that is done.
struct BatchNote {
  int worker = 0;
  double begin = 0, end = 0;  ///< monotonic seconds
  std::span<const ItemView> items;
  std::span<const formats::Record> records;
};

/// Writes down what a rank does, for report.html: costs well below a microsecond a batch, a bounded amount of
/// memory, and a small file that is written anew ever more seldom, so that a killed rank leaves an account
/// too. Nothing depends on that file: it is not synced, and a failure to write it is a line in the log.
class Recorder {
 public:
  struct Config {
    RankActivity who;       ///< names, sizes and predictions; the rest is filled here
    std::string path;       ///< of the file; lines of earlier starts in it stay
    double zero = 0;        ///< monotonic seconds at which the start began
    plan::CostModel flops;  ///< of an item by its length; counts only with an expected rate
    /// Of the commit thread, asked when the file is written.
    std::function<double()> journal_seconds = [] { return 0.0; };
  };
  explicit Recorder(Config config);
  ~Recorder();

  void enter(Stage stage);
  void main_does(WaitsFor what);
  /// A worker has asked for its next batch / has one.
  void worker_waits(int worker);
  void worker_works(int worker);
  void batch_done(const BatchNote& note);
  void saved(double seconds);  ///< a worker handed its records over
  /// The workers are gone, or nobody waits for them any more.
  void workers_end();

  /// The last account, as a line; also in the file. `state` says how the start ended.
  std::string end(const std::string& state);

 private:
  enum class Account { kOnTheWay, kLast };
  struct Lane {
    std::vector<WorkSpan> spans;
    std::uint64_t batches_a_span = 1;  ///< doubles when there are too many spans
    bool waits = false;
  };
  void loop();
  std::string save(Account account);
  void add_wait(double now);
  void note_span(Lane& lane, const BatchNote& note, std::uint64_t length);
  void note_failure(const formats::Record& record);
  void close_stage(double now);
  void write(const std::string& line);

  Config config_;
  std::size_t most_spans_;
  std::string earlier_;  ///< lines of earlier starts
  std::mutex mutex_;
  RankActivity activity_;
  std::vector<Lane> lanes_;
  Stage stage_ = Stage::kStarting;
  WaitsFor main_ = WaitsFor::kInput;
  int waiting_ = 0;
  double last_change_ = 0;
  std::mutex file_mutex_;  ///< taken before mutex_
  std::condition_variable ended_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace muster::phases
