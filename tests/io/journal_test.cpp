// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <sstream>
#include <thread>

#include "io/journal.h"
#include "job.h"
#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "support.h"

namespace muster::io::test {
namespace {

using testing::HasSubstr;

/// Commits items [first, first + groups * each) in groups.
void write_groups(RunDirectory& directory, std::uint64_t first, int groups, int each) {
  for (int g = 0; g < groups; ++g) {
    std::vector<formats::Record> records;
    for (int i = 0; i < each; ++i) records.push_back(make_record(first++, 20 + static_cast<std::size_t>(i)));
    directory.append(std::move(records));
    directory.flush();
  }
}

std::string with_flipped_bit(std::string text, std::size_t bit) {
  text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
  return text;
}

TEST(Journal, LineSurvivesTheRoundTripAndNothingElseIsALine) {
  JournalEntry entry{
      .segment = "segment_0003_00012.seg", .offset = 17, .bytes = 900, .index_offset = 700, .records = 5};
  const auto line = journal_line(entry);
  const auto back = parse_journal_line(line);
  ASSERT_TRUE(back);
  EXPECT_EQ(journal_line(*back), line);
  for (std::size_t length = 0; length < line.size(); ++length)
    EXPECT_FALSE(parse_journal_line(line.substr(0, length)));
  for (std::size_t bit = 0; bit < line.size() * 8; ++bit)
    EXPECT_FALSE(parse_journal_line(with_flipped_bit(line, bit)));
  entry.segment = "../segment_0003_00012.seg";
  EXPECT_FALSE(parse_journal_line(journal_line(entry)));
}

TEST(Journal, NamesHaveOneSpelling) {
  for (const auto& name : {SegmentName{3, 12}, SegmentName{12345, 1234567}}) {
    EXPECT_EQ(SegmentName::from_segment_file(name.segment_file()), name);
    EXPECT_EQ(SegmentName::from_journal_file(name.journal_file()), name);
  }
  for (const char* wrong :
       {"", "segment_3_12.seg", "segment_0003_00012.seg.tmp", "segment_0003_00012", "segment_-003_00012.seg",
        "segment_99999999999_00012.seg", "journal_0003_00012.jsonl"}) {
    EXPECT_FALSE(SegmentName::from_segment_file(wrong)) << wrong;
  }
}

/// A finished writer's .run, its texts, and what each group held.
struct Written {
  static constexpr int kGroups = 4, kEach = 6;
  TempFolder folder;
  std::string out = folder.file("out"), journal_path, segment_path, journal, segment;
  std::vector<JournalEntry> entries;

