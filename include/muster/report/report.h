// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace muster::report {

/// A report as data: what is said, not how it looks. Texts may hold anything (ids of documents, error
/// messages, bytes that are no UTF-8): escaping is the writer's. Sizes are the writer's too: charts are drawn
/// from bins, tables are cut.

enum class Tone { kPlain, kGood, kWarning, kBad };

/// A figure in large print at the top.
struct Tile {
  std::string name, value, note;
  Tone tone = Tone::kPlain;
};

struct Paragraph {
  std::string text;
};

/// Names and their values, one a line.
struct Facts {
  std::vector<std::pair<std::string, std::string>> rows;
};

enum class Align : std::uint8_t { kLeft, kRight };
struct Column {
  std::string name;
  Align align = Align::kLeft;
};
struct Table {
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;
  std::string note;  ///< below it: what was left out
};

/// Text as it is, line by line.
struct Preformatted {
  std::string text;
};

/// Who did what when.
struct Span {
  double begin = 0, end = 0;  ///< seconds
  double share = 1;           ///< of that time something was done, 0 to 1
  std::string hint;           ///< shown under the mouse
  std::uint8_t kind = 0;      ///< index into Timeline::kinds
};
struct Lane {
  std::string label;
  std::string group;  ///< lanes of one group are drawn as one where there are too many: "rank 3"
  std::vector<Span> spans;
};
struct Timeline {
  std::string title;
  std::vector<std::string> kinds;
  double seconds = 0;  ///< length of the time axis
  std::vector<Lane> lanes;
};

/// Horizontal bars, each made of the same parts; a mark compares each with one value ("predicted", "mean").
struct Bar {
  std::string label;
  std::vector<double> parts;
  std::string hint;
};
enum class Unit : std::uint8_t { kNumber, kSeconds, kBytes };
struct Mark {
  std::string name;
  double value = 0;
};
struct Bars {
  std::string title;
  Unit unit = Unit::kNumber;
  std::vector<std::string> parts;
  std::vector<Bar> bars;
  std::optional<Mark> mark;
};

/// Counts of bins of equal width; the parts of a bin are stacked.
struct Histogram {
  std::string title, x_label, y_label;
  double first = 0, width = 1;
  std::vector<std::string> parts;
  std::vector<std::vector<double>> counts;  ///< [part][bin]
};

struct Point {
  double x = 0, y = 0;
};
struct Series {
  std::string name;
  std::vector<Point> points;
};
/// Values over time in seconds, or over what `x_label` names; marks are vertical lines.
struct Curves {
  std::string title, y_label;
  std::vector<Series> series;
  std::vector<Mark> marks;
  std::string x_label;  ///< "step"; empty: seconds
};

/// Points of a plane in groups, each group with a colour and a shape of its own, its name at its densest
/// place. The last group is the rest when `rest` says so: grey, small and without a name in the picture.
struct MapPoint {
  float x = 0, y = 0;
  std::uint32_t group = 0;
  std::string hint;
};
enum class Rest : std::uint8_t { kNone, kLastGroup };
struct Map {
  std::string title;
  std::vector<std::string> groups;
  std::vector<MapPoint> points;
  Rest rest = Rest::kNone;
};

/// Small pictures side by side, each inside the page; keep their number times their size low.
struct Pictures {
  struct Picture {
    std::vector<std::byte> png;
    std::string caption;
    std::string hint;  ///< shown under the mouse
  };
  std::string title;
  std::vector<Picture> pictures;
};

using Block =
    std::variant<Paragraph, Facts, Table, Preformatted, Timeline, Bars, Histogram, Curves, Map, Pictures>;

enum class Fold : std::uint8_t { kOpen, kFolded };
struct Section {
  std::string title;
  std::vector<Block> blocks;
  Fold fold = Fold::kOpen;
};

struct Report {
  std::string title;     ///< "encode: out/demo"
  std::string subtitle;  ///< one sentence
  Tone tone = Tone::kPlain;
  std::vector<Tile> tiles;
  std::vector<Section> sections;
};

/// One HTML file without scripts and without anything outside it: style and pictures (SVG) are inside.
std::string to_html(const Report& report);

/// How figures are written in a report: "12,345", "0.0123", "1.5 GiB", "12.3 s".
std::string number_text(double value);
std::string quantity_text(double value, Unit unit);
/// At most `characters` code points; three dots say that there was more.
std::string shortened(std::string_view text, std::size_t characters);

}  // namespace muster::report
