// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace muster::phases {

/// The stages of a start, one after another; a rank that did not get to one has no times for it.
enum class Stage : std::uint8_t { kStarting, kLoading, kComputing, kPublishing, kCount };
inline constexpr auto kStages = static_cast<std::size_t>(Stage::kCount);

/// What a rank's main thread does while a worker has nothing to do: why the worker waits.
enum class WaitsFor : std::uint8_t { kInput, kPreparing, kRanks, kEnd, kOther, kCount };
inline constexpr auto kWaits = static_cast<std::size_t>(WaitsFor::kCount);

/// Counts of values in bins of equal width from 0. The width doubles when a value lies beyond the last bin,
/// so any values fit and histograms of many ranks add up exactly.
class DoublingHistogram {
 public:
  static constexpr std::size_t kBins = 64;
  void add(std::uint64_t value, std::uint64_t count = 1);
  void add(const DoublingHistogram& other);
  std::uint64_t width() const { return width_; }
  const std::array<std::uint64_t, kBins>& counts() const { return counts_; }
  /// `width` becomes a power of two at least as large.
  void widen(std::uint64_t width);
  static DoublingHistogram from(std::uint64_t width, const std::vector<std::uint64_t>& counts);

 private:
  std::uint64_t width_ = 1;
  std::array<std::uint64_t, kBins> counts_{};
};

/// One or several consecutive micro-batches of a worker. Seconds count from the start of the job's start.
struct WorkSpan {
  double begin = 0, end = 0;
  double busy = 0;
  std::uint64_t batches = 0, items = 0, length = 0;
};

struct FailureNote {
  std::uint64_t row = 0;
  std::string reason;
};

/// What one rank did in one start of a job: a line of logs/activity_RRRRR.jsonl.
struct RankActivity {
  std::string start_utc;  ///< rank 0's, the same on all ranks: names the start
  std::string seen_utc;   ///< when this was written
  std::string state;      ///< running, done, stopped, or why it ended
  std::string job, command, host, device, cpu;
  int rank = 0, ranks = 1, workers = 1, cores = 0;
  std::uint64_t host_memory = 0;
  std::uint64_t rows = 0, done_before = 0;  ///< items of the whole job, and how many earlier starts had done
  double seconds = 0;                       ///< since the start began
  std::array<std::pair<double, double>, kStages> stages{};  ///< begin and end; equal: not reached
  std::array<double, kWaits> waits{};                       ///< seconds, summed over workers
  double busy = 0, saving = 0;                              ///< seconds, summed over workers
  double journal = 0;                                       ///< seconds of the thread that commits
  std::uint64_t items = 0, length = 0, batches = 0, truncated = 0, failed = 0;
  double flops = 0, expected_rate = 0;  ///< of a worker, a second; 0: unknown
  double predicted_memory = 0, peak_memory = 0;
  std::uint64_t batch_budget = 0, tile = 1,
                tiled_length = 0;   ///< length with the last tile of each batch filled up
  std::vector<std::uint64_t> fill;  ///< batches by how full they are, in twentieths
  DoublingHistogram lengths, truncated_lengths;
  std::vector<std::vector<WorkSpan>> lanes;  ///< by worker
  std::vector<FailureNote> first_failures;
  std::vector<std::pair<std::string, std::uint64_t>> failure_kinds;

  double stage_seconds(Stage stage) const {
    const auto& [begin, end] = stages[static_cast<std::size_t>(stage)];
    return end - begin;
  }
};

std::string to_json_line(const RankActivity& activity);
/// nullopt for a line that is torn or of another version.
std::optional<RankActivity> from_json_line(std::string_view line);

/// Failures of one kind differ in numbers only: digits become #, and a long reason is cut.
std::string failure_kind(std::string_view reason);
inline constexpr std::size_t kMostKinds = 200;  ///< beyond it a kind counts as "other reasons"
void count_kind(std::vector<std::pair<std::string, std::uint64_t>>& kinds, const std::string& kind,
                std::uint64_t count);

std::string activity_file(const std::string& directory, int rank);
/// A new job begins in the directory: what is told about earlier ones goes.
void forget_activity(const std::string& directory);

}  // namespace muster::phases