  Written() {
    Job job(out);
    write_groups(*job.directory, 0, kGroups, kEach);
    entries = job->journal();
    journal_path = job->run_file("journal_0001_00000.jsonl");
    segment_path = job->run_file("segment_0001_00000.seg");
    journal = read_text(journal_path);
    segment = read_text(segment_path);
  }
};

TEST(Journal, TruncationAtEveryByteLosesOnlyTheTornLine) {
  const Written written;
  ASSERT_EQ(written.entries.size(), static_cast<std::size_t>(Written::kGroups));
  for (std::size_t length = 0; length <= written.journal.size(); ++length) {
    const auto text = std::string_view(written.journal).substr(0, length);
    const auto whole_lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
    std::size_t damaged = 0;
    EXPECT_EQ(parse_journal(text, &damaged).size(), whole_lines) << length;
    EXPECT_EQ(damaged, 0u) << length;
  }
}

TEST(Journal, TornSegmentTailBehindTheLastCommitIsIgnored) {
  const Written written;
  write_text(written.segment_path, written.segment + "half a frame that no journal line speaks of");
  Job job(written.out);
  EXPECT_EQ(read_all(*job.directory).size(), static_cast<std::size_t>(Written::kGroups * Written::kEach));
}

TEST(Journal, TruncatedSegmentLosesTheGroupsBehindTheCut) {
  const Written written;
  for (std::size_t length = 0; length <= written.segment.size(); ++length) {
    write_text(written.segment_path, written.segment.substr(0, length));
    const auto kept =
        std::count_if(written.entries.begin(), written.entries.end(),
                      [&](const JournalEntry& entry) { return entry.offset + entry.bytes <= length; });
    EXPECT_EQ(read_journals(written.out + "/.run").size(), static_cast<std::size_t>(kept)) << length;
  }
}

TEST(Journal, EveryFlippedBitOfAJournalIsNoticed) {
  const Written written;
  for (std::size_t bit = 0; bit < written.journal.size() * 8; ++bit) {
    std::size_t damaged = 0;
    const auto entries = parse_journal(with_flipped_bit(written.journal, bit), &damaged);
    for (const auto& entry : entries) EXPECT_NE(written.journal.find(journal_line(entry)), std::string::npos);
    // A lost newline costs two lines, any other flip one.
    EXPECT_LT(entries.size(), static_cast<std::size_t>(Written::kGroups)) << bit;
    EXPECT_GE(entries.size(), static_cast<std::size_t>(Written::kGroups - 2)) << bit;
  }
}

TEST(Journal, EveryFlippedBitOfASegmentCostsItsGroupOnly) {
  const Written written;
  for (std::size_t bit = 0; bit < written.segment.size() * 8; ++bit) {
    const auto flipped = with_flipped_bit(written.segment, bit);
    for (const auto& entry : written.entries) {
      const bool hit = bit / 8 >= entry.offset && bit / 8 < entry.offset + entry.bytes;
      EXPECT_EQ(!group_damage(std::as_bytes(std::span(flipped)), entry, "segment").empty(), hit) << bit;
    }
  }
}

TEST(Journal, ResumeSetsDamagedGroupsAsideForGood) {
  const Written written;
  write_text(written.segment_path, with_flipped_bit(written.segment, (written.entries[1].offset + 30) * 8));
  for (int start = 0; start < 2; ++start) {
    Job job(written.out);
    EXPECT_EQ(job.opened, Opened::kResumed);
    EXPECT_EQ(job->journal().size(), static_cast<std::size_t>(Written::kGroups - 1 + start));
    const auto found = read_all(*job.directory);
    EXPECT_EQ(found.size(), static_cast<std::size_t>((Written::kGroups - 1 + start) * Written::kEach));
    EXPECT_EQ(found.contains(Written::kEach), start == 1);
    if (start == 0) write_groups(*job.directory, Written::kEach, 1, Written::kEach);  // done again
  }
}

TEST(Journal, TheLastRecordOfAnItemWins) {
  const TempFolder folder;
  const auto mark = [](std::uint64_t item, char value) {
    return formats::Record{.item = item, .payload = {static_cast<std::byte>(value)}};
  };
  for (const char value : {'a', 'b', 'c'}) {
    Job job(folder.file("out"));
    job->append({mark(1, value), mark(2, '-'), mark(1, static_cast<char>(value - 32))});
    job->flush();
  }
  Job job(folder.file("out"));
  std::map<std::uint64_t, std::string> found;
  job->for_each_ref(job->journal(), [&](const JournalEntry& entry, const formats::RecordRef& ref) {
    found[ref.item] += static_cast<char>(job->payload(entry.segment, ref)[0]);
  });
  EXPECT_EQ(found, (std::map<std::uint64_t, std::string>{{1, "C"}, {2, "-"}}));
}

TEST(Journal, CommitsByTimeAndBySizeWithoutBeingAsked) {
  const TempFolder folder;
  const auto wait_for_commit = [](const RunDirectory& directory) {
    const double start = core::monotonic_seconds();
    while (directory.committed_records() == 0 && core::monotonic_seconds() < start + 10) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return core::monotonic_seconds() - start;
  };
  {
    Job job(RunDirectoryConfig{.path = folder.file("time"), .commit_seconds = 0.3});
    job->append({make_record(0)});
    EXPECT_EQ(job->committed_records(), 0u);
    const double waited = wait_for_commit(*job.directory);
    EXPECT_GT(waited, 0.2);
    EXPECT_LT(waited, 5);
  }
  Job job(RunDirectoryConfig{.path = folder.file("size"), .commit_seconds = 1000, .commit_bytes = 4096});
  job->append({make_record(0, 100)});
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(job->committed_records(), 0u);
  job->append({make_record(1, 5000)});
  EXPECT_LT(wait_for_commit(*job.directory), 5);
  EXPECT_EQ(job->journal().size(), 1u);
}

TEST(Journal, ManyThreadsAppend) {
  const TempFolder folder;
  Job job(RunDirectoryConfig{.path = folder.file("out"), .commit_seconds = 0.01, .commit_bytes = 20'000});
  constexpr std::uint64_t kThreads = 4, kItems = 500;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < kItems; ++i) job->append({make_record(t * kItems + i, 100)});
    });
  }
  for (auto& thread : threads) thread.join();
  job->flush();
  EXPECT_EQ(job->committed_records(), kThreads * kItems);
  const auto found = read_all(*job.directory);
  EXPECT_EQ(found.size(), kThreads * kItems);
  EXPECT_TRUE(std::all_of(found.begin(), found.end(), [](const auto& item) { return item.second == 1; }));
}

