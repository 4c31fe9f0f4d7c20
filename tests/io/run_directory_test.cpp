// SPDX-License-Identifier: Apache-2.0
#include "muster/io/run_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "io/identity.h"
#include "io/manifest_names.h"
#include "job.h"
#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "support.h"

namespace muster::io::test {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct IdentityCase {
  const char* name;
  Identity before, now;
  std::vector<std::string> refused, notes;
};

TEST(Identity, DifferencesAreListedKeyByKey) {
  const std::vector<IdentityCase> cases = {
      {"same", {{"a", "1"}}, {{"a", "1"}}, {}, {}},
      {"both empty", {}, {}, {}, {}},
      {"changed",
       {{"run.dtype", "bf16"}},
       {{"run.dtype", "fp32"}},
       {R"(run.dtype: was "bf16", now "fp32")"},
       {}},
      {"removed", {{"a", "1"}, {"b", "2"}}, {{"b", "2"}}, {R"(a: was "1", now absent)"}, {}},
      {"added", {}, {{"a", ""}}, {R"(a: was absent, now "")"}, {}},
      {"several, in order",
       {{"a", "1"}, {"b", "2"}, {"c", "3"}},
       {{"a", "x"}, {"b", "2"}, {"d", "4"}},
       {R"(a: was "1", now "x")", R"(c: was "3", now absent)", R"(d: was absent, now "4")"},
       {}},
      {"a note only warns",
       {{"note.commit", "abc"}},
       {{"note.commit", "def"}},
       {},
       {R"(note.commit: was "abc", now "def")"}},
      {"note and key",
       {{"note.commit", "abc"}, {"notes", "1"}},
       {{"notes", "2"}},
       {R"(notes: was "1", now "2")"},
       {R"(note.commit: was "abc", now absent)"}},
      {"control characters", {{"a", "x\n"}}, {{"a", "y"}}, {R"(a: was "x\x0a", now "y")"}, {}},
  };
  for (const auto& test : cases) {
    const auto difference = compare_identity(test.before, test.now);
    EXPECT_EQ(difference.refused, test.refused) << test.name;
    EXPECT_EQ(difference.notes, test.notes) << test.name;
    if (test.refused.empty()) {
      EXPECT_NO_THROW(require_same_job(test.before, test.now, "out")) << test.name;
      continue;
    }
    try {
      require_same_job(test.before, test.now, "out/encode");
      FAIL() << test.name;
    } catch (const core::ResumeError& error) {
      EXPECT_EQ(error.code(), core::ExitCode::kResumeMismatch);
      EXPECT_THAT(error.what(), HasSubstr("out/encode"));
      for (const auto& line : test.refused) EXPECT_THAT(error.what(), HasSubstr(line)) << test.name;
    }
  }
}

TEST(Identity, FileRoundTripAndDamage) {
  const TempFolder folder;
  const auto path = folder.file("identity.json");
  EXPECT_EQ(read_identity(path), std::nullopt);
  const Identity identity = {
      {"a", "1"}, {"quote\"", "tab\t\n"}, {"unicode", "\xC3\xA4\xE2\x82\xAC"}, {"empty", ""}};
  write_identity(path, identity);
  EXPECT_EQ(read_identity(path), identity);
  const auto text = read_text(path);
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    write_text(path, damaged);
    EXPECT_THROW(read_identity(path), core::DataError) << i;
  }
}

void commit_one(Job& job) {
  job->append({make_record(1)});
  job->flush();
}

TEST(RunDirectory, OpensAsNewResumedOrFinished) {
  const TempFolder folder;
  const auto out = folder.file("out");
  EXPECT_EQ(Job(out).opened, Opened::kNew);
  EXPECT_EQ(Job(out).opened, Opened::kNew) << "nothing was committed";
  {
    Job job(out);
    commit_one(job);
    EXPECT_EQ(job->committed_records(), 1u);
    EXPECT_GT(job->commit_seconds_spent(), 0);
  }
  {
    Job job(out);
    EXPECT_EQ(job.opened, Opened::kResumed);
    EXPECT_EQ(job->committed_records(), 0u) << "counts this start only";
    commit_one(job);
    EXPECT_TRUE(fs::exists(job->run_file("segment_0002_00000.seg")))
        << "a start never appends to files of an earlier one";
    write_text(job->file("result.txt"), "result");
    write_manifest(out,
                   {.job = "encode", .command = "muster", .identity = kIdentity, .files = {"result.txt"}});
  }
  {
    Job job(out);
    EXPECT_EQ(job.opened, Opened::kFinished);
    job->remove_run_files();
    EXPECT_FALSE(fs::exists(folder.file("out/.run")));
  }
  EXPECT_EQ(Job(out).opened, Opened::kFinished);
}

