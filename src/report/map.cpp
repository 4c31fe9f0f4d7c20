// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "report/markup.h"

namespace muster::report {
namespace {

constexpr double kMargin = 16, kLegendWidth = 170, kPictureHeight = 640, kLegendStep = 18;
constexpr double kLabelSize = 13;                             // of .label in the style sheet
constexpr std::size_t kMapColours = 8;                        // then they come again in another shape
constexpr std::size_t kFewNeighbours = 3, kShareOfGroup = 5;  // a fifth of a group says how dense a place is
constexpr std::size_t kOutside = 200;        // one point in so many, at each end, may lie outside
constexpr float kAround = 0.06F;             // of the range of the others is drawn around them
constexpr std::size_t kDensitySample = 400;  // points of a group that may become its label's place

struct Place {
  double x, y;
};

enum class Shape { kCircle, kSquare, kTriangle, kDiamond };

struct Style {
  std::string css_class;
  Shape shape = Shape::kCircle;
  double radius = 3;
};

Style style_of(const Map& map, std::size_t group) {
  const double radius = map.points.size() > 3000 ? 2.2 : map.points.size() > 600 ? 3 : 4;
  if (map.rest == Rest::kLastGroup && group + 1 == map.groups.size())
    return {.css_class = "rest", .shape = Shape::kCircle, .radius = radius * 0.65};
  return {.css_class = colour(group % kMapColours),
          .shape = static_cast<Shape>(group / kMapColours % 4),
          .radius = radius};
}

void draw_point(Svg& svg, Place at, const Style& style, std::string_view hint) {
  const double r = style.radius;
  const auto xy = [](double x, double y) { return coordinate(x) + " " + coordinate(y); };
  std::string data;
  switch (style.shape) {
    case Shape::kCircle:
      svg.circle(at.x, at.y, r, "p", hint);
      return;
    case Shape::kSquare:
      data = fmt::format("M{}h{}v{}h-{}z", xy(at.x - r * 0.9, at.y - r * 0.9), coordinate(1.8 * r),
                         coordinate(1.8 * r), coordinate(1.8 * r));
      break;
    case Shape::kTriangle:
      data = fmt::format("M{}L{}L{}z", xy(at.x, at.y - 1.2 * r), xy(at.x + 1.1 * r, at.y + 0.8 * r),
                         xy(at.x - 1.1 * r, at.y + 0.8 * r));
      break;
    case Shape::kDiamond:
      data = fmt::format("M{}L{}L{}L{}z", xy(at.x, at.y - 1.3 * r), xy(at.x + 1.3 * r, at.y),
                         xy(at.x, at.y + 1.3 * r), xy(at.x - 1.3 * r, at.y));
      break;
  }
  svg.path(data, "p", hint);
}

/// The point of a group whose neighbours of the group are the nearest: a cluster's middle, where a mean of
/// several clusters would lie between them.
Place densest(const std::vector<Place>& places) {
  const std::size_t neighbours =
      std::min(std::max(places.size() / kShareOfGroup, kFewNeighbours), places.size() - 1);
  const std::size_t step = std::max<std::size_t>(places.size() / kDensitySample, 1);
  double best = INFINITY;
  Place where = places.front();
  std::vector<double> distances;
  for (std::size_t i = 0; i < places.size(); i += step) {
    distances.clear();
    for (const auto& other : places)
      distances.push_back(std::hypot(other.x - places[i].x, other.y - places[i].y));
    std::nth_element(distances.begin(), distances.begin() + static_cast<std::ptrdiff_t>(neighbours),
                     distances.end());
    if (distances[neighbours] < best) {
      best = distances[neighbours];
      where = places[i];
    }
  }
  return where;
}

struct Box {
  double left, top, right, bottom;
  bool meets(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

/// Names do not cover each other: each takes the first free place near its own.
class Labels {
 public:
  Labels(double width, double height) : width_(width), height_(height) {}
  void draw(Svg& svg, Place at, const std::string& name) {
    const double half = text_width(name) * kLabelSize / kTextSize / 2 + 3;
    at.x = std::clamp(at.x, half, width_ - half);
    static constexpr std::array<Place, 11> kShifts{{{0, 0},
                                                    {0, -16},
                                                    {0, 16},
                                                    {0, -32},
                                                    {0, 32},
                                                    {-50, -8},
                                                    {50, -8},
                                                    {0, -48},
                                                    {0, 48},
                                                    {-60, 24},
                                                    {60, 24}}};
    for (const auto& shift : kShifts) {
      const Place here{std::clamp(at.x + shift.x, half, width_ - half),
                       std::clamp(at.y + shift.y, kLabelSize, height_ - 4)};
      const Box box{here.x - half, here.y - kLabelSize, here.x + half, here.y + 4};
      if (std::any_of(taken_.begin(), taken_.end(), [&](const Box& other) { return other.meets(box); }))
        continue;
      taken_.push_back(box);
      svg.text(here.x, here.y, name, Anchor::kMiddle, "label");
      return;
    }
  }

 private:
  double width_, height_;
  std::vector<Box> taken_;
};

/// From coordinates to the picture. A few points far outside must not squeeze the others: they are moved to
/// the margin.
class Axis {
 public:
  Axis(const std::vector<MapPoint>& points, float MapPoint::*coordinate, double length) : length_(length) {
    if (points.empty()) return;
    std::vector<float> values;
    for (const auto& point : points) values.push_back(point.*coordinate);
    std::sort(values.begin(), values.end());
    const std::size_t outside = values.size() / kOutside;
    const float low = values[outside], high = values[values.size() - 1 - outside];
    const float more = outside > 0 ? kAround * (high - low) : 0;
    low_ = std::max(low - more, values.front());
    high_ = std::min(high + more, values.back());
  }
  double place(float value) const {
    const double range = std::max(high_ - low_, 1e-6F);
    return kMargin + (length_ - 2 * kMargin) * (std::clamp(value, low_, high_) - low_) / range;
  }

 private:
  double length_;
  float low_ = 0, high_ = 0;
};

struct Members {
  std::size_t group = 0;
  std::vector<std::size_t> points;
};

std::vector<Members> by_group(const Map& map) {
  std::vector<Members> all(map.groups.size());
  for (std::size_t g = 0; g < all.size(); ++g) all[g].group = g;
  for (std::size_t i = 0; i < map.points.size(); ++i) {
    if (map.points[i].group < all.size()) all[map.points[i].group].points.push_back(i);
  }
  return all;
}

}  // namespace

std::string draw(const Map& map) {
  const bool legend = map.groups.size() > 1;
  const double width = kPageWidth - (legend ? kLegendWidth : 0);
  // The axes mean nothing, so each may fill its side of the picture.
  const Axis across(map.points, &MapPoint::x, width), up(map.points, &MapPoint::y, kPictureHeight);
  const auto place = [&](const MapPoint& p) {
    return Place{across.place(p.x), kPictureHeight - up.place(p.y)};
  };

  Svg svg(map.title, kPictureHeight);
  svg.rect(0, 0, width, kPictureHeight, "lane");
  auto groups = by_group(map);
  // The rest lies below, and large groups below small ones.
  std::stable_sort(groups.begin(), groups.end(), [&](const Members& a, const Members& b) {
    const bool a_rest = style_of(map, a.group).css_class == "rest",
               b_rest = style_of(map, b.group).css_class == "rest";
    return a_rest != b_rest ? a_rest : a.points.size() > b.points.size();
  });
  for (const auto& members : groups) {
    const auto style = style_of(map, members.group);
    svg.open_group(fmt::format("g g{} {}", members.group, style.css_class));
    for (const auto i : members.points) draw_point(svg, place(map.points[i]), style, map.points[i].hint);
    svg.close_group();
  }
  Labels labels(width, kPictureHeight);
  for (const auto& members : groups) {
    if (!legend || members.points.empty() || style_of(map, members.group).css_class == "rest") continue;
    std::vector<Place> places;
    for (const auto i : members.points) places.push_back(place(map.points[i]));
    labels.draw(svg, densest(places), shortened(map.groups[members.group], 24));
  }
  for (std::size_t g = 0; legend && g < map.groups.size(); ++g) {
    const auto style = style_of(map, g);
    const double y = 20 + kLegendStep * static_cast<double>(g);
    const auto count =
        std::count_if(map.points.begin(), map.points.end(), [g](const MapPoint& p) { return p.group == g; });
    svg.open_group(fmt::format("k k{} {}", g, style.css_class));
    svg.rect(width + 8, y - 11, kLegendWidth - 8, kLegendStep, "hit");
    draw_point(svg, {width + 20, y - 4}, style, {});
    svg.text(width + 32, y, fmt::format("{} ({})", shortened(map.groups[g], 18), count));
    svg.close_group();
  }
  return svg.finish();
}

}  // namespace muster::report
