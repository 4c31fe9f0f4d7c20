// SPDX-License-Identifier: Apache-2.0
// Bars, histograms and curves.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "report/markup.h"

namespace muster::report {
namespace {

constexpr std::size_t kMostBars = 48;  // more are shown as so many averages of neighbours
constexpr double kTop = 8, kAxis = 34, kRight = 26, kPlotHeight = 220;

double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

/// A frame with the value axis at the left and room for the other one below.
struct Plot {
  double left, right, top, bottom, most;
  double y(double value) const { return bottom - (bottom - top) * value / most; }
};

Plot draw_value_axis(Svg& svg, double most, double top, std::string_view label) {
  const auto marks = ticks(most, 5);
  double label_width = 0;
  for (const double mark : marks) label_width = std::max(label_width, text_width(number_text(mark)));
  const Plot plot{.left = label_width + 12,
                  .right = kPageWidth - kRight,
                  .top = top + 18,
                  .bottom = top + 18 + kPlotHeight,
                  .most = most};
  svg.text(0, top + 9, label, Anchor::kStart, "tick");
  for (const double mark : marks) {
    svg.line(plot.left, plot.y(mark), plot.right, plot.y(mark), "grid");
    svg.text(plot.left - 6, plot.y(mark) + 4, number_text(mark), Anchor::kEnd, "tick");
  }
  return plot;
}

/// So many bars that each can be read: neighbours become their average.
std::vector<Bar> few_bars(const std::vector<Bar>& bars) {
  const std::size_t together = (bars.size() + kMostBars - 1) / kMostBars;
  if (together <= 1) return bars;
  std::vector<Bar> few;
  for (std::size_t first = 0; first < bars.size(); first += together) {
    const std::size_t end = std::min(first + together, bars.size());
    Bar bar{.label = end - first > 1 ? fmt::format("{} \u2013 {}", bars[first].label, bars[end - 1].label)
                                     : bars[first].label,
            .parts = std::vector<double>(bars[first].parts.size(), 0.0),
            .hint = {}};
    for (std::size_t i = first; i < end; ++i) {
      for (std::size_t p = 0; p < std::min(bar.parts.size(), bars[i].parts.size()); ++p)
        bar.parts[p] += bars[i].parts[p] / static_cast<double>(end - first);
    }
    few.push_back(std::move(bar));
  }
  return few;
}

std::string part_hint(const Bars& bars, const Bar& bar, std::size_t part) {
  const std::string name = part < bars.parts.size() ? bars.parts[part] : "";
  return fmt::format("{}{}{}: {}{}{}", bar.label, name.empty() ? "" : ", ", name,
                     quantity_text(bar.parts[part], bars.unit), bar.hint.empty() ? "" : "\n", bar.hint);
}

}  // namespace

std::string draw(const Bars& bars) {
  const auto few = few_bars(bars.bars);
  double most = bars.mark ? bars.mark->value : 0, label_width = 0;
  for (const auto& bar : few) {
    most = std::max(most, sum(bar.parts));
    label_width = std::max(label_width, text_width(bar.label));
  }
  if (!(most > 0)) most = 1;
  const double left = std::min(label_width + 14, 260.0), value_room = 76;
  const double width = kPageWidth - left - value_room;
  const double step = few.size() <= 16 ? 22 : 15, gap = few.size() <= 16 ? 5 : 3;
  const bool named_parts = bars.parts.size() > 1;
  const double legend =
      (named_parts ? legend_height(left, bars.parts, kPageWidth) : 0) + (bars.mark ? 16 : 0);
  const double height = legend + kTop + step * static_cast<double>(few.size());

  Svg svg(bars.title, height + 4);
  if (named_parts) draw_legend(svg, left, 0, bars.parts, kPageWidth);
  for (std::size_t i = 0; i < few.size(); ++i) {
    const auto& bar = few[i];
    const double y = legend + kTop + step * static_cast<double>(i), thick = step - gap;
    svg.text(left - 8, y + thick / 2 + 4, shortened(bar.label, 40), Anchor::kEnd);
    double x = left;
    for (std::size_t part = 0; part < bar.parts.size(); ++part) {
      const double length = bar.parts[part] / most * width;
      if (length > 0) svg.rect(x, y, length, thick, colour(part), part_hint(bars, bar, part));
      x += length;
    }
    const double mark = bars.mark ? left + bars.mark->value / most * width : 0;
    if (mark > x - 2 && mark < x + value_room) x = mark;  // the line must not cross the figure
    svg.text(x + 6, y + thick / 2 + 4, quantity_text(sum(bar.parts), bars.unit), Anchor::kStart, "tick");
  }
  if (bars.mark) {
    const double x = left + bars.mark->value / most * width;
    svg.line(x, legend, x, height, "mark");
    svg.text(x, legend - 4, fmt::format("{} {}", bars.mark->name, quantity_text(bars.mark->value, bars.unit)),
             x > kPageWidth * 0.8   ? Anchor::kEnd
             : x < kPageWidth * 0.2 ? Anchor::kStart
                                    : Anchor::kMiddle,
             "tick");
  }
  return svg.finish();
}

std::string draw(const Histogram& histogram) {
  std::size_t bins = 0;
  for (const auto& part : histogram.counts) bins = std::max(bins, part.size());
  double most = 0;
  const auto count = [&](std::size_t part, std::size_t bin) {
    return bin < histogram.counts[part].size() ? histogram.counts[part][bin] : 0;
  };
  for (std::size_t bin = 0; bin < bins; ++bin) {
    double all = 0;
    for (std::size_t part = 0; part < histogram.counts.size(); ++part) all += count(part, bin);
    most = std::max(most, all);
  }
  const bool named_parts = histogram.parts.size() > 1;
  const double legend = named_parts ? legend_height(0, histogram.parts, kPageWidth) : 0;
  Svg svg(histogram.title, legend + kTop + 18 + kPlotHeight + kAxis);
  if (named_parts) draw_legend(svg, 0, 0, histogram.parts, kPageWidth);
  const Plot plot = draw_value_axis(svg, std::max(most, 1.0), legend + kTop, histogram.y_label);
  const double step = (plot.right - plot.left) / static_cast<double>(std::max<std::size_t>(bins, 1));
  for (std::size_t bin = 0; bin < bins; ++bin) {
    double below = 0;
    for (std::size_t part = 0; part < histogram.counts.size(); ++part) {
      const double value = count(part, bin);
      if (!(value > 0)) continue;
      const double x0 = histogram.first + histogram.width * static_cast<double>(bin);
      svg.rect(plot.left + step * static_cast<double>(bin), plot.y(below + value), step * 0.92,
               plot.y(below) - plot.y(below + value), colour(part),
               fmt::format("{} to {} {}: {}{}{}", number_text(x0), number_text(x0 + histogram.width),
                           histogram.x_label, number_text(value), named_parts ? " " : "",
                           named_parts ? histogram.parts[part] : ""));
      below += value;
    }
  }
  const double range = histogram.width * static_cast<double>(bins);
  for (const double tick : ticks(range, 8)) {
    svg.text(plot.left + tick / std::max(range, 1e-30) * (plot.right - plot.left), plot.bottom + 15,
             number_text(histogram.first + tick), Anchor::kMiddle, "tick");
  }
  svg.text((plot.left + plot.right) / 2, plot.bottom + 30, histogram.x_label, Anchor::kMiddle, "tick");
  return svg.finish();
}

std::string draw(const Curves& curves) {
  double most = 0, seconds = 0;
  std::vector<std::string> names;
  for (const auto& series : curves.series) {
    names.push_back(series.name);
    for (const auto& point : series.points) {
      most = std::max(most, point.y);
      seconds = std::max(seconds, point.x);
    }
  }
  if (!(seconds > 0)) seconds = 1;
  const double legend = names.size() > 1 ? legend_height(0, names, kPageWidth) : 0;
  Svg svg(curves.title, legend + kTop + 18 + kPlotHeight + kAxis - (curves.x_label.empty() ? 10 : 0));
  if (names.size() > 1) draw_legend(svg, 0, 0, names, kPageWidth);
  const Plot plot = draw_value_axis(svg, most > 0 ? most * 1.04 : 1, legend + kTop, curves.y_label);
  const auto x_of = [&](double x) { return plot.left + x / seconds * (plot.right - plot.left); };
  const bool timed = curves.x_label.empty();
  for (const double tick : timed ? time_ticks(seconds, 10) : ticks(seconds, 10))
    svg.text(x_of(tick), plot.bottom + 15, timed ? time_text(tick, seconds) : number_text(tick),
             Anchor::kMiddle, "tick");
  if (!timed)
    svg.text((plot.left + plot.right) / 2, plot.bottom + 30, curves.x_label, Anchor::kMiddle, "tick");
  for (std::size_t s = 0; s < curves.series.size(); ++s) {
    const auto& points = curves.series[s].points;
    if (points.empty()) continue;
    std::string line,
        area = fmt::format("M{} {}", coordinate(x_of(points.front().x)), coordinate(plot.bottom));
    for (const auto& point : points) {
      const std::string at = fmt::format("{} {}", coordinate(x_of(point.x)), coordinate(plot.y(point.y)));
      line += (line.empty() ? "M" : "L") + at;
      area += "L" + at;
    }
    area += fmt::format("L{} {}Z", coordinate(x_of(points.back().x)), coordinate(plot.bottom));
    if (curves.series.size() == 1) svg.path(area, colour(s) + " s1");
    svg.path(line, fmt::format("l{} curve", s % kColours));
  }
  for (const auto& mark : curves.marks) {
    svg.line(x_of(mark.value), plot.top - 4, x_of(mark.value), plot.bottom, "mark");
    svg.text(x_of(mark.value) + 4, plot.top + 2, mark.name, Anchor::kStart, "tick");
  }
  return svg.finish();
}

}  // namespace muster::report
