// SPDX-License-Identifier: Apache-2.0
// report.html of real jobs: its numbers are the job's, whatever happened to it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <regex>

#include "system.h"

namespace muster::test {
namespace {

constexpr int kItems = 240;
const Command kSlow{"--batch-size", "6", "--milliseconds", "4", "--set", "run.window_items=120"};

Command report(const std::string& program, const Command& more) {
  return Command{program, "report"} + more;
}

/// The large figure of a tile.
std::string tile(const std::string& html, const std::string& name) {
  const std::regex pattern("<span>" + name + "</span><strong>([^<]*)</strong>");
  std::smatch found;
  return std::regex_search(html, found, pattern) ? found[1].str() : "no tile " + name;
}

/// Column `column` of the rows of the table whose head begins with `head`.
std::vector<std::string> column(const std::string& html, const std::string& head, std::size_t column) {
  std::vector<std::string> cells;
  const auto begin = html.find("<thead><tr><th" + head);
  if (begin == std::string::npos) return cells;
  const std::string table = html.substr(begin, html.find("</table>", begin) - begin);
  const std::regex row("<tr>((?:<td[^>]*>[^<]*</td>)+)</tr>"), cell("<td[^>]*>([^<]*)</td>");
  for (std::sregex_iterator at(table.begin(), table.end(), row), end; at != end; ++at) {
    const std::string cells_of_row = (*at)[1];
    std::sregex_iterator one(cells_of_row.begin(), cells_of_row.end(), cell), last;
    std::advance(one, static_cast<std::ptrdiff_t>(column));
    if (one != last) cells.push_back((*one)[1]);
  }
  return cells;
}

int total(const std::vector<std::string>& numbers) {
  int sum = 0;
  for (std::string number : numbers) {
    std::erase(number, ',');
    sum += std::stoi(number);
  }
  return sum;
}

const std::string kRanks = " class=\"number\">rank<";
const std::string kStarts = ">start<";

TEST(Report, CountsWhatTheJobDid) {
  const Scratch scratch;
  write_text(scratch / "in.tsv",
             toy_lines(kItems) + "</script><b>evil\tbad item\nforeign\tforeign error\nbroken row\n");
  const auto outcome = run(mpirun(2) + toy(scratch, {"--workers", "2", "--batch-size", "5"}));
  ASSERT_EQ(outcome.exit_code, 4) << outcome.output;
  EXPECT_TRUE(outcome.contains("wrote " + scratch / "out/report.html")) << outcome.output;
  const auto html = read_text(scratch / "out/report.html");
  EXPECT_EQ(tile(html, "texts"), "242");
  EXPECT_EQ(tile(html, "failed"), "2");
  EXPECT_EQ(tile(html, "rejected"), "1");
  EXPECT_EQ(tile(html, "ranks x workers"), "2 x 2");
  EXPECT_EQ(total(column(html, kRanks, 4)), kItems + 2) << "texts of the ranks";
  for (const char* lane : {"rank 0 worker 0", "rank 0 worker 1", "rank 1 worker 0", "rank 1 worker 1"})
    EXPECT_EQ(count_of(html, fmt::format(">{}</text>", lane)), 1) << lane;
  EXPECT_EQ(count_of(html, "<td>&lt;/script&gt;&lt;b&gt;evil</td><td>this item is bad</td>"), 1);
  EXPECT_EQ(count_of(html, "<td>foreign</td><td>not one of ours</td>"), 1);
  EXPECT_EQ(count_of(html, "in.tsv line 243"), 1) << "the rejected row, by file and line";
  EXPECT_EQ(count_of(html, "<script"), 0);
  EXPECT_EQ(count_of(html, "run.batch_size") + count_of(html, "batch_size: 5"), 1) << "resolved settings";
  EXPECT_EQ(count_of(read_text(scratch / "out/manifest.json"), "report.html"), 0)
      << "made anew at will, so nothing vouches for it";
  EXPECT_EQ(run({toy_program(), "verify", scratch / "out"}).exit_code, 0);
}

TEST(Report, ShowsEveryStart) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", toy_lines(kItems));
  Job first(mpirun(2) + toy(scratch, kSlow));
  ASSERT_TRUE(wait_for_commit(first, scratch / "out")) << first.output();
  const Ranks ranks = wait_for_ranks(first, "muster_toy", 2);
  ::kill(ranks.pids.at(1), SIGKILL);
  EXPECT_NE(first.wait(20).exit_code, 0);

