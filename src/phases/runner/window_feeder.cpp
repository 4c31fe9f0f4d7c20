// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/window_feeder.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "muster/core/checked.h"
#include "muster/core/error.h"
#include "muster/core/fault.h"

namespace muster::phases {
namespace {

// What rank 0 and the stop flags agree on with one maximum: a stop outweighs any window.
constexpr std::uint64_t kStopWord = std::uint64_t{1} << 63;
// Long texts end a window before its item count does.
constexpr std::size_t kWindowBytes = std::size_t{256} << 20;

}  // namespace

WindowFeeder::WindowFeeder(const ItemPhase& phase, Channels channels, Activity& activity, Config config)
    : phase_(phase),
      communicator_(std::move(channels.feed)),
      activity_(activity),
      config_(std::move(config)),
      cut_(phase.cut()),
      loads_(static_cast<std::size_t>(core::ceil_div(communicator_.size(), config_.ranks_an_item)), 0.0) {
  if (config_.schedule == Schedule::kDynamic) {
    service_ =
        std::make_unique<comm::WorkService>(std::move(channels.service), [this](int) { return hand_out(); });
  }
}

WindowFeeder::~WindowFeeder() = default;

bool WindowFeeder::next(Want want, BatchQueue& queue) {
  // The next window is fetched while the last quarter of this one is worked on: communication and tokenizing
  // hide behind compute, and memory does not grow with the input.
  queue.wait_below(low_water_);
  std::vector<std::string> texts;
  window_count_ = 0;
  activity_.recorder().main_does(WaitsFor::kInput);
  if (communicator_.is_root() && want == Want::kMore) texts = read_window();
  texts.resize(communicator_.is_root() ? static_cast<std::size_t>(communicator_.size()) : 0);

  activity_.main_waits(fmt::format("window {}", window_), WaitsFor::kRanks);
  const std::uint64_t word =
      communicator_.all_reduce_value(want == Want::kStop ? kStopWord : window_count_, comm::Op::kMax);
  if (word == 0) return false;
  if (word >= kStopWord) {
    queue.stop();
    return false;
  }
  core::fault_point("window.scatter");
  const std::string mine = communicator_.scatter_strings(texts);
  texts.clear();
  const auto prepared = communicator_.gather_strings(prepare(mine));
  std::vector<std::string> shares;
  if (communicator_.is_root()) {
    activity_.recorder().main_does(WaitsFor::kInput);
    shares = deal(prepared);
  }
  shares.resize(communicator_.is_root() ? static_cast<std::size_t>(communicator_.size()) : 0);
  core::fault_point("window.deal");
  auto batches = unpack_batches(communicator_.scatter_strings(shares));
  low_water_ = std::max(batches.size() / 4, static_cast<std::size_t>(config_.workers) + 1);
  queue.push(std::move(batches));
  activity_.recorder().main_does(WaitsFor::kOther);
  if (config_.schedule == Schedule::kDynamic && gets_items()) fetch_dynamic(queue);
  ++window_;
  return true;
}

// Reads up to a window of items and packs them, in order, into parts of about equal bytes, one a rank.
std::vector<std::string> WindowFeeder::read_window() {
  std::string all;
  std::vector<std::size_t> ends;
  formats::Item item;
  while (ends.size() < config_.window_items && all.size() < kWindowBytes && config_.next_item(item)) {
    pack_text(all, item.row, item.text);
    ends.push_back(all.size());
  }
  window_count_ = ends.size();
  std::vector<std::string> parts;
  std::size_t begin = 0, next_item = 0;
  const auto ranks = static_cast<std::size_t>(communicator_.size());
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const std::size_t until = all.size() * (rank + 1) / ranks;
    std::size_t end = begin;
    for (; next_item < ends.size() && ends[next_item] <= until; ++next_item) end = ends[next_item];
    parts.push_back(all.substr(begin, end - begin));
    begin = end;
  }
  return parts;
}

std::string WindowFeeder::prepare(const std::string& texts) const {
  activity_.main_steps(fmt::format("preparing window {}", window_), WaitsFor::kPreparing);
  std::string blob;
  PreparedItem item;
  for (const auto& [row, text] : unpack_texts(texts)) {
    phase_.prepare(text, item);
    pack_item(blob, row, item);
  }
  activity_.main_waits(fmt::format("window {}", window_), WaitsFor::kRanks);
  return blob;
}

// Rank 0: cuts and deals a window; returns each rank's packed batches (dynamic: keeps them for the service).
std::vector<std::string> WindowFeeder::deal(const std::vector<std::string>& prepared) {
  std::vector<ItemView> items;
  std::vector<std::uint32_t> lengths;
  for (const auto& blob : prepared) {
    for (const auto& item : unpack_items(blob)) {
      items.push_back(item);
      lengths.push_back(item.length);
    }
  }
  const auto window = deal_window(lengths, config_.schedule, cut_, loads_);
  note_plan(lengths, window.batches);
  const bool dynamic = config_.schedule == Schedule::kDynamic;
  std::vector<double> one_queue(1, 0.0);  // the work service hands out from one queue, dearest first
  const auto queues = dynamic ? plan::deal_balanced(window.batches, one_queue) : window.deal;
  std::vector<std::string> shares(static_cast<std::size_t>(communicator_.size()));
  const std::lock_guard lock(pool_mutex_);
  for (std::size_t leader = 0; leader < queues.size(); ++leader) {
    const std::size_t rank = leader * static_cast<std::size_t>(config_.ranks_an_item);
    for (const auto batch : queues[leader]) {
      std::string packed;
      for (const auto index : window.batches[batch].items) pack_item(packed, items[index]);
      pack_batch(dynamic ? pool_.emplace_back() : shares[rank], batch_number_++, packed);
    }
  }
  return shares;
}

void WindowFeeder::note_plan(std::span<const std::uint32_t> lengths,
                             std::span<const plan::MicroBatch> batches) {
  const auto length = std::accumulate(lengths.begin(), lengths.end(), std::uint64_t{0});
  config_.planned->items += lengths.size();
  config_.planned->length += length;
  config_.plan_line(fmt::format(
      R"({{"window":{},"items":{},"batches":{},"length":{},"digest":"{:016x}","balance":{:.4f}}})", window_,
      lengths.size(), batches.size(), length, plan::plan_digest(batches), plan::balance(loads_)));
}

void WindowFeeder::fetch_dynamic(BatchQueue& queue) {
  for (;;) {
    activity_.main_waits("the work service", WaitsFor::kRanks);
    queue.wait_below(static_cast<std::size_t>(config_.workers) + 1);
    if (queue.stopped()) return;
    auto packed = service_->request();
    if (!packed) return;
    queue.push(unpack_batches(*packed));
  }
}

std::optional<std::string> WindowFeeder::hand_out() {
  const std::lock_guard lock(pool_mutex_);
  if (pool_.empty()) return std::nullopt;
  std::string packed = std::move(pool_.front());
  pool_.pop_front();
  return packed;
}

}  // namespace muster::phases