TEST(RunDirectory, RefusesAnotherJobsResults) {
  const TempFolder folder;
  const auto out = folder.file("out");
  const Identity other = {{"model.sha256", "xyz"}, {"run.dtype", "fp32"}};
  EXPECT_EQ(Job(out, other).opened, Opened::kNew);
  {
    Job job(out);
    EXPECT_EQ(job.opened, Opened::kNew) << "a first attempt that committed nothing is no obstacle";
    commit_one(job);
  }
  EXPECT_THROW(Job(out, other), core::ResumeError);
  write_manifest(out, {.job = "encode", .identity = kIdentity});
  EXPECT_THROW(Job(out, other), core::ResumeError);
  EXPECT_EQ(Job(out).opened, Opened::kFinished) << "refusing touched nothing";
  auto rebuilt = kIdentity;
  rebuilt["note.commit"] = "another build";
  EXPECT_EQ(Job(out, rebuilt).opened, Opened::kFinished);
}

TEST(RunDirectory, FreshForgetsListedResultsOnly) {
  const TempFolder folder;
  const auto out = folder.file("out");
  write_text(folder.file("outside.txt"), "not ours");
  fs::create_directories(folder.file("out/images"));
  fs::create_directory_symlink(folder.path(), folder.file("out/link"));
  {
    Job job(out);
    commit_one(job);
    write_text(job->file("images/a.png"), "a");
    write_text(job->file("notes.txt"), "the user's own");
    write_manifest(out,
                   {.job = "sample", .identity = kIdentity, .files = {"images/a.png", "link/outside.txt"}});
  }
  Job job(RunDirectoryConfig{.path = out, .fresh = true}, {{"another", "job"}});
  EXPECT_EQ(job.opened, Opened::kNew);
  EXPECT_THAT(job->journal(), IsEmpty());
  EXPECT_FALSE(fs::exists(folder.file("out/manifest.json")));
  EXPECT_FALSE(fs::exists(folder.file("out/images/a.png")));
  EXPECT_TRUE(fs::exists(folder.file("out/notes.txt")));
  EXPECT_TRUE(fs::exists(folder.file("outside.txt"))) << "behind a link";
}

TEST(RunDirectory, FreshIsHarmlessWhileAnotherJobRuns) {
  const TempFolder folder;
  const auto out = folder.file("out");
  Job running(out);
  commit_one(running);
  EXPECT_THROW(Job(RunDirectoryConfig{.path = out, .fresh = true}), core::OutputError);
  EXPECT_EQ(running->journal().size(), 1u);
}

TEST(RunDirectory, FreshForgetsADamagedManifest) {
  const TempFolder folder;
  fs::create_directories(folder.file("out"));
  write_text(folder.file("out/manifest.json"), "{\"files\": [");
  EXPECT_THROW(Job(folder.file("out")), core::DataError);
  EXPECT_EQ(Job(RunDirectoryConfig{.path = folder.file("out"), .fresh = true}).opened, Opened::kNew);
}

TEST(RunDirectory, KeepSegmentsKeepsThem) {
  const TempFolder folder;
  Job job(RunDirectoryConfig{.path = folder.file("out"), .keep_segments = true});
  commit_one(job);
  job->remove_run_files();
  EXPECT_TRUE(fs::exists(job->run_file("segment_0001_00000.seg")));
}

/// Every rank commits the missing items that are its own (item modulo ranks), as far as `items`.
void work_on_share(comm::Communicator& world, std::uint64_t items) {
  RunDirectory directory({.path = role_folder() + "/out"}, world);
  directory.open(kIdentity, world);
  const auto found = read_all(directory);
  const auto ranks = static_cast<std::uint64_t>(world.size());
  for (auto item = static_cast<std::uint64_t>(world.rank()); item < items; item += ranks) {
    if (found.contains(item)) continue;
    directory.append({make_record(item)});
    directory.flush();
  }
}

