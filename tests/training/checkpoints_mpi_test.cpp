// SPDX-License-Identifier: Apache-2.0
#include "muster/training/checkpoints.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "muster/core/error.h"
#include "muster/core/log.h"
#include "temporary_folder.h"

namespace muster::training {
namespace {

namespace fs = std::filesystem;

/// A folder of checkpoints; each rank writes a file of its own, which tells the step.
class CheckpointsTest : public testing::Test {
 protected:
  // Damage is what these tests are about.
  CheckpointsTest() { core::log::set_console_level(core::log::Level::kError); }
  ~CheckpointsTest() override { core::log::set_console_level(core::log::Level::kInfo); }

  Checkpoints open(int keep = 2) const {
    return Checkpoints({root(), keep}, test::session_world().duplicate());
  }
  std::string root() const { return folder_.path() + "/checkpoints"; }
  std::string place(std::uint64_t step) const {
    const std::string number = std::to_string(step);
    return root() + "/step_" + std::string(9 - number.size(), '0') + number;
  }

  static std::vector<std::string> write_mine(const std::string& folder, std::uint64_t step) {
    const int rank = test::session_world().rank();
    const std::string name = "state_" + std::to_string(rank);
    std::ofstream(folder + "/" + name) << "step " << step << " of rank " << rank;
    return {name};
  }
  static Checkpoints::Request request(std::uint64_t step, Best best = Best::kNo) {
    return {step, "payload \"" + std::to_string(step) + "\"\n", best,
            [step](const std::string& folder) { return write_mine(folder, step); }};
  }
  std::set<std::string> names() const {
    test::session_world().barrier();
    std::set<std::string> out;
    for (const auto& entry : fs::directory_iterator(root())) out.insert(entry.path().filename().string());
    test::session_world().barrier();
    return out;
  }
  void expect_newest(std::optional<std::uint64_t> step) const { expect(open().newest(), step); }
  void expect(const std::optional<Checkpoint>& found, std::optional<std::uint64_t> step) const {
    ASSERT_EQ(found.has_value(), step.has_value());
    if (!found) return;
    EXPECT_EQ(found->step, *step);
    EXPECT_EQ(found->payload, "payload \"" + std::to_string(*step) + "\"\n");
    const int last = test::session_world().size() - 1;
    EXPECT_EQ(folder_.read(found->folder + "/state_" + std::to_string(last)),
              "step " + std::to_string(*step) + " of rank " + std::to_string(last));
  }
  /// On rank 0, when all ranks are there.
  template <class F>
  void once(const F& action) const {
    test::session_world().barrier();
    if (test::session_world().is_root()) action();
    test::session_world().barrier();
  }

