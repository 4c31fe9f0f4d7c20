// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <regex>

#include "report/markup.h"

namespace muster::report {
namespace {

std::vector<std::vector<std::string>> matches(const std::string& text, const std::string& pattern) {
  const std::regex expression(pattern);
  std::vector<std::vector<std::string>> all;
  for (std::sregex_iterator at(text.begin(), text.end(), expression), end; at != end; ++at)
    all.emplace_back(at->begin(), at->end());
  return all;
}

struct Rect {
  double x, width;
};
std::vector<Rect> rects_of(const std::string& svg, const std::string& css_class) {
  std::vector<Rect> out;
  for (const auto& m :
       matches(svg, "<rect x=\"([0-9.]+)\" y=\"[0-9.]+\" width=\"([0-9.]+)\" height=\"[0-9.]+\" class=\"" +
                        css_class + "\""))
    out.push_back({std::stod(m[1]), std::stod(m[2])});
  return out;
}

TEST(Figures, AreWrittenForPeople) {
  struct Case {
    double value;
    Unit unit;
    const char* text;
  };
  for (const auto& c : {Case{0, Unit::kNumber, "0"}, Case{7, Unit::kNumber, "7"},
                        Case{1234567, Unit::kNumber, "1,234,567"}, Case{-1234, Unit::kNumber, "-1,234"},
                        Case{999.94, Unit::kNumber, "999.9"}, Case{1234.5, Unit::kNumber, "1,234"},
                        Case{0.012345, Unit::kNumber, "0.0123"}, Case{3.14159, Unit::kNumber, "3.14"},
                        Case{0.0000001, Unit::kNumber, "1e-07"}, Case{NAN, Unit::kNumber, "\u2013"},
                        Case{0.0421, Unit::kSeconds, "42.1 ms"}, Case{0.5, Unit::kSeconds, "0.50s"},
                        Case{12.34, Unit::kSeconds, "12.3s"}, Case{1610612736, Unit::kBytes, "1.5 GiB"}}) {
    EXPECT_EQ(quantity_text(c.value, c.unit), c.text);
  }
}

TEST(Axes, HaveRoundTicksWithinTheirRange) {
  for (const double last : {0.0013, 0.5, 1.0, 7.0, 99.0, 1e6, 3e9}) {
    const auto marks = ticks(last, 5);
    EXPECT_GE(marks.size(), 3u) << last;
    EXPECT_LE(marks.size(), 7u) << last;
    EXPECT_EQ(marks.front(), 0);
    EXPECT_LE(marks.back(), last * 1.000001);
  }
  EXPECT_EQ(ticks(0, 5), std::vector<double>{0});
  EXPECT_EQ(ticks(INFINITY, 5), std::vector<double>{0});
  struct Case {
    double seconds;
    std::vector<double> first;
    const char* last_text;
  };
  for (const auto& c :
       {Case{12, {0, 2, 4}, "12 s"}, Case{100, {0, 10, 20}, "100 s"}, Case{600, {0, 60, 120}, "10 min"},
        Case{86400, {0, 10800, 21600}, "24 h"}, Case{40. * 86400, {0, 5 * 86400.}, "40 d"}}) {
    const auto marks = time_ticks(c.seconds, 10);
    ASSERT_GE(marks.size(), c.first.size());
    for (std::size_t i = 0; i < c.first.size(); ++i) EXPECT_EQ(marks[i], c.first[i]) << c.seconds;
    EXPECT_EQ(time_text(marks.back(), c.seconds), c.last_text);
  }
}

TEST(Shortened, CutsBetweenCharacters) {
  EXPECT_EQ(shortened("abc", 3), "abc");
  EXPECT_EQ(shortened("abcd", 3), "abc\u2026");
  EXPECT_EQ(shortened("\u4e2d\u6587\u5b57", 2), "\u4e2d\u6587\u2026");
}

TEST(Timelines, DrawFewPiecesOneByOneAndManyAsShares) {
  Timeline few{.title = "t", .kinds = {"a", "b"}, .seconds = 10, .lanes = {}};
  few.lanes.push_back(
      {"rank 0", "rank 0", {{.begin = 0, .end = 5, .kind = 0}, {.begin = 5, .end = 10, .kind = 1}}});
  const auto svg = draw(few);
  const auto lane = rects_of(svg, "lane"), a = rects_of(svg, "c0"), b = rects_of(svg, "c1");
  ASSERT_EQ(lane.size(), 1u);
  ASSERT_EQ(a.size(), 2u) << "legend and piece";
  ASSERT_EQ(b.size(), 2u);
  EXPECT_NEAR(a[1].width, lane[0].width / 2, 0.2);
  EXPECT_NEAR(b[1].x, lane[0].x + lane[0].width / 2, 0.2);

  // 5,000 pieces that take half of the first 5 s, all of the next.
  Timeline many{.title = "t", .kinds = {"a"}, .seconds = 10, .lanes = {{"rank 0", "rank 0", {}}}};
  for (int i = 0; i < 5000; ++i) {
    const double begin = i * 0.002;
    many.lanes[0].spans.push_back({.begin = begin, .end = begin + (begin < 5 ? 0.001 : 0.002)});
  }
  const auto shaded = draw(many);
  const auto full = rects_of(shaded, "c0"), half = rects_of(shaded, "c0 s3");
  ASSERT_EQ(half.size(), 1u) << "one piece of one shade";
  ASSERT_EQ(full.size(), 2u) << "legend and piece";
  EXPECT_NEAR(half[0].width, full[1].width, 8);
}

TEST(Bars, ManyBecomeAveragesOfNeighbours) {
  Bars bars{.title = "b", .unit = Unit::kNumber, .parts = {"only"}, .bars = {}};
  for (int i = 0; i < 96; ++i) bars.bars.push_back({fmt::format("r{}", i), {i % 2 == 0 ? 1.0 : 3.0}, ""});
  const auto svg = draw(bars);
  const auto drawn = rects_of(svg, "c0");
  ASSERT_EQ(drawn.size(), 48u);
  for (const auto& rect : drawn) EXPECT_NEAR(rect.width, drawn[0].width, 0.2);
  EXPECT_NE(svg.find(">r0 \u2013 r1<"), std::string::npos);
  EXPECT_NE(svg.find(">2</text>"), std::string::npos) << "the average";
}

TEST(Histograms, StackTheirParts) {
  const Histogram histogram{.title = "h",
                            .x_label = "tokens",
                            .y_label = "n",
                            .first = 0,
                            .width = 8,
                            .parts = {"whole", "cut"},
                            .counts = {{4, 0, 2}, {0, 0, 1}}};
  const auto svg = draw(histogram);
  EXPECT_NE(svg.find("<title>0 to 8 tokens: 4 whole</title>"), std::string::npos) << svg;
  EXPECT_NE(svg.find("<title>16 to 24 tokens: 1 cut</title>"), std::string::npos);
  EXPECT_EQ(matches(svg, "<title>").size(), 3u) << "an empty bin has no bar";
  const auto bars =
      matches(svg, "y=\"([0-9.]+)\" width=\"[0-9.]+\" height=\"([0-9.]+)\" class=\"c[01]\"><title>16 to");
  ASSERT_EQ(bars.size(), 2u);
  EXPECT_NEAR(std::stod(bars[1][1]) + std::stod(bars[1][2]), std::stod(bars[0][1]), 0.2)
      << "one upon the other";
}

TEST(Maps, GiveGroupsColoursShapesAndOneNameEach) {
  Map map{.title = "m", .groups = {}, .points = {}, .rest = Rest::kLastGroup};
  for (std::uint32_t g = 0; g < 10; ++g) {
    map.groups.push_back(g == 9 ? "other" : fmt::format("group{}", g));
    for (int i = 0; i < 20; ++i)
      map.points.push_back(
          {static_cast<float>(g % 3) + 0.01F * static_cast<float>(i), static_cast<float>(g / 3), g, "hint"});
  }
  const auto svg = draw(map);
  EXPECT_EQ(matches(svg, "<title>hint</title>").size(), 200u);
  EXPECT_EQ(matches(svg, "class=\"label\">group[0-9]<").size(), 9u);
  EXPECT_EQ(matches(svg, "class=\"label\">other<").size(), 0u);
  EXPECT_EQ(matches(svg, "class=\"g g9 rest\"").size(), 1u);
  EXPECT_EQ(matches(svg, ">group3 \\(20\\)<").size(), 1u);
  EXPECT_EQ(matches(svg, "class=\"g g0 c0\">\n<circle").size(), 1u);
  EXPECT_EQ(matches(svg, "class=\"g g8 c0\">\n<path").size(), 1u)
      << "the first colour again has another shape";
  EXPECT_LT(svg.find("g g9 rest"), svg.find("g g0 c0")) << "the rest lies below";
}

TEST(Maps, AFewPointsFarOutsideDoNotSqueezeTheOthers) {
  Map map{.title = "m", .groups = {"all"}, .points = {}};
  for (int i = 0; i < 1000; ++i)
    map.points.push_back({static_cast<float>(i % 32), static_cast<float>(i / 32), 0, ""});
  map.points.push_back({1e6F, -1e6F, 0, ""});
  double most = 0;
  int inside = 0;
  for (const auto& m : matches(draw(map), "<circle cx=\"([0-9.]+)\"")) {
    most = std::max(most, std::stod(m[1]));
    inside += std::stod(m[1]) > kPageWidth / 3;
  }
  EXPECT_LE(most, kPageWidth);
  EXPECT_GT(inside, 500);
}

}  // namespace
}  // namespace muster::report