TEST(RunDirectory, ResumesOnAnyNumberOfRanks) {
  if (role() == "work") {
    play_role([](comm::Communicator& world) {
      work_on_share(world, static_cast<std::uint64_t>(world.size()) * 10);
    });
  }
  if (role() == "other") {
    play_role([](comm::Communicator& world) {
      RunDirectory directory({.path = role_folder() + "/out"}, world);
      directory.open({{"another", "job"}}, world);
    });
  }
  const TempFolder folder;
  const auto run = [&](const char* name, int ranks) {
    return rerun_current_test({.role = name, .folder = folder.path(), .ranks = ranks});
  };
  EXPECT_EQ(run("work", 3), 0);
  EXPECT_EQ(run("other", 2), 5) << "the same exit code from every rank";
  EXPECT_THAT(read_text(folder.file("error")), HasSubstr("another: was absent"));
  // One group of rank 1 rots; the next start finds it whichever rank looks, and its item is done again.
  const auto rotten = folder.file("out/.run/segment_0001_00001.seg");
  auto bytes = read_text(rotten);
  bytes[40] = static_cast<char>(bytes[40] ^ 1);
  write_text(rotten, bytes);
  EXPECT_EQ(run("work", 4), 0);
  {
    const Job job(folder.file("out"));
    EXPECT_THROW(Job(folder.file("out")), core::OutputError);
    const auto found = read_all(*job.directory);
    EXPECT_EQ(found.size(), 40u);
    EXPECT_TRUE(std::all_of(found.begin(), found.end(), [](const auto& item) { return item.second == 1; }));
    EXPECT_EQ(job.directory->journal().size(), 40u) << "29 sound groups and 11 new ones";
  }
}

ManifestInput example_manifest() {
  return {.job = "encode",
          .command = "muster encode -i \"a b.tsv\" \xff",
          .identity = kIdentity,
          .files = {"embeddings.h5", "logs/rank_00000.log"},
          .facts = {{"hdf5", "1.10.8"}, {"world_size", "4"}}};
}

struct Published {
  TempFolder folder;
  std::string path = folder.file("manifest.json");
  Published() {
    fs::create_directories(folder.file("logs"));
    write_text(folder.file("embeddings.h5"), "0123456789");
    write_text(folder.file("logs/rank_00000.log"), "");
    write_manifest(folder.path(), example_manifest());
  }
};

TEST(Manifest, RoundTrip) {
  const Published published;
  const auto manifest = read_manifest(published.folder.path());
  ASSERT_TRUE(manifest);
  EXPECT_EQ(manifest->job, "encode");
  EXPECT_EQ(manifest->command, "muster encode -i \"a b.tsv\" \xEF\xBF\xBD");
  EXPECT_EQ(manifest->identity, kIdentity);
  EXPECT_EQ(manifest->facts, example_manifest().facts);
  ASSERT_EQ(manifest->files.size(), 2u);
  EXPECT_EQ(manifest->files[0].name, "embeddings.h5");
  EXPECT_EQ(manifest->files[0].bytes, 10u);
  EXPECT_EQ(manifest->files[0].sha256, "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882");
  EXPECT_THAT(verify_manifest(published.folder.path(), *manifest), IsEmpty());
  EXPECT_EQ(read_manifest(published.folder.file("logs")), std::nullopt);
}

TEST(Manifest, EveryFlippedByteAndEveryTruncationIsNoticed) {
  const Published published;
  const auto text = read_text(published.path);
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    auto damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 2);
    write_text(published.path, damaged);
    EXPECT_THROW(read_manifest(published.folder.path()), core::DataError) << i;
    write_text(published.path, text.substr(0, i));
    EXPECT_THROW(read_manifest(published.folder.path()), core::DataError) << i;
  }
}

TEST(Manifest, VerifyNamesEveryProblem) {
  const Published published;
  const auto& folder = published.folder;
  const auto manifest = *read_manifest(folder.path());
  write_text(folder.file("embeddings.h5"), "0123456780");
  EXPECT_THAT(verify_manifest(folder.path(), manifest),
              ElementsAre(HasSubstr("embeddings.h5: its SHA-256 differs")));
  write_text(folder.file("embeddings.h5"), "0");
  EXPECT_THAT(verify_manifest(folder.path(), manifest), ElementsAre(HasSubstr("embeddings.h5: has 1 bytes")));
  fs::remove(folder.file("embeddings.h5"));
  fs::remove(folder.file("logs/rank_00000.log"));
  fs::create_directories(folder.file("logs/rank_00000.log"));
  EXPECT_THAT(verify_manifest(folder.path(), manifest),
              ElementsAre(HasSubstr("No such file"), HasSubstr("is not a regular file")));
}

TEST(Manifest, NamesStayInside) {
  for (const char* good : {"a", "a/b", "images/r0000_i00000001.png", "..a", "a..b"})
    EXPECT_TRUE(is_inner_name(good)) << good;
  for (const char* bad : {"", "/", "/etc/passwd", "..", "../a", "a/../../b", "a/..", "./a", "a/"}) {
    EXPECT_FALSE(is_inner_name(bad)) << bad;
  }
  const TempFolder folder;
  EXPECT_THROW(write_manifest(folder.path(), {.files = {"../x"}}), core::InternalError);
  EXPECT_THROW(write_manifest(folder.path(), {.files = {"missing"}}), core::DataError);
  EXPECT_FALSE(fs::exists(folder.file("manifest.json")));
}

}  // namespace
}  // namespace muster::io::test
