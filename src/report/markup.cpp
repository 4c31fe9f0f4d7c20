// SPDX-License-Identifier: Apache-2.0
#include "report/markup.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "muster/core/clock.h"
#include "muster/formats/utf8.h"

namespace muster::report {
namespace {

constexpr double kLegendRow = 18, kLegendBox = 10;

// Ours alone are ASCII, so bytes 0x80 to 0xbf are never the start of a character.
bool starts_character(char c) {
  return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
}

std::string hint_element(std::string_view hint) {
  return hint.empty() ? "/>" : fmt::format("><title>{}</title>", escape(hint));
}

struct LegendPlace {
  double x, y;
};

std::vector<LegendPlace> legend_places(double x, const std::vector<std::string>& names, double width) {
  std::vector<LegendPlace> places;
  double at = x, y = 0;
  for (const auto& name : names) {
    const double needed = kLegendBox + 5 + text_width(name) + 16;
    if (at > x && at + needed > width) {
      at = x;
      y += kLegendRow;
    }
    places.push_back({at, y});
    at += needed;
  }
  return places;
}

std::string with_separators(std::string digits) {
  const auto first = digits.front() == '-' ? 1U : 0U;
  for (std::size_t at = std::min(digits.find('.'), digits.size()); at > first + 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

}  // namespace

std::string escape(std::string_view text) {
  std::string valid, out;
  formats::assign_utf8_replaced(text, valid);
  for (const char c : valid) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
          out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
  return out;
}

std::string shortened(std::string_view text, std::size_t characters) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (starts_character(text[at]) && count++ == characters)
      return std::string(text.substr(0, at)) + "\u2026";
  }
  return std::string(text);
}

double text_width(std::string_view text) {
  return 0.56 * kTextSize * static_cast<double>(std::count_if(text.begin(), text.end(), starts_character));
}

std::string number_text(double value) {
  if (!std::isfinite(value)) return "\u2013";
  const double size = std::abs(value);
  if (size >= 1e15) return fmt::format("{:.3g}", value);
  if (size >= 1000 || value == std::floor(value)) return with_separators(fmt::format("{:.0f}", value));
  if (size >= 100) return fmt::format("{:.1f}", value);
  if (size >= 1) return fmt::format("{:.2f}", value);
  return fmt::format("{:.3g}", value);
}

std::string quantity_text(double value, Unit unit) {
  if (unit == Unit::kBytes) return core::human_bytes(value);
  if (unit == Unit::kSeconds) {
    if (value > 0 && value < 0.1) return fmt::format("{:.3g} ms", value * 1e3);
    return value < 1 ? fmt::format("{:.2f}s", value) : core::human_duration(value);
  }
  return number_text(value);
}

std::string coordinate(double value) {
  const double tenths = std::round(value * 10);
  const auto whole = static_cast<long long>(tenths);
  return whole % 10 == 0 ? std::to_string(whole / 10) : fmt::format("{:.1f}", tenths / 10);
}

std::vector<double> ticks(double last, int count) {
  if (!(last > 0) || !std::isfinite(last)) return {0};
  const double rough = last / count, power = std::pow(10, std::floor(std::log10(rough)));
  double step = power * 10;
  for (const double factor : {5.0, 2.0, 1.0}) {
    if (power * factor >= rough) step = power * factor;
  }
  std::vector<double> out;
  for (int i = 0; i * step <= last * (1 + 1e-9); ++i) out.push_back(i * step);
  return out;
}

std::vector<double> time_ticks(double seconds, int count) {
  const double rough = seconds / count;
  if (!(rough > 1)) return ticks(seconds, count);
  for (const double step : {2., 5., 10., 15., 30., 60., 120., 300., 600., 900., 1800., 3600., 7200., 10800.,
                            21600., 43200., 86400.}) {
    if (step < rough) continue;
    std::vector<double> out;
    for (int i = 0; i * step <= seconds; ++i) out.push_back(i * step);
    return out;
  }
  auto days = ticks(seconds / 86400, count);
  for (auto& day : days) day *= 86400;
  return days;
}

std::string time_text(double seconds, double axis_seconds) {
  if (axis_seconds < 180) return fmt::format("{:.6g} s", seconds);
  if (axis_seconds < 3 * 3600) return fmt::format("{:.4g} min", seconds / 60);
  if (axis_seconds < 4 * 86400) return fmt::format("{:.4g} h", seconds / 3600);
  return fmt::format("{:.4g} d", seconds / 86400);
}

std::string colour(std::size_t index) {
  return fmt::format("c{}", index % kColours);
}

Svg::Svg(std::string_view title, double height)
    : out_(fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n", coordinate(kPageWidth),
                       coordinate(height), escape(title))) {}

void Svg::text(double x, double y, std::string_view words, Anchor anchor, std::string_view css_class) {
  const char* side = anchor == Anchor::kMiddle ? " text-anchor=\"middle\""
                     : anchor == Anchor::kEnd  ? " text-anchor=\"end\""
                                               : "";
  out_ += fmt::format("<text x=\"{}\" y=\"{}\"{}{}>{}</text>\n", coordinate(x), coordinate(y), side,
                      css_class.empty() ? "" : fmt::format(" class=\"{}\"", css_class), escape(words));
}

void Svg::line(double x1, double y1, double x2, double y2, std::string_view css_class) {
  path(fmt::format("M{} {}L{} {}", coordinate(x1), coordinate(y1), coordinate(x2), coordinate(y2)),
       css_class);
}

void Svg::rect(double x, double y, double width, double height, std::string_view css_class,
               std::string_view hint) {
  out_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"{}\"{}{}\n", coordinate(x),
                      coordinate(y), coordinate(std::max(width, 0.1)), coordinate(std::max(height, 0.1)),
                      css_class, hint_element(hint), hint.empty() ? "" : "</rect>");
}

void Svg::circle(double x, double y, double radius, std::string_view css_class, std::string_view hint) {
  out_ += fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"{}\"{}{}\n", coordinate(x), coordinate(y),
                      coordinate(radius), css_class, hint_element(hint), hint.empty() ? "" : "</circle>");
}

void Svg::path(const std::string& data, std::string_view css_class, std::string_view hint) {
  out_ += fmt::format("<path d=\"{}\" class=\"{}\"{}{}\n", data, css_class, hint_element(hint),
                      hint.empty() ? "" : "</path>");
}

void Svg::open_group(std::string_view css_class) {
  out_ += fmt::format("<g class=\"{}\">\n", css_class);
}

void Svg::close_group() {
  out_ += "</g>\n";
}

std::string Svg::finish() {
  out_ += "</svg>\n";
  return std::move(out_);
}

double legend_height(double x, const std::vector<std::string>& names, double width) {
  return names.empty() ? 0 : legend_places(x, names, width).back().y + kLegendRow;
}

double draw_legend(Svg& svg, double x, double y, const std::vector<std::string>& names, double width) {
  const auto places = legend_places(x, names, width);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto& place = places[i];
    svg.rect(place.x, y + place.y, kLegendBox, kLegendBox, colour(i));
    svg.text(place.x + kLegendBox + 5, y + place.y + kLegendBox - 1, names[i]);
  }
  return legend_height(x, names, width);
}

}  // namespace muster::report