TEST(Journal, PendingRecordsAreCommittedAtTheEnd) {
  const TempFolder folder;
  {
    Job job(RunDirectoryConfig{.path = folder.file("out"), .commit_seconds = 1000});
    job->append({make_record(7)});
  }
  Job job(folder.file("out"));
  EXPECT_EQ(job.opened, Opened::kResumed);
  EXPECT_EQ(read_all(*job.directory), (std::map<std::uint64_t, int>{{7, 1}}));
}

constexpr int kItemsInAll = 60, kItemsAGroup = 6;

/// Writes the items that are missing, noting in `acknowledged` what flush() promised.
int write_missing(const std::string& folder) {
  Job job(folder + "/out");
  const auto found = read_all(*job.directory);
  std::vector<formats::Record> group;
  for (std::uint64_t item = 0; item < kItemsInAll; ++item) {
    if (!found.contains(item)) group.push_back(make_record(item));
    if (group.empty() || (group.size() < kItemsAGroup && item + 1 < kItemsInAll)) continue;
    std::string promised;
    for (const auto& record : group) promised += fmt::format("{}\n", record.item);
    job->append(std::exchange(group, {}));
    job->flush();
    const core::UniqueFd fd(::open((folder + "/acknowledged").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644));
    if (::write(fd.get(), promised.data(), promised.size()) < 0) return 1;
  }
  return 0;
}

std::vector<std::uint64_t> acknowledged(const TempFolder& folder) {
  std::vector<std::uint64_t> items;
  std::istringstream text(read_text(folder.file("acknowledged")));
  for (std::uint64_t item = 0; text >> item;) items.push_back(item);
  return items;
}

struct FaultCase {
  const char* point;
  int count;
  const char* action;
  int exit_code;
};
void PrintTo(const FaultCase& fault, std::ostream* out) {
  *out << fault.point << " " << fault.count << " " << fault.action;
}

class JournalFault : public testing::TestWithParam<FaultCase> {};

TEST_P(JournalFault, NoCommittedRecordIsLostAndNoneInvented) {
  if (role() == "writer") {
    int code = 1;
    try {
      code = write_missing(role_folder());
    } catch (const std::exception& error) {
      code = static_cast<int>(core::exit_code_of(error));
    }
    ::_exit(code);
  }
  const auto& fault = GetParam();
  const TempFolder folder;
  const Rerun faulty{
      .role = "writer",
      .folder = folder.path(),
      .environment = {{"MUSTER_FAULT", fmt::format("{}:*:{}:{}", fault.point, fault.count, fault.action)}}};
  ASSERT_EQ(rerun_current_test(faulty), fault.exit_code);
  const auto promised = acknowledged(folder);
  EXPECT_EQ(promised.size(), static_cast<std::size_t>((fault.count - 1) * kItemsAGroup));
  {
    Job job(folder.file("out"));
    const auto found = read_all(*job.directory);
    for (const auto item : promised) EXPECT_TRUE(found.contains(item)) << item;
    for (const auto& [item, times] : found) {
      EXPECT_EQ(times, 1) << item;
      EXPECT_LT(item, static_cast<std::uint64_t>(fault.count * kItemsAGroup)) << "never written";
    }
  }
  ASSERT_EQ(rerun_current_test({.role = "writer", .folder = folder.path()}), 0);
  Job job(folder.file("out"));
  EXPECT_EQ(read_all(*job.directory).size(), static_cast<std::size_t>(kItemsInAll));
}

