// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/rank_activity.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <filesystem>

#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "muster/formats/json.h"
#include "muster/formats/utf8.h"

namespace muster::phases {
namespace {

constexpr int kVersion = 1;
constexpr std::size_t kLongestKind = 160;
constexpr const char* kOtherKinds = "other reasons";

// A message may hold bytes of a text that are no UTF-8.
std::string json_string(std::string_view text) {
  std::string valid;
  formats::assign_utf8_replaced(text, valid);
  return core::json_quote(valid);
}

template <class Range>
std::string number_list(const Range& numbers) {
  std::string out = "[";
  for (const auto& number : numbers) out += fmt::format("{}{}", out.size() > 1 ? "," : "", number);
  return out + "]";
}

// Trailing zeros of a histogram say nothing.
std::string histogram_json(const DoublingHistogram& histogram) {
  auto end = histogram.counts().end();
  while (end != histogram.counts().begin() && *(end - 1) == 0) --end;
  return fmt::format(R"({{"width":{},"counts":{}}})", histogram.width(),
                     number_list(std::vector<std::uint64_t>(histogram.counts().begin(), end)));
}

DoublingHistogram histogram_from(const formats::JsonValue& json) {
  return DoublingHistogram::from(json.get<std::uint64_t>("width"),
                                 json.at("counts").as_list<std::uint64_t>());
}

std::string spans_json(const std::vector<WorkSpan>& spans) {
  std::string out = "[";
  for (const auto& span : spans) {
    out += fmt::format("{}[{:.4f},{:.4f},{:.4f},{},{},{}]", out.size() > 1 ? "," : "", span.begin, span.end,
                       span.busy, span.batches, span.items, span.length);
  }
  return out + "]";
}

WorkSpan span_from(const formats::JsonValue& json) {
  if (json.size() != 6) json.fail("is no span of work");
  return {.begin = json.element(0).as<double>(),
          .end = json.element(1).as<double>(),
          .busy = json.element(2).as<double>(),
          .batches = json.element(3).as<std::uint64_t>(),
          .items = json.element(4).as<std::uint64_t>(),
          .length = json.element(5).as<std::uint64_t>()};
}

std::string stages_json(const RankActivity& activity) {
  std::string out = "[";
  for (const auto& [begin, end] : activity.stages)
    out += fmt::format("{}[{:.4f},{:.4f}]", out.size() > 1 ? "," : "", begin, end);
  return out + "]";
}

void read_who(const formats::JsonValue& json, RankActivity& out) {
  out.start_utc = json.get<std::string>("start");
  out.seen_utc = json.get<std::string>("seen");
  out.state = json.get<std::string>("state");
  out.job = json.get<std::string>("job");
  out.command = json.get<std::string>("command");
  out.host = json.get<std::string>("host");
  out.device = json.get<std::string>("device");
  out.cpu = json.get<std::string>("cpu");
  out.rank = json.get<std::int32_t>("rank");
  out.ranks = json.get<std::int32_t>("ranks");
  out.workers = json.get<std::int32_t>("workers");
  out.cores = json.get<std::int32_t>("cores");
  out.host_memory = json.get<std::uint64_t>("host_memory");
}

void read_counts(const formats::JsonValue& json, RankActivity& out) {
  for (auto [name, number] : {std::pair{"rows", &out.rows},
                              {"done_before", &out.done_before},
                              {"items", &out.items},
                              {"length", &out.length},
                              {"batches", &out.batches},
                              {"truncated", &out.truncated},
                              {"failed", &out.failed},
                              {"batch_budget", &out.batch_budget},
                              {"tile", &out.tile},
                              {"tiled_length", &out.tiled_length}}) {
    *number = json.get<std::uint64_t>(name);
  }
  for (auto [name, number] : {std::pair{"seconds", &out.seconds},
                              {"busy", &out.busy},
                              {"saving", &out.saving},
                              {"journal", &out.journal},
                              {"flops", &out.flops},
                              {"expected_rate", &out.expected_rate},
                              {"predicted_memory", &out.predicted_memory},
                              {"peak_memory", &out.peak_memory}}) {
    *number = json.get<double>(name);
  }
}

void read_lists(const formats::JsonValue& json, RankActivity& out) {
  const auto stages = json.at("stages"), waits = json.at("waits");
  if (stages.size() != kStages || waits.size() != kWaits) json.fail("has another number of stages or waits");
  for (std::size_t i = 0; i < kStages; ++i)
    out.stages[i] = {stages.element(i).element(0).as<double>(), stages.element(i).element(1).as<double>()};
  for (std::size_t i = 0; i < kWaits; ++i) out.waits[i] = waits.element(i).as<double>();
  out.fill = json.at("fill").as_list<std::uint64_t>();
  out.lengths = histogram_from(json.at("lengths"));
  out.truncated_lengths = histogram_from(json.at("truncated_lengths"));
  for (const auto& lane : json.at("lanes").elements()) {
    auto& spans = out.lanes.emplace_back();
    for (const auto& span : lane.elements()) spans.push_back(span_from(span));
  }
  for (const auto& failure : json.at("first_failures").elements())
    out.first_failures.push_back(
        {failure.element(0).as<std::uint64_t>(), failure.element(1).as<std::string>()});
  for (const auto& kind : json.at("failure_kinds").elements())
    out.failure_kinds.emplace_back(kind.element(0).as<std::string>(), kind.element(1).as<std::uint64_t>());
}

}  // namespace

void DoublingHistogram::widen(std::uint64_t width) {
  while (width_ < width) {
    for (std::size_t bin = 0; bin < kBins; ++bin) {
      const std::uint64_t count = std::exchange(counts_[bin], 0);
      counts_[bin / 2] += count;
    }
    width_ *= 2;
  }
}

void DoublingHistogram::add(std::uint64_t value, std::uint64_t count) {
  if (value / width_ >= kBins) widen(std::bit_ceil(value / kBins + 1));
  counts_[value / width_] += count;
}

void DoublingHistogram::add(const DoublingHistogram& other) {
  widen(other.width_);
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    if (other.counts_[bin] > 0) add(bin * other.width_, other.counts_[bin]);
  }
}

