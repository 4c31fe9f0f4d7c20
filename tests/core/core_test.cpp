// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "muster/core/checked.h"
#include "muster/core/clock.h"
#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/fault.h"
#include "muster/core/file.h"
#include "muster/core/philox.h"
#include "muster/core/strings.h"

namespace muster::core {
namespace {

// Known answers of Random123's kat_vectors for philox4x32-10.
TEST(Philox, KnownAnswers) {
  using A4 = std::array<std::uint32_t, 4>;
  using A2 = std::array<std::uint32_t, 2>;
  EXPECT_EQ(philox4x32(A4{}, A2{}), (A4{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t f = 0xffffffff;
  EXPECT_EQ(philox4x32(A4{f, f, f, f}, A2{f, f}), (A4{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32(A4{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, A2{0xa4093822, 0x299f31d0}),
            (A4{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, StreamsDifferBySeedItemAndStep) {
  std::set<std::uint64_t> firsts;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    for (std::uint64_t item = 0; item < 4; ++item) {
      for (std::uint32_t step = 0; step < 4; ++step) firsts.insert(Philox(seed, item, step).next_u64());
    }
  }
  EXPECT_EQ(firsts.size(), 64u);
}

TEST(Philox, NextBelowStaysBelowAndReachesAll) {
  Philox random(1, 2);
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 200; ++i) seen.insert(random.next_below(7));
  EXPECT_EQ(seen.size(), 7u);
  EXPECT_EQ(*seen.rbegin(), 6u);
}

TEST(Digest, Sha256KnownAnswers) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Digest, Crc32cKnownAnswersAndContinuation) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc32c("456789", crc32c("123")), 0xE3069283u);
}

TEST(Checked, SeesOverflow) {
  EXPECT_EQ(checked_mul<std::uint64_t>(1ull << 32, 1ull << 31), 1ull << 63);
  EXPECT_FALSE(checked_mul<std::uint64_t>(1ull << 32, 1ull << 32));
  EXPECT_FALSE(checked_add<std::uint64_t>(~0ull, 1));
}

TEST(Duration, ReadsWhatPeopleWrite) {
  struct Case {
    const char* text;
    double seconds;
  };
  for (const auto& c :
       {Case{"90s", 90}, {"15m", 900}, {"1.5h", 5400}, {"2d", 172800}, {"7", 7}, {"250ms", 0.25}}) {
    EXPECT_DOUBLE_EQ(parse_duration(c.text), c.seconds) << c.text;
  }
  EXPECT_TRUE(std::isinf(parse_duration("none")));
  for (const char* bad : {"", "h", "-5s", "5 parsecs", "nan"})
    EXPECT_THROW(parse_duration(bad), ConfigError) << bad;
}

TEST(Nearest, FindsTyposOnly) {
  const std::vector<std::string> names{"batch_tokens", "batch_size", "dtype"};
  EXPECT_EQ(nearest("batch_tokns", names), "batch_tokens");
  EXPECT_EQ(nearest("dytpe", names), "dtype");
  EXPECT_EQ(nearest("zebra_crossing", names), std::nullopt);
}

TEST(ExitCodes, OfOurErrorsAndOthers) {
  EXPECT_EQ(exit_code_of(DataError("x")), ExitCode::kInput);
  EXPECT_EQ(exit_code_of(OutputError("x")), ExitCode::kOutput);
  EXPECT_EQ(exit_code_of(ResumeError("x")), ExitCode::kResumeMismatch);
  EXPECT_EQ(exit_code_of(std::bad_alloc()), ExitCode::kResources);
  EXPECT_EQ(exit_code_of(std::runtime_error("x")), ExitCode::kInternal);
  EXPECT_THROW(internal_check(false, "no"), InternalError);
}

TEST(Strings, JsonQuoteEscapes) {
  EXPECT_EQ(json_quote("a\"b\\\n\x01ü"), "\"a\\\"b\\\\\\n\\u0001ü\"");
}

class Files : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/muster_core_XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(Files, PublishReplacesWholeFiles) {
  const std::string path = folder_ + "/a.txt";
  publish_text(path, "old");
  publish_text(path, "new");
  EXPECT_EQ(read_file(path, 100), "new");
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST_F(Files, ErrorsNamePathAndReason) {
  try {
    read_file(folder_ + "/missing", 10);
    FAIL();
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("/missing: No such file"), std::string::npos) << error.what();
  }
  publish_text(folder_ + "/big", std::string(100, 'x'));
  EXPECT_THROW(read_file(folder_ + "/big", 99), DataError);
  EXPECT_THROW(create_for_writing(folder_ + "/no/such/folder/file"), OutputError);
}

TEST_F(Files, DigestOfAFileIsThatOfItsBytes) {
  for (const std::size_t size : {0u, 5u, 1u << 20, (1u << 20) + 1}) {
    const std::string content(size, 'q');
    publish_text(folder_ + "/d", content);
    EXPECT_EQ(sha256_file(folder_ + "/d"), sha256_hex(content)) << size;
  }
}

TEST_F(Files, MapsFilesAndEmptyFiles) {
  publish_text(folder_ + "/m", "hello");
  const MappedFile file(folder_ + "/m");
  EXPECT_EQ(file.bytes().size(), 5u);
  publish_text(folder_ + "/empty", "");
  EXPECT_TRUE(MappedFile(folder_ + "/empty").bytes().empty());
}

TEST(FaultPoint, IsSilentWithoutAFault) {
  EXPECT_FALSE(fault_point("anything"));
}

}  // namespace
}  // namespace muster::core
