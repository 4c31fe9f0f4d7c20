// SPDX-License-Identifier: Apache-2.0
// The page as a file: well formed whatever texts it is given, without anything outside it, and small for
// large jobs.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "muster/report/report.h"
#include "report/markup.h"

namespace muster::report {
namespace {

/// "" when every element is closed in order and no attribute leaves its quotes; else what is wrong.
std::string fault_of(const std::string& html) {
  std::vector<std::string> open;
  for (std::size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at)) {
    bool quoted = false;
    std::size_t end = at;
    while (++end < html.size() && (quoted || html[end] != '>')) quoted ^= html[end] == '"';
    if (end >= html.size()) return "a tag without an end: " + html.substr(at, 80);
    const std::string tag = html.substr(at + 1, end - at - 1);
    if (tag.find('<') != std::string::npos) return "a tag in a tag: " + tag;
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    const bool is_void = name == "!doctype" || name == "meta" || tag.ends_with('/');
    if (name.starts_with('/')) {
      if (open.empty() || "/" + open.back() != name) return "closed but not open: " + name;
      open.pop_back();
    } else if (!is_void) {
      open.push_back(name);
    }
    at = end;
  }
  return open.empty() ? "" : "never closed: " + open.back();
}

int count_of(const std::string& text, const std::string& part) {
  int count = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

/// Every place of a report that takes a text, with the same text in it.
Report report_of(const std::string& text) {
  Report report{.title = text,
                .subtitle = text,
                .tone = Tone::kGood,
                .tiles = {{text, text, text, Tone::kBad}},
                .sections = {}};
  Section section{.title = text, .blocks = {}};
  section.blocks.emplace_back(Paragraph{text});
  section.blocks.emplace_back(Facts{{{text, text}}});
  section.blocks.emplace_back(Table{{{text}, {text, Align::kRight}}, {{text, text}}, text});
  section.blocks.emplace_back(Preformatted{text});
  section.blocks.emplace_back(
      Timeline{text, {text}, 2, {{text, text, {{.begin = 0, .end = 1, .hint = text}}}}});
  section.blocks.emplace_back(Bars{text, Unit::kNumber, {text, text}, {{text, {1, 2}, text}}, Mark{text, 2}});
  section.blocks.emplace_back(Histogram{text, text, text, 0, 1, {text, text}, {{1, 2}, {3}}});
  section.blocks.emplace_back(
      Curves{text, text, {{text, {{0, 1}, {1, 2}}}, {text, {{0, 2}}}}, {{text, 0.5}}});
  section.blocks.emplace_back(Map{text, {text, text}, {{0, 0, 0, text}, {1, 1, 1, text}}});
  Section folded = section;
  folded.fold = Fold::kFolded;
  report.sections = {section, folded};
  return report;
}

TEST(Html, AnyTextAtAnyPlaceStaysText) {
  for (const std::string& text :
       {std::string("plain"), std::string("</script><script>alert(1)</script>"),
        std::string("\"><img src=x onerror=y>"), std::string("' onmouseover='x"), std::string("]]>--><!--"),
        std::string("a & b &amp; c"), std::string("</style></svg>"), std::string("\xff\xfe no utf-8 \xc3"),
        std::string("nul \0 bell \a", 12), std::string(), std::string("\u4e2d\u6587\U0001F600")}) {
    SCOPED_TRACE(text);
    const auto html = to_html(report_of(text));
    EXPECT_EQ(fault_of(html), "");
    for (const char* never : {"<script", "<img", "<!--", "onerror=y>", "' onmouse"})
      EXPECT_EQ(count_of(html, never), 0) << never;
    EXPECT_EQ(html.find('\0'), std::string::npos);
  }
}

TEST(Html, EscapesAsTold) {
  struct Case {
    std::string text, html;
  };
  for (const auto& c :
       {Case{"a<b>&\"'", "a&lt;b&gt;&amp;&quot;&#39;"}, Case{"line\nnext\ttab", "line\nnext\ttab"},
        Case{std::string("\0\x1b\x7f", 3), "\\x00\\x1b\\x7f"}, Case{"\xff", "\xef\xbf\xbd"}}) {
    EXPECT_EQ(escape(c.text), c.html);
  }
}

TEST(Html, NeedsNothingFromOutside) {
  const auto html = to_html(report_of("text"));
  for (const char* never : {"http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link"})
    EXPECT_EQ(count_of(html, never), 0) << never;
  for (const char* wanted : {"prefers-color-scheme:dark", "@media print", "<meta charset=\"utf-8\">", "<svg"})
    EXPECT_GE(count_of(html, wanted), 1) << wanted;
}

TEST(Html, AnEmptyReportIsAPage) {
  EXPECT_EQ(fault_of(to_html({})), "");
  Report empty{.title = "t", .subtitle = "s", .sections = {{.title = "x", .blocks = {}}}};
  empty.sections[0].blocks = {Timeline{}, Bars{}, Histogram{}, Curves{}, Map{}, Table{}, Facts{}};
  const auto html = to_html(empty);
  EXPECT_EQ(fault_of(html), "");
  EXPECT_EQ(count_of(html, "nan"), 0);
  EXPECT_EQ(count_of(html, "inf"), 0);
}

// 1,024 ranks of 16 workers with 32 pieces of work each: over half a million pieces.
Timeline large_timeline() {
  Timeline timeline{.title = "large", .kinds = {"computing"}, .seconds = 32, .lanes = {}};
  for (int rank = 0; rank < 1024; ++rank) {
    for (int worker = 0; worker < 16; ++worker) {
      Lane lane{fmt::format("rank {} worker {}", rank, worker), fmt::format("rank {}", rank), {}};
      for (int i = 0; i < 32; ++i) {
        lane.spans.push_back({.begin = i + 0.01 * ((rank * 7 + worker * 3 + i) % 50),
                              .end = i + 0.9,
                              .share = 0.1 * ((rank + worker + i) % 11),
                              .hint = "batch of some documents"});
      }
      timeline.lanes.push_back(std::move(lane));
    }
  }
  return timeline;
}

TEST(Html, ALargeJobStaysSmall) {
  Report report{.title = "large", .subtitle = "", .sections = {{.title = "all", .blocks = {}}}};
  Bars bars{.title = "busy", .unit = Unit::kSeconds, .parts = {"a", "b"}, .bars = {}};
  for (int rank = 0; rank < 1024; ++rank)
    bars.bars.push_back({fmt::format("rank {}", rank), {30, 2}, "host"});
  report.sections[0].blocks = {large_timeline(), bars};
  const auto html = to_html(report);
  EXPECT_EQ(fault_of(html), "");
  EXPECT_LT(html.size(), 2'000'000u);
  EXPECT_EQ(count_of(html, "class=\"lane\""), 128) << "rows of the timeline";
  EXPECT_GE(count_of(html, ">rank 0 \u2013 rank 7<"), 1);
  fmt::print("1,024 ranks x 16 workers: {} bytes\n", html.size());
}

}  // namespace
}  // namespace muster::report
