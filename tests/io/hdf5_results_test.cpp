// SPDX-License-Identifier: Apache-2.0
#include "muster/io/hdf5_results.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "muster/core/clock.h"
#include "muster/core/digest.h"
#include "muster/core/error.h"
#include "muster/core/file.h"
#include "support.h"

namespace muster::io::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr std::uint64_t kColumns = 24;

float value_of(std::uint64_t row, std::uint64_t column) {
  return static_cast<float>(row * 100 + column) * 0.25f;
}
std::uint16_t half_of(std::uint64_t row, std::uint64_t column) {
  return static_cast<std::uint16_t>((row * 37 + column) % 0x7c00);
}
std::string id_of(std::uint64_t row) {
  return row % 3 == 0 ? fmt::format(
                            "d\xC3\xB6"
                            "c-{}",
                            row)
                      : std::string(row % 50, 'x') + fmt::format("{}", row);
}

H5FileSpec make_spec(const std::string& path, std::uint64_t rows) {
  H5FileSpec spec;
  spec.path = path;
  spec.datasets = {{"/embeddings", H5Type::kF32, rows, kColumns},
                   {"/half", H5Type::kF16, rows, kColumns},
                   {"/n_tokens", H5Type::kI32, rows, 0},
                   {"/truncated", H5Type::kU8, rows, 0},
                   {"/hashes", H5Type::kU64, rows, 0}};
  spec.attributes = {{"schema", std::int64_t{1}},
                     {"model", std::string("models/\xE2\x82\xAC")},
                     {"scale", 0.5},
                     {"empty", std::string()}};
  spec.next_id = [row = std::uint64_t{0}]() mutable { return id_of(row++); };
  spec.ids_rows = rows;
  return spec;
}

/// The rows [first, first + rows) of every dataset of make_spec.
void write_rows(H5RowWriter& writer, std::uint64_t first, std::uint64_t rows) {
  std::vector<float> embeddings;
  std::vector<std::uint16_t> halves;
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> truncated;
  std::vector<std::uint64_t> hashes;
  for (std::uint64_t row = first; row < first + rows; ++row) {
    for (std::uint64_t c = 0; c < kColumns; ++c) embeddings.push_back(value_of(row, c));
    for (std::uint64_t c = 0; c < kColumns; ++c) halves.push_back(half_of(row, c));
    tokens.push_back(static_cast<std::int32_t>(row) - 5);
    truncated.push_back(row % 7 == 0);
    hashes.push_back(row * 0x9E3779B97F4A7C15ull);
  }
  const auto bytes = [](const auto& values) { return std::as_bytes(std::span(values)); };
  const std::vector<std::span<const std::byte>> columns = {bytes(embeddings), bytes(halves), bytes(tokens),
                                                           bytes(truncated), bytes(hashes)};
  writer.write(first, rows, columns);
}

/// Blocks of rows dealt round robin, so that ranks write into each other's neighbourhood and some may have
/// none.
void write_share(H5RowWriter& writer, std::uint64_t rows, const comm::Communicator& world) {
  constexpr std::uint64_t kBlock = 500;
  const auto ranks = static_cast<std::uint64_t>(world.size());
  for (std::uint64_t block = static_cast<std::uint64_t>(world.rank()); block * kBlock < rows;
       block += ranks) {
    write_rows(writer, block * kBlock, std::min(kBlock, rows - block * kBlock));
  }
}

void write_file(const std::string& path, std::uint64_t rows, comm::Communicator& world) {
  write_h5(make_spec(path, rows), world, [&](H5RowWriter& writer) { write_share(writer, rows, world); });
}

float half_value(std::uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int mantissa = half & 0x3ff;
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                        : std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  return half & 0x8000 ? -magnitude : magnitude;
}

class H5ResultsOfSize : public testing::TestWithParam<std::uint64_t> {};

