// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "muster/comm/communicator.h"
#include "muster/comm/work_service.h"
#include "muster/phases/item_phase.h"
#include "phases/runner/activity.h"
#include "phases/runner/batch_queue.h"
#include "phases/runner/progress.h"
#include "phases/runner/schedule.h"
#include "phases/runner/survey.h"

namespace muster::phases {

/// Brings the input to the workers, window by window. Rank 0 reads a window of items; the texts are scattered
/// by bytes; every rank prepares (tokenizes) its part; the prepared items come back; rank 0 cuts
/// micro-batches from all lengths at once and deals them; the payloads are scattered to the ranks that will
/// work on them. At most two windows are in memory.
class WindowFeeder {
 public:
  struct Config {
    std::uint64_t window_items = 65536;
    Schedule schedule = Schedule::kBalanced;
    int workers = 1;
    int ranks_an_item = 1;  ///< only every so many-th rank gets items
    /// Rank 0: the next item that is still to do; false at the end.
    std::function<bool(formats::Item&)> next_item;
    /// Rank 0: one line of plan.jsonl a window.
    std::function<void(const std::string&)> plan_line;
    PlannedWork* planned = nullptr;  ///< rank 0: grows with every window
  };
  /// Duplicates of their own, because two threads use them.
  struct Channels {
    comm::Communicator feed;
    comm::Communicator service;
  };
  /// Collective.
  WindowFeeder(const ItemPhase& phase, Channels channels, Activity& activity, Config config);
  ~WindowFeeder();

  /// Collective: one window into `queue`. False when the input is done or any rank passed kStop.
  enum class Want { kMore, kStop };
  bool next(Want want, BatchQueue& queue);

 private:
  std::vector<std::string> read_window();
  std::string prepare(const std::string& texts) const;
  std::vector<std::string> deal(const std::vector<std::string>& prepared);
  void note_plan(std::span<const std::uint32_t> lengths, std::span<const plan::MicroBatch> batches);
  void fetch_dynamic(BatchQueue& queue);
  std::optional<std::string> hand_out();
  bool gets_items() const { return communicator_.rank() % config_.ranks_an_item == 0; }

  const ItemPhase& phase_;
  comm::Communicator communicator_;
  Activity& activity_;
  Config config_;
  plan::CutConfig cut_;
  std::uint64_t window_ = 0;
  std::uint64_t batch_number_ = 0;
  std::size_t low_water_ = 1;       ///< batches left when the next window is fetched
  std::uint64_t window_count_ = 0;  ///< items of the window in hand (rank 0)
  std::vector<double> loads_;       ///< rank 0: cost dealt so far to each rank that gets items
  std::mutex pool_mutex_;
  std::deque<std::string> pool_;  ///< rank 0, dynamic: packed batches not handed out yet
  std::unique_ptr<comm::WorkService> service_;
};

}  // namespace muster::phases
