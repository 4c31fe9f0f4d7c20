// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "report/markup.h"

namespace muster::report {
namespace {

constexpr std::size_t kMostRows = 128;  // more lanes are drawn by group, more groups by several together
constexpr std::size_t kMostSingleSpans = 2500;  // of a picture; more are drawn as shades of equal bins
constexpr std::size_t kBins = 240;
constexpr int kShades = 5;
constexpr double kTop = 6, kAxis = 20, kRight = 30, kMostPicture = 460;

/// A lane as it is drawn: either its spans, or what share of each bin each kind takes.
struct Row {
  std::string label;
  std::vector<const Span*> spans;
  std::vector<std::array<float, kBins>> share;  ///< by kind
  std::size_t lanes = 0;
};

void add_to_bins(Row& row, const Lane& lane, const Timeline& timeline) {
  row.share.resize(timeline.kinds.size(), std::array<float, kBins>{});
  const double width = timeline.seconds / kBins;
  for (const auto& span : lane.spans) {
    if (span.kind >= row.share.size() || !(span.end > span.begin)) continue;
    auto& bins = row.share[span.kind];
    const auto last = static_cast<std::size_t>(std::clamp(span.end / width, 0.0, kBins - 1.0));
    for (auto bin = static_cast<std::size_t>(std::clamp(span.begin / width, 0.0, kBins - 1.0)); bin <= last;
         ++bin) {
      const double left = static_cast<double>(bin) * width;
      const double covered = std::min(span.end, left + width) - std::max(span.begin, left);
      bins[bin] += static_cast<float>(span.share * std::max(covered, 0.0) / width);
    }
  }
  ++row.lanes;
}

void average(Row& row) {
  for (auto& bins : row.share) {
    for (auto& bin : bins) bin /= static_cast<float>(row.lanes);
  }
}

std::vector<Row> single_rows(const Timeline& timeline) {
  std::vector<Row> rows;
  for (const auto& lane : timeline.lanes) {
    Row row{.label = lane.label, .spans = {}, .share = {}};
    for (const auto& span : lane.spans) row.spans.push_back(&span);
    rows.push_back(std::move(row));
  }
  return rows;
}

/// Lanes in bins, `groups_a_row` consecutive groups together; 0: every lane for itself.
std::vector<Row> binned_rows(const Timeline& timeline, std::size_t groups_a_row) {
  std::vector<Row> rows;
  std::string group;
  std::size_t groups = 0;
  for (const auto& lane : timeline.lanes) {
    const bool new_group = groups == 0 || lane.group != group;
    if (new_group) ++groups;
    const bool new_row = groups_a_row == 0 || (new_group && (groups - 1) % groups_a_row == 0);
    if (new_row) {
      rows.push_back({.label = groups_a_row == 0 ? lane.label : lane.group, .spans = {}, .share = {}});
    } else if (new_group) {
      auto& label = rows.back().label;
      label = fmt::format("{} \u2013 {}", label.substr(0, label.find(" \u2013 ")), lane.group);
    }
    group = lane.group;
    add_to_bins(rows.back(), lane, timeline);
  }
  for (auto& row : rows) average(row);
  return rows;
}

std::size_t count_groups(const Timeline& timeline) {
  std::size_t groups = 0;
  const std::string* last = nullptr;
  for (const auto& lane : timeline.lanes) {
    if (last == nullptr || *last != lane.group) ++groups;
    last = &lane.group;
  }
  return groups;
}

std::vector<Row> rows_of(const Timeline& timeline) {
  std::size_t spans = 0;
  for (const auto& lane : timeline.lanes) spans += lane.spans.size();
  if (timeline.lanes.size() > kMostRows) {
    const std::size_t groups = count_groups(timeline);
    return binned_rows(timeline, (groups + kMostRows - 1) / kMostRows);
  }
  return spans > kMostSingleSpans ? binned_rows(timeline, 0) : single_rows(timeline);
}

std::string shade_class(std::size_t kind, double share) {
  const int shade = std::clamp(static_cast<int>(std::ceil(share * kShades - 0.05)), 1, kShades);
  return shade == kShades ? colour(kind) : fmt::format("{} s{}", colour(kind), shade);
}

/// Neighbouring bins of one shade are one piece.
void draw_bins(Svg& svg, const Row& row, double left, double width, double y, double height) {
  const double step = width / kBins;
  for (std::size_t kind = 0; kind < row.share.size(); ++kind) {
    const auto& bins = row.share[kind];
    for (std::size_t bin = 0; bin < kBins;) {
      const std::string shade = bins[bin] > 0.01F ? shade_class(kind, bins[bin]) : "";
      std::size_t end = bin + 1;
      while (end < kBins && (bins[end] > 0.01F ? shade_class(kind, bins[end]) : "") == shade) ++end;
      if (!shade.empty()) {
        svg.rect(left + static_cast<double>(bin) * step, y, static_cast<double>(end - bin) * step, height,
                 shade);
      }
      bin = end;
    }
  }
}

void draw_spans(Svg& svg, const Row& row, double left, double per_second, double y, double height) {
  for (const auto* span : row.spans) {
    svg.rect(left + span->begin * per_second, y, std::max((span->end - span->begin) * per_second, 0.4),
             height, shade_class(span->kind, span->share), span->hint);
  }
}

}  // namespace

std::string draw(const Timeline& timeline) {
  const auto rows = rows_of(timeline);
  double label_width = 0;
  for (const auto& row : rows) label_width = std::max(label_width, text_width(row.label));
  const double left = std::min(label_width + 14, 240.0), width = kPageWidth - left - kRight;
  const double step =
      std::clamp(kMostPicture / std::max<double>(static_cast<double>(rows.size()), 1), 3.5, 22.0);
  const double gap = step > 12 ? 4 : step > 6 ? 2 : 0.5;
  const auto labels_apart = static_cast<std::size_t>(std::ceil(13 / step));
  const double legend = legend_height(left, timeline.kinds, kPageWidth);
  const double bottom = legend + kTop + step * static_cast<double>(rows.size());
  const double seconds = std::max(timeline.seconds, 1e-9);

  Svg svg(timeline.title, bottom + kAxis);
  draw_legend(svg, left, 0, timeline.kinds, kPageWidth);
  for (const double tick : time_ticks(seconds, 10)) {
    const double x = left + tick / seconds * width;
    svg.line(x, legend + kTop, x, bottom, "grid");
    svg.text(x, bottom + 14, time_text(tick, seconds), Anchor::kMiddle, "tick");
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double y = legend + kTop + step * static_cast<double>(i);
    if (i % labels_apart == 0)
      svg.text(left - 8, y + std::min(step - gap, 15.0) / 2 + 4, shortened(rows[i].label, 36), Anchor::kEnd);
    svg.rect(left, y, width, step - gap, "lane");
    if (rows[i].share.empty()) {
      draw_spans(svg, rows[i], left, width / seconds, y, step - gap);
    } else {
      draw_bins(svg, rows[i], left, width, y, step - gap);
    }
  }
  return svg.finish();
}

}  // namespace muster::report