TEST_P(H5ResultsOfSize, ReadBackAsWritten) {
  const std::uint64_t rows = GetParam();
  const TempFolder folder;
  auto world = one_rank();
  write_file(folder.file("r.h5"), rows, world);
  EXPECT_FALSE(fs::exists(folder.file("r.h5.tmp")));
  const H5Reader reader(folder.file("r.h5"));
  EXPECT_EQ(reader.shape("/embeddings"), (std::vector<std::uint64_t>{rows, kColumns}));
  EXPECT_EQ(reader.shape("/ids"), (std::vector<std::uint64_t>{rows}));
  for (const auto& dataset : make_spec("", rows).datasets)
    EXPECT_EQ(reader.type(dataset.name), dataset.type) << dataset.name;
  EXPECT_EQ(reader.attributes(), make_spec("", rows).attributes);
  const auto embeddings = reader.read_rows("/embeddings", 0, rows);
  const auto halves = reader.read_rows("/half", 0, rows);
  const auto tokens = reader.read_i32("/n_tokens", 0, rows);
  const auto truncated = reader.read_u8("/truncated", 0, rows);
  const auto ids = reader.read_strings("/ids", 0, rows);
  ASSERT_EQ(embeddings.size(), rows * kColumns);
  ASSERT_EQ(ids.size(), rows);
  for (std::uint64_t row = 0; row < rows; ++row) {
    for (std::uint64_t c = 0; c < kColumns; ++c) {
      ASSERT_EQ(embeddings[row * kColumns + c], value_of(row, c));
      ASSERT_EQ(halves[row * kColumns + c], half_value(half_of(row, c)));
    }
    ASSERT_EQ(tokens[row], static_cast<std::int32_t>(row) - 5);
    ASSERT_EQ(truncated[row], row % 7 == 0);
    ASSERT_EQ(ids[row], id_of(row));
  }
  if (rows > 2) {
    EXPECT_EQ(reader.read_strings("/ids", rows - 1, 1), std::vector{id_of(rows - 1)});
    EXPECT_EQ(reader.read_rows("/embeddings", 1, 1)[3], value_of(1, 3));
  }
}

