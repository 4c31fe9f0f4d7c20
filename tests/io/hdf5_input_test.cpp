// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "io/hdf5_handles.h"
#include "muster/core/clock.h"
#include "muster/core/error.h"
#include "muster/core/philox.h"
#include "muster/io/hdf5_results.h"
#include "support.h"

namespace muster::io::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

enum class Strings { kVariable, kFixed, kSpacePadded };

void add_strings(hid_t file, const std::string& name, const std::vector<std::string>& texts, Strings kind) {
  const auto space = h5::simple_space(texts.size(), 0);
  if (kind == Strings::kVariable) {
    const auto type = h5::string_type();
    std::vector<const char*> pointers;
    for (const auto& text : texts) pointers.push_back(text.c_str());
    const h5::Dataset dataset(
        H5Dcreate2(file, name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    ASSERT_GE(H5Dwrite(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()), 0);
    return;
  }
  constexpr std::size_t kWidth = 16;
  const h5::Type type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type.get(), kWidth);
  H5Tset_strpad(type.get(), kind == Strings::kFixed ? H5T_STR_NULLPAD : H5T_STR_SPACEPAD);
  std::string bytes;
  for (auto text : texts) {
    text.resize(kWidth, kind == Strings::kFixed ? '\0' : ' ');
    bytes += text;
  }
  const h5::Dataset dataset(
      H5Dcreate2(file, name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  ASSERT_GE(H5Dwrite(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data()), 0);
}

void add_numbers(hid_t file, const std::string& name, const std::vector<std::int64_t>& values) {
  const auto space = h5::simple_space(values.size(), 0);
  const h5::Dataset dataset(
      H5Dcreate2(file, name.c_str(), H5T_STD_I64LE, space.get(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  ASSERT_GE(H5Dwrite(dataset.get(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
}

h5::File new_file(const std::string& path) {
  h5::start_library();
  return h5::File(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
}

struct Read {
  std::vector<std::string> items, rejects;
};

Read read_input(const formats::InputConfig& config) {
  Read out;
  const auto source = open_items(config);
  formats::Item item;
  formats::Reject reject;
  for (;;) {
    const auto kind = source->next(item, reject);
    if (kind == formats::RowKind::kEnd) return out;
    if (kind == formats::RowKind::kItem) {
      EXPECT_EQ(item.row, out.items.size());
      out.items.push_back(fmt::format("{}={}{}", item.id, item.text, item.replaced_utf8 ? "*" : ""));
    } else {
      out.rejects.push_back(fmt::format("{}:{}: {}", reject.line, reject.id, reject.reason));
    }
  }
}

class H5InputOfKind : public testing::TestWithParam<Strings> {};

TEST_P(H5InputOfKind, StringsAndIds) {
  const TempFolder folder;
  const auto path = folder.file("in.h5");
  {
    const auto file = new_file(path);
    add_strings(file.get(), "text",
                {"one", "",
                 "d\xC3\xB6"
                 "c",
                 "bad\xff"},
                GetParam());
    add_strings(file.get(), "id", {"a", "b", "", "d"}, GetParam());
  }
  const auto read = read_input({.paths = {path}});
  EXPECT_THAT(read.items, ElementsAre("a=one", "b=", "d=bad\xEF\xBF\xBD*"));
  EXPECT_THAT(read.rejects, ElementsAre("3:: the id is empty"));
}

INSTANTIATE_TEST_SUITE_P(H5Input, H5InputOfKind,
                         testing::Values(Strings::kVariable, Strings::kFixed, Strings::kSpacePadded));

TEST(H5Input, NumbersAsIdsOrNoIds) {
  const TempFolder folder;
  {
    const auto file = new_file(folder.file("a.h5"));
    add_strings(file.get(), "body", {"x", "y"}, Strings::kVariable);
    add_numbers(file.get(), "key", {-5, 1'000'000'000'000});
  }
  formats::InputConfig config{.paths = {folder.file("*.h5")}, .id_column = "key", .text_column = "body"};
  EXPECT_THAT(read_input(config).items, ElementsAre("-5=x", "1000000000000=y"));
  config.id_column = "absent";
  EXPECT_THAT(read_input(config).items, ElementsAre("0=x", "1=y"));
  std::filesystem::copy_file(folder.file("a.h5"), folder.file("b.h5"));
  EXPECT_THAT(read_input(config).items, ElementsAre("0=x", "1=y", "2=x", "3=y"))
      << "indexes go on over files";
  config.limit = 3;
  EXPECT_THAT(read_input(config).items, ElementsAre("0=x", "1=y", "2=x"));
}

TEST(H5Input, ManyRowsComeInOrder) {
  const TempFolder folder;
  constexpr std::size_t kRows = 20'000;
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < kRows; ++i) texts.push_back(std::string(i % 300, 'a') + std::to_string(i));
  {
    const auto file = new_file(folder.file("in.h5"));
    add_strings(file.get(), "text", texts, Strings::kVariable);
  }
  const double start = core::monotonic_seconds();
  const auto read = read_input({.paths = {folder.file("in.h5")}});
  fmt::print("{} rows in {:.0f} ms\n", kRows, (core::monotonic_seconds() - start) * 1000);
  ASSERT_EQ(read.items.size(), kRows);
  for (std::size_t i = 0; i < kRows; ++i) ASSERT_EQ(read.items[i], fmt::format("{}={}", i, texts[i]));
}

TEST(H5Input, ErrorsSayWhatIsWrong) {
  const TempFolder folder;
  {
    const auto file = new_file(folder.file("in.h5"));
    add_strings(file.get(), "text", {"x", "y"}, Strings::kVariable);
    add_strings(file.get(), "short", {"x"}, Strings::kVariable);
  }
  write_text(folder.file("no.h5"), "no HDF5 file");
  write_text(folder.file("text.txt"), "text");
  const auto message_of = [](const formats::InputConfig& config) -> std::string {
    try {
      read_input(config);
    } catch (const core::Error& error) {
      return error.what();
    }
    return "";
  };
  const auto path = folder.file("in.h5");
  EXPECT_THAT(message_of({.paths = {path}, .text_column = "body"}), HasSubstr("dataset 'body'"));
  EXPECT_THAT(message_of({.paths = {path}, .id_column = "short"}),
              HasSubstr("'short' has 1 rows and 'text' has 2"));
  EXPECT_THAT(message_of({.paths = {folder.file("no.h5")}}), HasSubstr("no.h5"));
  EXPECT_THAT(message_of({.paths = {folder.file("missing.h5")}}), HasSubstr("missing.h5"));
  EXPECT_THAT(message_of({.paths = {path, folder.file("text.txt")}}), HasSubstr("1 of 2 files are HDF5"));
}

TEST(H5Input, AnEndedReaderLeavesNoChild) {
  const TempFolder folder;
  {
    const auto file = new_file(folder.file("in.h5"));
    add_strings(file.get(), "text", std::vector<std::string>(50'000, std::string(100, 'x')),
                Strings::kVariable);
  }
  formats::Item item;
  formats::Reject reject;
  auto source = open_items({.paths = {folder.file("in.h5")}});
  EXPECT_EQ(source->next(item, reject), formats::RowKind::kItem);
  const auto children = read_text(fmt::format("/proc/self/task/{}/children", ::getpid()));
  EXPECT_FALSE(children.empty());
  source.reset();
  EXPECT_EQ(read_text(fmt::format("/proc/self/task/{}/children", ::getpid())), "");
}

TEST(H5Input, ChildOfAKilledRankEnds) {
  const TempFolder folder;
  {
    const auto file = new_file(folder.file("in.h5"));
    add_strings(file.get(), "text", std::vector<std::string>(50'000, std::string(100, 'x')),
                Strings::kVariable);
  }
  const pid_t rank = start_child([&] {
    const auto source = open_items({.paths = {folder.file("in.h5")}});
    write_text(folder.file("pid.tmp"), read_text(fmt::format("/proc/self/task/{}/children", ::getpid())));
    std::filesystem::rename(folder.file("pid.tmp"), folder.file("pid"));
    ::pause();
    return 0;
  });
  while (!std::filesystem::exists(folder.file("pid"))) ::usleep(1000);
  const auto reader = fmt::format("/proc/{}/exe", std::stol(read_text(folder.file("pid"))));
  const auto lives = [&] { return ::access(reader.c_str(), F_OK) == 0; };
  EXPECT_TRUE(lives());
  ::kill(rank, SIGKILL);
  wait_for(rank);
  const double end = core::monotonic_seconds() + 3;
  while (lives() && core::monotonic_seconds() < end) ::usleep(10'000);
  EXPECT_FALSE(lives());
}

/// One damaged copy: true when it was read, false when it was refused. A crash of the library would end this
/// test.
bool survives(const std::string& path, std::string_view bytes) {
  write_text(path, std::string(bytes));
  try {
    read_input({.paths = {path}});
    return true;
  } catch (const core::DataError& error) {
    EXPECT_THAT(error.what(), HasSubstr("in.h5"));
    return false;
  }
}

TEST(H5Input, DamagedFilesNeverCrashTheReader) {
  const TempFolder folder;
  const auto path = folder.file("in.h5");
  {
    const auto file = new_file(path);
    std::vector<std::string> texts;
    for (int i = 0; i < 40; ++i) texts.push_back(fmt::format("a text of some length, number {}", i));
    add_strings(file.get(), "text", texts, Strings::kVariable);
    add_strings(file.get(), "id", texts, Strings::kFixed);
  }
  const auto whole = read_text(path);
  EXPECT_TRUE(survives(path, whole));
  int refused = 0, cut_short = 0, flips = 0;
  for (std::size_t length = 0; length < whole.size(); length += whole.size() / 60) {
    cut_short += 1;
    refused += !survives(path, std::string_view(whole).substr(0, length));
  }
  EXPECT_EQ(refused, cut_short) << "every truncation is noticed";
  core::Philox random(1, 2);
  refused = 0;
  for (; flips < 500; ++flips) {
    auto damaged = whole;
    for (int i = 0; i < 4; ++i) {
      auto& byte = damaged[random.next_below(damaged.size())];
      byte = static_cast<char>(byte ^ (1 << random.next_below(8)));
    }
    refused += !survives(path, damaged);
  }
  fmt::print("{} damaged copies: {} refused, the others read\n", flips, refused);
}

}  // namespace
}  // namespace muster::io::test
