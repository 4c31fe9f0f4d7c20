// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "muster/report/report.h"

namespace muster::report {

inline constexpr double kPageWidth = 960;  ///< of every picture, in its own units
inline constexpr double kTextSize = 11;
inline constexpr std::size_t kColours = 10;

/// Any bytes as text of an HTML page or of an attribute: the five special characters become entities, control
/// characters \xNN, bytes that are no UTF-8 U+FFFD.
std::string escape(std::string_view text);
/// Widths for layout, of text at kTextSize: an estimate a little on the wide side.
double text_width(std::string_view text);

enum class Anchor { kStart, kMiddle, kEnd };

/// An inline SVG picture. Shapes take their colours from classes of the page's style sheet, so that one
/// picture serves light, dark and paper.
class Svg {
 public:
  Svg(std::string_view title, double height);
  void text(double x, double y, std::string_view words, Anchor anchor = Anchor::kStart,
            std::string_view css_class = "");
  void line(double x1, double y1, double x2, double y2, std::string_view css_class);
  void rect(double x, double y, double width, double height, std::string_view css_class,
            std::string_view hint = {});
  void circle(double x, double y, double radius, std::string_view css_class, std::string_view hint = {});
  /// A path as it is written in `d`.
  void path(const std::string& data, std::string_view css_class, std::string_view hint = {});
  void open_group(std::string_view css_class);
  void close_group();
  std::string finish();

 private:
  std::string out_;
};

/// A coordinate in as few characters as show.
std::string coordinate(double value);

/// Round values from 0 (or `first`) to at most `last`, about `count` of them.
std::vector<double> ticks(double last, int count);
/// The same for seconds, with steps of the clock; and how to write them: all ticks of an axis in one unit.
std::vector<double> time_ticks(double seconds, int count);
std::string time_text(double seconds, double axis_seconds);

/// Class of the n-th colour.
std::string colour(std::size_t index);

/// A row of coloured squares with names; returns its height.
double draw_legend(Svg& svg, double x, double y, const std::vector<std::string>& names, double width);
double legend_height(double x, const std::vector<std::string>& names, double width);

std::string draw(const Timeline& timeline);
std::string draw(const Bars& bars);
std::string draw(const Histogram& histogram);
std::string draw(const Curves& curves);
std::string draw(const Map& map);

}  // namespace muster::report
