// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/recorder.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>

#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/log.h"
#include "muster/core/strings.h"
#include "muster/device/device.h"

namespace muster::phases {
namespace {

constexpr std::size_t kSpansOfAJob = std::size_t{1} << 18;  // about ten megabytes of files
constexpr std::size_t kMostStarts = 50;                     // whose lines are kept
constexpr std::size_t kFailuresNamed = 20;                  // of a rank; failures.jsonl has all
constexpr std::size_t kLongestReason = 400;
constexpr std::uint64_t kFillBins = 20;
constexpr double kLongestPause = 60;
constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 28;

std::string lines_of_other_starts(const std::string& path, const std::string& start_utc) {
  if (!std::filesystem::exists(path)) return "";
  std::vector<std::string> lines;
  const std::string start = fmt::format(R"("start":"{}")", start_utc);
  for (auto& line : core::split(core::read_file(path, kMaxFileBytes), '\n')) {
    if (!line.empty() && line.find(start) == std::string::npos) lines.push_back(std::move(line) + "\n");
  }
  if (lines.size() >= kMostStarts)
    lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(kMostStarts - 1));
  return core::join(lines, "");
}

}  // namespace

Recorder::Recorder(Config config)
    : config_(std::move(config)),
      most_spans_(
          std::clamp<std::size_t>(kSpansOfAJob / (static_cast<std::size_t>(config_.who.ranks) *
                                                  static_cast<std::size_t>(std::max(config_.who.workers, 1))),
                                  16, 512)),
      activity_(config_.who),
      lanes_(static_cast<std::size_t>(config_.who.workers)),
      last_change_(config_.zero) {
  activity_.fill.assign(kFillBins, 0);
  try {
    earlier_ = lines_of_other_starts(config_.path, config_.who.start_utc);
  } catch (const core::Error& error) {
    core::log::debug("earlier starts are left out of the report: {}", error.what());
  }
  activity_.state = "running";
  save(Account::kOnTheWay);
  thread_ = std::thread([this] { loop(); });
}

Recorder::~Recorder() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  ended_.notify_all();
  thread_.join();
}

void Recorder::close_stage(double now) {
  activity_.stages[static_cast<std::size_t>(stage_)].second = now - config_.zero;
}

void Recorder::enter(Stage stage) {
  const std::lock_guard lock(mutex_);
  const double now = core::monotonic_seconds();
  close_stage(now);
  stage_ = stage;
  activity_.stages[static_cast<std::size_t>(stage)] = {now - config_.zero, now - config_.zero};
}

void Recorder::add_wait(double now) {
  activity_.waits[static_cast<std::size_t>(main_)] += waiting_ * (now - last_change_);
  last_change_ = now;
}

void Recorder::main_does(WaitsFor what) {
  const std::lock_guard lock(mutex_);
  add_wait(core::monotonic_seconds());
  main_ = what;
}

void Recorder::worker_waits(int worker) {
  const std::lock_guard lock(mutex_);
  add_wait(core::monotonic_seconds());
  waiting_ += !std::exchange(lanes_.at(static_cast<std::size_t>(worker)).waits, true);
}

void Recorder::worker_works(int worker) {
  const std::lock_guard lock(mutex_);
  add_wait(core::monotonic_seconds());
  waiting_ -= std::exchange(lanes_.at(static_cast<std::size_t>(worker)).waits, false);
}

void Recorder::workers_end() {
  const std::lock_guard lock(mutex_);
  add_wait(core::monotonic_seconds());
  waiting_ = 0;
  for (auto& lane : lanes_) lane.waits = false;
}

void Recorder::saved(double seconds) {
  const std::lock_guard lock(mutex_);
  activity_.saving += seconds;
}

