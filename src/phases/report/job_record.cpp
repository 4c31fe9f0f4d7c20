// SPDX-License-Identifier: Apache-2.0
#include "phases/report/job_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

#include "muster/core/error.h"
#include "muster/core/file.h"
#include "muster/core/strings.h"
#include "muster/formats/json.h"

namespace muster::phases {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxActivityBytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kMaxYamlBytes = std::uint64_t{1} << 24;
constexpr std::uint64_t kLinesRead = 100'000;  // of a list of failures; the rest is counted only
constexpr std::size_t kFirstNamed = 50;

using Starts = std::map<std::string, std::map<int, RankActivity>>;  ///< by time, then rank

void add_line(std::string_view line, Starts& starts) {
  auto activity = from_json_line(line);
  if (!activity) return;
  auto& ranks = starts[activity->start_utc];
  const int rank = activity->rank;
  ranks.insert_or_assign(rank, std::move(*activity));
}

void read_activity_files(const std::string& directory, Starts& starts) {
  std::error_code error;
  for (fs::directory_iterator it(fs::path(directory) / "logs", error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with("activity_") || !name.ends_with(".jsonl")) continue;
    const std::string text = core::read_file(it->path().string(), kMaxActivityBytes);
    for (const auto& line : core::split(text, '\n')) add_line(line, starts);
  }
}

std::string text_of(const formats::JsonValue& json, std::string_view key) {
  const auto value = json.find(key);
  if (!value || value->is_null()) return "";
  return value->is_string() ? value->as<std::string>() : std::to_string(value->as<std::uint64_t>());
}

Mishap mishap_of(const std::string& line, const std::string& path) {
  const auto json = formats::parse_json(line, path);
  const std::string file = text_of(json, "file");
  return {.where = fmt::format("{}line {}", file.empty() ? "" : file + " ", text_of(json, "line")),
          .id = text_of(json, "id"),
          .reason = text_of(json, "reason")};
}

Mishaps read_mishaps(const std::string& path) {
  Mishaps out;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (++out.count > kLinesRead) continue;
    try {
      auto mishap = mishap_of(line, path);
      count_kind(out.kinds, failure_kind(mishap.reason), 1);
      ++out.read;
      if (out.first.size() < kFirstNamed) out.first.push_back(std::move(mishap));
    } catch (const core::DataError&) {
      continue;  // a damaged line still counts
    }
  }
  return out;
}

/// An unfinished job has no failures.jsonl yet; its ranks remember some.
Mishaps failures_of_starts(const std::vector<StartRecord>& starts) {
  Mishaps out;
  for (const auto& start : starts) {
    for (const auto& rank : start.ranks) {
      out.count += rank.failed;
      out.read += rank.failed;
      for (const auto& [kind, count] : rank.failure_kinds) count_kind(out.kinds, kind, count);
      for (const auto& failure : rank.first_failures) {
        if (out.first.size() < kFirstNamed)
          out.first.push_back(
              {.where = fmt::format("item {}", failure.row), .id = "", .reason = failure.reason});
      }
    }
  }
  return out;
}

void sort_kinds(Mishaps& mishaps) {
  std::stable_sort(mishaps.kinds.begin(), mishaps.kinds.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
}

std::string job_of(const JobRecord& record) {
  if (record.manifest) return record.manifest->job;
  for (const auto& start : record.starts) {
    if (!start.ranks.empty()) return start.ranks.front().job;
  }
  return "";
}

template <class Number>
Number largest(const std::vector<RankActivity>& ranks, Number (*of)(const RankActivity&)) {
  Number most = 0;
  for (const auto& rank : ranks) most = std::max(most, of(rank));
  return most;
}

template <class Number>
Number total(const std::vector<RankActivity>& ranks, Number RankActivity::*member) {
  Number sum = 0;
  for (const auto& rank : ranks) sum += rank.*member;
  return sum;
}

}  // namespace

double StartRecord::seconds() const {
  return largest<double>(ranks, [](const RankActivity& rank) { return rank.seconds; });
}

double StartRecord::computing() const {
  return largest<double>(ranks,
                         [](const RankActivity& rank) { return rank.stage_seconds(Stage::kComputing); });
}

std::uint64_t StartRecord::items() const {
  return total(ranks, &RankActivity::items);
}

std::uint64_t StartRecord::length() const {
  return total(ranks, &RankActivity::length);
}

double StartRecord::busy() const {
  return total(ranks, &RankActivity::busy);
}

int StartRecord::workers() const {
  return total(ranks, &RankActivity::workers);
}

// A rank that was killed wrote no end; one that says why it ended explains the others.
std::string StartRecord::state() const {
  std::string state = "done";
  for (const auto& rank : ranks) {
    if (rank.state == "running" && state == "done") state = "no end was written";
    if (rank.state == "stopped" && state == "done") state = "stopped";
    if (rank.state != "running" && rank.state != "stopped" && rank.state != "done")
      return fmt::format("rank {}: {}", rank.rank, rank.state);
  }
  return state;
}

std::string JobRecord::fact(const std::string& name) const {
  if (!manifest) return "";
  const auto found = manifest->facts.find(name);
  return found == manifest->facts.end() ? "" : found->second;
}

std::uint64_t JobRecord::rows() const {
  if (const auto rows = fact("rows"); !rows.empty()) return std::stoull(rows);
  return starts.empty() || starts.back().ranks.empty() ? 0 : starts.back().ranks.front().rows;
}

std::uint64_t JobRecord::items_done() const {
  if (manifest) return rows();
  if (starts.empty() || starts.back().ranks.empty()) return 0;
  return std::min(starts.back().ranks.front().done_before + starts.back().items(), rows());
}

JobRecord read_job_record(const std::string& directory, const std::vector<std::string>& accounts) {
  JobRecord record{
      .directory = directory, .job = {}, .manifest = io::read_manifest(directory), .resolved = {}};
  Starts starts;
  read_activity_files(directory, starts);
  for (const auto& account : accounts) add_line(account, starts);
  for (auto& [utc, ranks] : starts) {
    auto& start = record.starts.emplace_back(StartRecord{.utc = utc, .ranks = {}});
    for (auto& [rank, activity] : ranks) start.ranks.push_back(std::move(activity));
  }
  if (!record.manifest && record.starts.empty()) {
    throw core::DataError(fmt::format(
        "{} has neither manifest.json nor logs/activity_*.jsonl: it is no output directory of a job",
        directory));
  }
  const fs::path root(directory);
  if (fs::exists(root / "resolved.yaml"))
    record.resolved = core::read_file((root / "resolved.yaml").string(), kMaxYamlBytes);
  record.failures = fs::exists(root / "failures.jsonl") ? read_mishaps((root / "failures.jsonl").string())
                    : record.manifest                   ? Mishaps{}
                                                        : failures_of_starts(record.starts);
  record.rejects = read_mishaps((root / "rejects.jsonl").string());
  sort_kinds(record.failures);
  sort_kinds(record.rejects);
  record.job = job_of(record);
  return record;
}

}  // namespace muster::phases