INSTANTIATE_TEST_SUITE_P(H5Results, H5ResultsOfSize, testing::Values(0, 1, 7, 25'013));

TEST(H5Results, EveryHalfIsWidenedExactly) {
  const TempFolder folder;
  auto world = one_rank();
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const H5FileSpec spec{.path = folder.file("h.h5"), .datasets = {{"/h", H5Type::kF16, all.size(), 0}}};
  write_h5(spec, world, [&](H5RowWriter& writer) {
    writer.write(0, all.size(), std::vector{std::as_bytes(std::span<const std::uint16_t>(all))});
  });
  const auto wide = H5Reader(spec.path).read_rows("/h", 0, all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    if ((i & 0x7c00) != 0x7c00) {
      ASSERT_EQ(std::bit_cast<std::uint32_t>(wide[i]), std::bit_cast<std::uint32_t>(half_value(all[i]))) << i;
    } else {
      ASSERT_EQ(std::isnan(wide[i]), (i & 0x3ff) != 0) << i;
      ASSERT_EQ(std::signbit(wide[i]), (i & 0x8000) != 0) << i;
    }
  }
}

TEST(H5Results, ReaderRefusesWhatIsNotThere) {
  const TempFolder folder;
  auto world = one_rank();
  write_file(folder.file("r.h5"), 10, world);
  const H5Reader reader(folder.file("r.h5"));
  EXPECT_THROW(reader.shape("/nothing"), core::DataError);
  EXPECT_THROW(reader.read_rows("/embeddings", 5, 6), core::DataError);
  EXPECT_THROW(reader.read_rows("/embeddings", UINT64_MAX, 2), core::DataError);
  EXPECT_THROW(reader.read_rows("/n_tokens", 0, 1), core::DataError);
  EXPECT_THROW(reader.read_strings("/embeddings", 0, 1), core::DataError);
  write_text(folder.file("text.h5"), "no HDF5 file");
  EXPECT_THROW(H5Reader(folder.file("text.h5")), core::DataError);
  EXPECT_THROW(H5Reader(folder.file("missing.h5")), core::DataError);
}

TEST(H5Results, SameBytesOnAnyNumberOfRanks) {
  if (role() == "write") {
    play_role([](comm::Communicator& world) {
      for (const int rows : {0, 3, 501, 12'345})
        write_file(role_folder() + fmt::format("/{}.h5", rows), rows, world);
    });
  }
  const TempFolder reference;
  auto world = one_rank();
  const std::vector<int> sizes = {0, 3, 501, 12'345};
  for (const int rows : sizes)
    write_file(reference.file(fmt::format("{}.h5", rows)), static_cast<std::uint64_t>(rows), world);
  for (const int ranks : {1, 2, 3, 4}) {
    const TempFolder folder;
    ASSERT_EQ(rerun_current_test({.role = "write", .folder = folder.path(), .ranks = ranks}), 0)
        << read_text(folder.file("error"));
    for (const int rows : sizes) {
      const auto name = fmt::format("{}.h5", rows);
      EXPECT_EQ(core::sha256_file(folder.file(name)), core::sha256_file(reference.file(name)))
          << rows << " rows, " << ranks << " ranks";
    }
  }
}

TEST(H5Results, AnErrorOfTheCallerIsSurvived) {
  if (role() == "throw") {
    play_role([](comm::Communicator& world) {
      const auto path = role_folder() + "/r.h5";
      write_file(path, 1000, world);
      try {
        write_h5(make_spec(path, 2000), world, [&](H5RowWriter&) {
          if (world.rank() == world.size() - 1) throw core::DataError("a damaged record");
        });
      } catch (const core::DataError&) {
        world.barrier();  // the world is still whole
        write_file(role_folder() + "/other.h5", 100, world);
        throw;
      }
    });
  }
  for (const int ranks : {1, 3}) {
    const TempFolder folder;
    EXPECT_EQ(rerun_current_test({.role = "throw", .folder = folder.path(), .ranks = ranks}), 3);
    EXPECT_THAT(read_text(folder.file("error")), HasSubstr("a damaged record"));
    EXPECT_FALSE(fs::exists(folder.file("r.h5.tmp")));
    EXPECT_EQ(H5Reader(folder.file("r.h5")).shape("/ids")[0], 1000u) << "the earlier file stays";
    EXPECT_TRUE(fs::exists(folder.file("other.h5")));
  }
}

struct FaultCase {
  const char* fault;
  int exit_code;
};
class H5Fault : public testing::TestWithParam<FaultCase> {};

/// Killed or failing anywhere in publishing: the earlier file stays as it is, and the same again succeeds.
TEST_P(H5Fault, EarlierFileStaysAndTheSameAgainSucceeds) {
  if (role() == "write") {
    play_role([](comm::Communicator& world) { write_file(role_folder() + "/r.h5", 5000, world); });
  }
  const TempFolder folder;
  auto world = one_rank();
  write_file(folder.file("r.h5"), 10, world);
  const double start = core::monotonic_seconds();
  EXPECT_EQ(rerun_current_test({.role = "write",
                                .folder = folder.path(),
                                .ranks = 3,
                                .environment = {{"MUSTER_FAULT", GetParam().fault}}}),
            GetParam().exit_code);
  EXPECT_LT(core::monotonic_seconds() - start, 20);
  EXPECT_EQ(H5Reader(folder.file("r.h5")).shape("/ids")[0], 10u);
  if (GetParam().exit_code == 7) {
    EXPECT_FALSE(fs::exists(folder.file("r.h5.tmp")));
  }
  EXPECT_EQ(rerun_current_test({.role = "write", .folder = folder.path(), .ranks = 2}), 0);
  EXPECT_EQ(H5Reader(folder.file("r.h5")).shape("/ids")[0], 5000u);
}

INSTANTIATE_TEST_SUITE_P(
    H5Results, H5Fault,
    testing::Values(FaultCase{"publish.h5_reserve:0:1:eio", 7}, FaultCase{"publish.h5_created:1:1:kill", 137},
                    FaultCase{"publish.h5_write:1:2:eio", 7}, FaultCase{"publish.h5_write:*:1:eio", 7},
                    FaultCase{"publish.h5_write:2:1:kill", 137}, FaultCase{"publish.h5_closed:0:1:kill", 137},
                    FaultCase{"publish.before_rename:0:1:kill", 137}),
    [](const auto& info) {
      std::string name = info.param.fault;
      std::replace_if(
          name.begin(), name.end(), [](char c) { return !std::isalnum(c); }, '_');
      std::replace(name.begin(), name.end(), '*', 'a');
      return name;
    });

void fill_up(const std::string& folder) {
  const core::UniqueFd fd(::open((folder + "/filler").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644));
  for (const std::size_t piece : {std::size_t{65536}, std::size_t{4096}}) {
    const std::string zeros(piece, 'z');
    while (::write(fd.get(), zeros.data(), zeros.size()) > 0) {
    }
  }
}

struct FullCase {
  const char* name;
  const char* role;
  const char* message;
};
class H5DiskFull : public testing::TestWithParam<std::tuple<FullCase, int>> {};

TEST_P(H5DiskFull, IsReportedAndEarlierResultsStay) {
  if (role() == "rows")
    play_role([](comm::Communicator& world) { write_file(role_folder() + "/r.h5", 50'000, world); });
  if (role() == "ids") {
    play_role([](comm::Communicator& world) {
      H5FileSpec spec{.path = role_folder() + "/r.h5"};
      spec.next_id = [] { return std::string(1000, 'i'); };
      spec.ids_rows = 5000;
      write_h5(spec, world, [](H5RowWriter&) {});
    });
  }
  if (role() == "parallel") {
    play_role([](comm::Communicator& world) {
      const auto path = role_folder() + "/r.h5";
      write_h5(make_spec(path, 3000), world, [&](H5RowWriter& writer) {
        // A file system that breaks its promise: the reserved blocks are gone and the disk is full.
        write_text(role_folder() + fmt::format("/ready{}", world.rank()), "");
        for (int rank = 0; rank < world.size(); ++rank) {
          while (!fs::exists(role_folder() + fmt::format("/ready{}", rank))) ::usleep(1000);
        }
        if (world.is_root()) {
          fs::resize_file(path + ".tmp", 8192);
          fill_up(role_folder());
        } else {
          while (!fs::exists(role_folder() + "/filler")) ::usleep(1000);
          ::usleep(300'000);
        }
        write_share(writer, 3000, world);
      });
    });
  }
  const auto& [full, ranks] = GetParam();
  const TempFolder folder;
  const auto small = folder.file("small");
  const auto mount = Mount::tmpfs(small, "size=2m");
  if (!mount.mounted()) GTEST_SKIP() << mount.reason();
  auto world = one_rank();
  write_file(small + "/r.h5", 10, world);
  const double start = core::monotonic_seconds();
  EXPECT_EQ(rerun_current_test({.role = full.role, .folder = small, .ranks = ranks}), 7);
  EXPECT_LT(core::monotonic_seconds() - start, 20);
  if (full.message[0] != '\0') {
    EXPECT_THAT(read_text(small + "/error"), HasSubstr(full.message));
  }
  EXPECT_FALSE(fs::exists(small + "/r.h5.tmp"));
  EXPECT_EQ(H5Reader(small + "/r.h5").shape("/ids")[0], 10u);
}

INSTANTIATE_TEST_SUITE_P(
    , H5DiskFull,
    testing::Combine(testing::Values(FullCase{"BeforeTheParallelPart", "rows", "No space left"},
                                     FullCase{"InTheIds", "ids", "No space left"},
                                     FullCase{"InTheParallelPart", "parallel", ""}),
                     testing::Values(1, 3)),
    [](const auto& info) {
      return fmt::format("{}On{}Ranks", std::get<0>(info.param).name, std::get<1>(info.param));
    });

}  // namespace
}  // namespace muster::io::test