  const auto unfinished = run(report(toy_program(), {scratch / "out"}));
  EXPECT_EQ(unfinished.exit_code, 0) << unfinished.output;
  EXPECT_TRUE(unfinished.contains(scratch / "out/report.html")) << unfinished.output;
  const auto before = read_text(scratch / "out/report.html");
  EXPECT_EQ(count_of(before, "Not finished."), 1);
  EXPECT_EQ(count_of(before, ">rank 1</text>") > 0, true);

  const auto second = run(mpirun(3) + toy(scratch));
  ASSERT_EQ(second.exit_code, 0) << second.output;
  const auto html = read_text(scratch / "out/report.html");
  EXPECT_EQ(count_of(html, "Not finished."), 0);
  EXPECT_EQ(tile(html, "texts"), std::to_string(kItems));
  EXPECT_EQ(column(html, kStarts, 2), (std::vector<std::string>{"2", "3"})) << "ranks of the starts";
  EXPECT_EQ(total({column(html, kStarts, 4).back()}), done_items(second).value_or(-1));
  EXPECT_EQ(column(html, kStarts, 7).back(), "done");
  EXPECT_NE(column(html, kStarts, 7).front(), "done");
  EXPECT_EQ(count_of(html, "<figcaption>start 1, "), 1);
  EXPECT_EQ(count_of(html, "<figcaption>start 2, "), 1);

  // Made again from what is kept, the page says the same.
  ASSERT_EQ(run(report(toy_program(), {scratch / "out", "-o", scratch / "again.html"})).exit_code, 0);
  EXPECT_EQ(read_text(scratch / "again.html"), html);

  const auto fresh = run(toy(scratch, {"--fresh"}));
  ASSERT_EQ(fresh.exit_code, 0) << fresh.output;
  EXPECT_EQ(count_of(read_text(scratch / "out/report.html"), "<figcaption>start 1, "), 0)
      << "starts of a forgotten job are forgotten";
  EXPECT_EQ(tile(read_text(scratch / "out/report.html"), "ranks x workers"), "1 x 1");
}

TEST(Report, AStoppedJobSaysSo) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", toy_lines(kItems));
  ASSERT_EQ(run(toy(scratch, {"--batch-size", "2", "--milliseconds", "20", "--max-time", "1s"})).exit_code,
            75);
  EXPECT_FALSE(exists(scratch / "out/report.html")) << "written when the job is finished, or asked for";
  ASSERT_EQ(run(report(toy_program(), {scratch / "out"})).exit_code, 0);
  const auto html = read_text(scratch / "out/report.html");
  EXPECT_EQ(count_of(html, "Start 1 of 1: stopped"), 1);
  const int done = total({tile(html, "texts")});
  EXPECT_GT(done, 0);
  EXPECT_LT(done, kItems);
  const auto rest = run(toy(scratch));
  EXPECT_TRUE(rest.contains(fmt::format("resuming: {} of", done))) << rest.output;
}