constexpr int kKilled = 128 + SIGKILL;
INSTANTIATE_TEST_SUITE_P(
    Journal, JournalFault,
    testing::Values(
        FaultCase{"segment.before_write", 1, "kill", kKilled},
        FaultCase{"segment.before_write", 3, "kill", kKilled},
        FaultCase{"segment.written", 1, "kill", kKilled}, FaultCase{"segment.written", 3, "kill", kKilled},
        FaultCase{"segment.synced", 1, "kill", kKilled}, FaultCase{"segment.synced", 3, "kill", kKilled},
        FaultCase{"journal.written", 1, "kill", kKilled}, FaultCase{"journal.written", 3, "kill", kKilled},
        FaultCase{"journal.synced", 1, "kill", kKilled}, FaultCase{"journal.synced", 3, "kill", kKilled},
        FaultCase{"segment.before_write", 2, "eio", 7}, FaultCase{"segment.written", 2, "eio", 7},
        FaultCase{"segment.synced", 2, "eio", 7}, FaultCase{"journal.written", 2, "eio", 7},
        FaultCase{"journal.synced", 2, "eio", 7}, FaultCase{"segment.written", 2, "oom", 6},
        FaultCase{"segment.written", 2, "throw", 1}),
    [](const auto& info) {
      auto name = fmt::format("{}_{}_{}", info.param.point, info.param.count, info.param.action);
      std::replace(name.begin(), name.end(), '.', '_');
      return name;
    });

TEST(Journal, FullDiskIsAnErrorAndCommittedRecordsStay) {
  const TempFolder folder;
  const auto mount = Mount::tmpfs(folder.file("small"), "size=2m");
  if (!mount.mounted()) GTEST_SKIP() << mount.reason();
  std::uint64_t committed = 0;
  {
    Job job(folder.file("small/out"));
    try {
      for (std::uint64_t item = 0; item < 100; ++item) {
        job->append({make_record(item, 100'000)});
        job->flush();
      }
      FAIL() << "2 MiB hold 10 MB";
    } catch (const core::OutputError& error) {
      EXPECT_THAT(error.what(), HasSubstr("No space left"));
      EXPECT_THAT(error.what(), HasSubstr("segment_0001_00000.seg"));
      EXPECT_THAT(error.what(), HasSubstr("free some space"));
    }
    committed = job->committed_records();
    EXPECT_GT(committed, 10u);
    EXPECT_THROW(job->append({make_record(0)}), core::OutputError) << "the failure stays";
  }
  EXPECT_THROW(Job(folder.file("small/other")), core::OutputError)
      << "the probe finds a full disk before any work";
  EXPECT_THROW(Job(folder.file("small/out")), core::OutputError);
  std::filesystem::resize_file(folder.file("small/out/.run/segment_0001_00000.seg"), committed * 100'100);
  Job job(folder.file("small/out"));
  EXPECT_EQ(read_all(*job.directory).size(), committed);
}

TEST(Journal, CostOfACommit) {
  const TempFolder folder;
  Job job(RunDirectoryConfig{.path = folder.file("out"), .commit_seconds = 1000});
  constexpr int kCommits = 50;
  for (const std::size_t bytes : {std::size_t{30'000}, std::size_t{3'000'000}}) {
    const double before = job->commit_seconds_spent();
    for (int i = 0; i < kCommits; ++i) {
      job->append({make_record(static_cast<std::uint64_t>(i), bytes)});
      job->flush();
    }
    const double each = (job->commit_seconds_spent() - before) / kCommits;
    fmt::print("a commit of {} bytes takes {:.2f} ms\n", bytes, each * 1000);
    EXPECT_LT(each, 1.0);
  }
}

}  // namespace
}  // namespace muster::io::test