void Recorder::batch_done(const BatchNote& note) {
  const std::lock_guard lock(mutex_);
  std::uint64_t length = 0;
  for (const auto& item : note.items) {
    length += item.length;
    activity_.lengths.add(item.length);
    if (item.truncated) {
      activity_.truncated_lengths.add(item.length);
      ++activity_.truncated;
    }
    if (activity_.expected_rate > 0) activity_.flops += config_.flops(item.length);
  }
  for (const auto& record : note.records) {
    if (record.kind == formats::RecordKind::kFailure) note_failure(record);
  }
  activity_.items += note.items.size();
  activity_.length += length;
  activity_.batches += 1;
  activity_.busy += note.end - note.begin;
  const std::uint64_t tile = std::max<std::uint64_t>(activity_.tile, 1);
  activity_.tiled_length += (length + tile - 1) / tile * tile;
  if (activity_.batch_budget > 0)
    ++activity_.fill[std::min(length * kFillBins / activity_.batch_budget, kFillBins - 1)];
  note_span(lanes_.at(static_cast<std::size_t>(note.worker)), note, length);
}

// Every batch is a span of its own until there are too many; then neighbours are joined, and from there on so
// many batches make a span.
void Recorder::note_span(Lane& lane, const BatchNote& note, std::uint64_t length) {
  auto& spans = lane.spans;
  const double begin = note.begin - config_.zero, end = note.end - config_.zero;
  if (spans.empty() || spans.back().batches >= lane.batches_a_span) {
    if (spans.size() >= most_spans_) {
      for (std::size_t i = 0; i + 1 < spans.size(); i += 2) {
        const WorkSpan &a = spans[i], &b = spans[i + 1];
        spans[i / 2] = {
            a.begin, b.end, a.busy + b.busy, a.batches + b.batches, a.items + b.items, a.length + b.length};
      }
      spans.resize(spans.size() / 2);
      lane.batches_a_span *= 2;
    }
    spans.push_back({.begin = begin});
  }
  auto& span = spans.back();
  span.end = end;
  span.busy += end - begin;
  span.batches += 1;
  span.items += note.items.size();
  span.length += length;
}

void Recorder::note_failure(const formats::Record& record) {
  const std::string_view reason(reinterpret_cast<const char*>(record.payload.data()), record.payload.size());
  ++activity_.failed;
  if (activity_.first_failures.size() < kFailuresNamed)
    activity_.first_failures.push_back({record.item, std::string(reason.substr(0, kLongestReason))});
  count_kind(activity_.failure_kinds, failure_kind(reason), 1);
}

void Recorder::loop() {
  double pause = 1;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (ended_.wait_for(lock, std::chrono::duration<double>(pause), [&] { return done_; })) return;
    }
    save(Account::kOnTheWay);
    pause = std::min(pause * 2, kLongestPause);
  }
}

std::string Recorder::end(const std::string& state) {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
    activity_.state = state;
  }
  ended_.notify_all();
  return save(Account::kLast);
}

std::string Recorder::save(Account account) {
  const std::lock_guard file_lock(file_mutex_);
  RankActivity now_known;
  {
    const std::lock_guard lock(mutex_);
    if (done_ && account == Account::kOnTheWay) return "";  // the last account is there already
    const double now = core::monotonic_seconds();
    add_wait(now);
    close_stage(now);
    now_known = activity_;
    now_known.seconds = now - config_.zero;
    for (const auto& lane : lanes_) now_known.lanes.push_back(lane.spans);
  }
  now_known.seen_utc = core::utc_now();
  now_known.journal = config_.journal_seconds();
  now_known.peak_memory = static_cast<double>(device::peak_host_bytes());
  const std::string line = to_json_line(now_known);
  write(line);
  return line;
}

// Renamed over the old file, so that a reader finds a whole one; not through core's writers, whose syncs and
// planted faults are for results.
void Recorder::write(const std::string& line) {
  const std::string temporary = config_.path + ".tmp";
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file << earlier_ << line << "\n";
  file.close();
  std::error_code error;
  if (file) std::filesystem::rename(temporary, config_.path, error);
  if (!file || error) {
    std::filesystem::remove(temporary, error);
    core::log::debug("{} cannot be written; the report will not show this rank's work", config_.path);
  }
}

}  // namespace muster::phases