DoublingHistogram DoublingHistogram::from(std::uint64_t width, const std::vector<std::uint64_t>& counts) {
  if (!std::has_single_bit(width) || counts.size() > kBins)
    throw core::DataError("a histogram's width is no power of two, or it has too many bins");
  DoublingHistogram out;
  out.width_ = width;
  std::copy(counts.begin(), counts.end(), out.counts_.begin());
  return out;
}

std::string to_json_line(const RankActivity& a) {
  std::string out = fmt::format(
      R"({{"muster_activity":{},"start":{},"seen":{},"state":{},"job":{},"command":{},"host":{},"device":{},"cpu":{})",
      kVersion, json_string(a.start_utc), json_string(a.seen_utc), json_string(a.state), json_string(a.job),
      json_string(a.command), json_string(a.host), json_string(a.device), json_string(a.cpu));
  out += fmt::format(R"(,"rank":{},"ranks":{},"workers":{},"cores":{},"host_memory":{})", a.rank, a.ranks,
                     a.workers, a.cores, a.host_memory);
  out += fmt::format(
      R"(,"rows":{},"done_before":{},"items":{},"length":{},"batches":{},"truncated":{},"failed":{})", a.rows,
      a.done_before, a.items, a.length, a.batches, a.truncated, a.failed);
  out += fmt::format(R"(,"batch_budget":{},"tile":{},"tiled_length":{})", a.batch_budget, a.tile,
                     a.tiled_length);
  out += fmt::format(R"(,"seconds":{:.4f},"busy":{:.4f},"saving":{:.4f},"journal":{:.4f})", a.seconds, a.busy,
                     a.saving, a.journal);
  out +=
      fmt::format(R"(,"flops":{:.9g},"expected_rate":{:.9g},"predicted_memory":{:.0f},"peak_memory":{:.0f})",
                  a.flops, a.expected_rate, a.predicted_memory, a.peak_memory);
  out += fmt::format(R"(,"stages":{},"waits":{},"fill":{})", stages_json(a), number_list(a.waits),
                     number_list(a.fill));
  out += fmt::format(R"(,"lengths":{},"truncated_lengths":{},"lanes":[)", histogram_json(a.lengths),
                     histogram_json(a.truncated_lengths));
  for (const auto& lane : a.lanes) out += (out.back() == '[' ? "" : ",") + spans_json(lane);
  out += R"(],"first_failures":[)";
  for (const auto& failure : a.first_failures)
    out += fmt::format("{}[{},{}]", out.back() == '[' ? "" : ",", failure.row, json_string(failure.reason));
  out += R"(],"failure_kinds":[)";
  for (const auto& [kind, count] : a.failure_kinds)
    out += fmt::format("{}[{},{}]", out.back() == '[' ? "" : ",", json_string(kind), count);
  return out + "]}";
}

std::optional<RankActivity> from_json_line(std::string_view line) {
  try {
    const auto json = formats::parse_json(line, "activity");
    if (json.get<std::int32_t>("muster_activity") != kVersion) return std::nullopt;
    RankActivity out;
    read_who(json, out);
    read_counts(json, out);
    read_lists(json, out);
    return out;
  } catch (const core::DataError&) {
    return std::nullopt;  // torn by a kill, or edited: the report does without
  }
}

std::string failure_kind(std::string_view reason) {
  std::string kind;
  bool in_number = false;
  for (const char c : reason.substr(0, 4 * kLongestKind)) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit || !in_number) kind += digit ? '#' : c;
    in_number = digit;
    if (kind.size() == kLongestKind) break;
  }
  return kind;
}

void count_kind(std::vector<std::pair<std::string, std::uint64_t>>& kinds, const std::string& kind,
                std::uint64_t count) {
  const auto named = [&](const std::string& name) {
    return std::find_if(kinds.begin(), kinds.end(), [&](const auto& known) { return known.first == name; });
  };
  auto found = named(kind);
  if (found == kinds.end() && kinds.size() >= kMostKinds) found = named(kOtherKinds);
  if (found == kinds.end()) {
    kinds.emplace_back(kinds.size() >= kMostKinds ? kOtherKinds : kind, count);
  } else {
    found->second += count;
  }
}

std::string activity_file(const std::string& directory, int rank) {
  return (std::filesystem::path(directory) / "logs" / fmt::format("activity_{:05d}.jsonl", rank)).string();
}

void forget_activity(const std::string& directory) {
  std::error_code error;
  std::vector<std::filesystem::path> old{std::filesystem::path(directory) / "report.html"};
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(directory) / "logs", error)) {
    if (entry.path().filename().string().starts_with("activity_")) old.push_back(entry.path());
  }
  for (const auto& path : old) std::filesystem::remove(path, error);
}

}  // namespace muster::phases