  test::SharedFolder folder_;
};

TEST_F(CheckpointsTest, NothingIsThereAtFirst) {
  expect_newest(std::nullopt);
  EXPECT_FALSE(open().best().has_value());
}

TEST_F(CheckpointsTest, TheNewestFewAndTheBestStay) {
  Checkpoints checkpoints = open(2);
  checkpoints.save(request(5, Best::kYes));
  expect_newest(5);
  checkpoints.save(request(10));
  checkpoints.save(request(1000000000));
  checkpoints.save(request(1000000007));
  EXPECT_EQ(names(), (std::set<std::string>{"best", "step_000000005", "step_1000000000", "step_1000000007"}));
  expect_newest(1000000007);
  expect(open().best(), 5);
  checkpoints.save(request(1000000008, Best::kYes));
  EXPECT_EQ(names(), (std::set<std::string>{"best", "step_1000000007", "step_1000000008"}));
  expect(open().best(), 1000000008);
}

TEST_F(CheckpointsTest, DamagedOnesArePassedOver) {
  const std::string last = "/state_" + std::to_string(test::session_world().size() - 1);
  struct Damage {
    const char* name;
    std::string file, content;  ///< content "-": removed
  };
  const Damage damages[] = {
      {"a file of another rank is shorter", last, "step"},
      {"the same length, another byte", last,
       "step 2 of rank " + std::to_string(test::session_world().size())},
      {"a file is missing", last, "-"},
      {"the payload is another", "/payload", "payload \"3\"\n"},
      {"complete.json is cut", "/complete.json", "{\"step\":2,\"files\":[{\"na"},
      {"complete.json is another step's", "/complete.json", R"({"step":3,"files":[]})"},
      {"complete.json lists nothing", "/complete.json", R"({"step":2,"files":[]})"},
      {"complete.json names a file elsewhere", "/complete.json",
       R"({"step":2,"files":[{"name":"../best","bytes":1,"sha256":""}]})"},
      {"complete.json is missing", "/complete.json", "-"},
  };
  for (const Damage& damage : damages) {
    SCOPED_TRACE(damage.name);
    Checkpoints checkpoints = open(5);
    checkpoints.save(request(1));
    checkpoints.save(request(2, Best::kYes));
    if (damage.content == "-") {
      once([&] { fs::remove(place(2) + damage.file); });
    } else {
      folder_.write(place(2) + damage.file, damage.content);
    }
    expect_newest(1);
    EXPECT_FALSE(open().best().has_value());
  }
}

TEST_F(CheckpointsTest, AfterFallingBackTheDamagedOnesGo) {
  Checkpoints checkpoints = open(2);
  for (const std::uint64_t step : {10, 20}) checkpoints.save(request(step));
  folder_.write(place(20) + "/payload", "x");
  expect_newest(10);
  checkpoints.save(request(15));
  EXPECT_EQ(names(), (std::set<std::string>{"step_000000010", "step_000000015"}));
  checkpoints.save(request(20));
  expect_newest(20);
}

TEST_F(CheckpointsTest, AWriteThatFailsHarmsNothing) {
  Checkpoints checkpoints = open(1);
  checkpoints.save(request(1));
  // Wherever it fails, one rank's trouble is everyone's.
  auto failing = request(2);
  failing.write = [](const std::string& folder) -> std::vector<std::string> {
    write_mine(folder, 2);
    throw core::OutputError("no space left");
  };
  EXPECT_THROW(checkpoints.save(failing), core::OutputError);
  failing.write = [](const std::string& folder) {
    auto names = write_mine(folder, 2);
    if (test::session_world().rank() == test::session_world().size() - 1) names.push_back("not_there");
    return names;
  };
  EXPECT_THROW(checkpoints.save(failing), core::DataError);
  EXPECT_EQ(names(), (std::set<std::string>{"step_000000001"}));
  expect_newest(1);
  checkpoints.save(request(2));
  expect_newest(2);
}

TEST_F(CheckpointsTest, WhateverAKillLeavesIsSurvived) {
  Checkpoints checkpoints = open(2);
  checkpoints.save(request(1));
  checkpoints.save(request(2));
  const auto copy = [](const std::string& from, const std::string& to) {
    fs::copy(from, to, fs::copy_options::recursive);
  };
  once([&] {  // while its files were written; and when all was there but the name
    copy(place(2), place(3) + ".tmp");
    fs::remove(place(3) + ".tmp/complete.json");
    copy(place(2), place(4) + ".tmp");
  });
  expect_newest(2);
  once([&] { fs::rename(place(2), place(2) + ".replaced"); });  // between the two names of a second write
  expect_newest(2);
  once([&] { copy(place(2) + ".replaced", place(2)); });  // before the first was removed
  expect_newest(2);
  once([&] { fs::rename(place(1), place(1) + ".tmp"); });  // while an old one was removed
  expect_newest(2);
  checkpoints.save(request(3));
  EXPECT_EQ(names(), (std::set<std::string>{"step_000000002", "step_000000003"}));
  expect_newest(3);
}

TEST_F(CheckpointsTest, TheSameStepAgain) {
  Checkpoints checkpoints = open(1);
  checkpoints.save(request(3));
  auto again = request(3);
  again.payload = "another";
  checkpoints.save(again);
  EXPECT_EQ(names(), (std::set<std::string>{"step_000000003"}));
  EXPECT_EQ(open().newest()->payload, "another");
}

TEST_F(CheckpointsTest, OtherFilesAreNoCheckpoints) {
  open().save(request(1));
  once([&] {
    for (const char* name : {"step_", "step_x", "step_1e3", "step_00000000000000000000000000001", "notes"})
      fs::create_directory(root() + "/" + name);
  });
  expect_newest(1);
  once([&] { fs::remove_all(root()); });
  folder_.write(root(), "a file in its place");
  EXPECT_THROW(open().save(request(2)), core::OutputError);
}

}  // namespace
}  // namespace muster::training