TEST(Report, ComparesTwoJobs) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", toy_lines(kItems));
  ASSERT_EQ(run(toy(scratch)).exit_code, 0);
  ASSERT_EQ(run(mpirun(2) + toy(scratch, {"-o", scratch / "other", "--batch-size", "3"})).exit_code, 0);
  const auto outcome =
      run(report(toy_program(), {scratch / "out", scratch / "other", "-o", scratch / "both.html"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  const auto html = read_text(scratch / "both.html");
  EXPECT_EQ(
      count_of(html, "<td>ranks (last start)</td><td class=\"number\">1</td><td class=\"number\">2</td>"), 1);
  EXPECT_EQ(count_of(html, "<td>world_size</td><td>1</td><td>2</td>"), 1);
  EXPECT_EQ(count_of(html, "batch_size: 3"), 1);
  EXPECT_EQ(count_of(html, "<td>input.sha256</td>"), 0) << "equal things are not listed";
}

TEST(Report, NeverEndangersTheResults) {
  const Scratch scratch;
  write_text(scratch / "in.tsv", toy_lines(20));
  ASSERT_EQ(run(toy(scratch)).exit_code, 0);
  // A folder in its place cannot be replaced; the second start finds another input in another directory.
  std::filesystem::create_directories(scratch / "other/report.html/full");
  const auto outcome = run(mpirun(2) + toy(scratch, {"-o", scratch / "other"}));
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_TRUE(outcome.contains("report.html is not written")) << outcome.output;
  EXPECT_TRUE(exists(scratch / "other/manifest.json"));
  EXPECT_FALSE(exists(scratch / "other/.run"));
}

TEST(Report, SaysWhatIsNoOutputDirectory) {
  const Scratch empty;
  const auto outcome = run(report(muster_program(), {empty.path()}));
  EXPECT_EQ(outcome.exit_code, 3) << outcome.output;
  EXPECT_TRUE(outcome.contains(empty.path() + " has neither manifest.json nor logs/activity_"))
      << outcome.output;
  EXPECT_EQ(run(report(muster_program(), {})).exit_code, 2);
}

TEST(Report, EncodeAddsAMapColouredByLabels) {
  const Scratch scratch;
  const auto documents = sample(60);
  write_text(scratch / "in.tsv", as_tsv(documents));
  std::string labels = "id\tsection\n";
  for (std::size_t i = 0; i < documents.size(); ++i)
    labels += documents[i].id + (i < 40 ? "\tmany\n" : "\tfew <3\n");
  write_text(scratch / "labels.tsv", labels);
  const auto outcome =
      run(mpirun(2) + encode(scratch, {"--labels", scratch / "labels.tsv", "--map-points", "50"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.output;
  EXPECT_FALSE(outcome.contains("warning")) << outcome.output;
  const auto html = read_text(scratch / "out/report.html");
  EXPECT_EQ(count_of(html, "<figcaption>50 of 60 documents"), 1);
  EXPECT_EQ(count_of(html, "class=\"label\">many</text>"), 1);
  EXPECT_EQ(count_of(html, "class=\"label\">few &lt;3</text>"), 1);
  EXPECT_EQ(count_of(html, fmt::format("<title>{} (many)\n", documents[0].id)), 1)
      << "id, label and text of a document";
  EXPECT_EQ(tile(html, "documents"), "60");
  EXPECT_EQ(count_of(html, "predicted"), 2) << "memory, in the tile and the picture";

  // Colours change no result: the same job with other ones is finished already; without labels there is a map
  // too.
  const auto again = run(encode(scratch));
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_TRUE(again.contains("finished already")) << again.output;
  const auto plain = run(encode(scratch, {"-o", scratch / "plain", "--labels", scratch / "nothing.tsv"}));
  EXPECT_EQ(plain.exit_code, 0) << plain.output;
  EXPECT_TRUE(plain.contains("has no colours")) << plain.output;
  EXPECT_EQ(count_of(read_text(scratch / "plain/report.html"), "<figcaption>60 of 60 documents"), 1);
  const auto none = run(encode(scratch, {"-o", scratch / "none", "--map-points", "0"}));
  EXPECT_EQ(none.exit_code, 0) << none.output;
  EXPECT_EQ(count_of(read_text(scratch / "none/report.html"), "Map of the embeddings"), 0);
}

}  // namespace
}  // namespace muster::test
