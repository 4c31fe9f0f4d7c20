// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/segment.h"

#include <random>

#include "testing.h"

namespace muster::formats {
namespace {

using testing::data_error_of;

std::vector<std::byte> payload_of(std::size_t bytes, int seed) {
  std::vector<std::byte> out(bytes);
  for (std::size_t i = 0; i < bytes; ++i)
    out[i] = static_cast<std::byte>(i * 7 + static_cast<std::size_t>(seed));
  return out;
}

/// Two groups one after another and where their indexes are.
struct Sample {
  std::vector<std::byte> bytes;
  std::vector<std::uint64_t> indexes;
  std::vector<Record> records;
};

Sample make_sample() {
  Sample sample;
  std::uint64_t item = 1000;
  for (const std::vector<std::size_t>& sizes :
       {std::vector<std::size_t>{12, 0, 1}, std::vector<std::size_t>{8, 33}}) {
    SegmentGroup group(sample.bytes.size());
    EXPECT_TRUE(group.empty());
    for (const std::size_t size : sizes) {
      const auto kind = size == 1 ? RecordKind::kFailure : RecordKind::kResult;
      sample.records.push_back({item, kind, payload_of(size, static_cast<int>(item))});
      group.add(sample.records.back());
      item += 7;
    }
    sample.indexes.push_back(group.finish());
    sample.bytes.insert(sample.bytes.end(), group.bytes().begin(), group.bytes().end());
    EXPECT_EQ(group.refs().size(), sizes.size());
  }
  return sample;
}

/// Everything a reader would take from the segment; throws DataError.
std::vector<Record> read_all(std::span<const std::byte> segment, const std::vector<std::uint64_t>& indexes) {
  std::vector<Record> out;
  for (const auto index : indexes) {
    for (const auto& ref : read_index_frame(segment, index, "s.seg")) {
      const auto payload = read_record(segment, ref, "s.seg");
      out.push_back({ref.item, ref.kind, {payload.begin(), payload.end()}});
    }
  }
  return out;
}

bool same(const std::vector<Record>& a, const std::vector<Record>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Record& x, const Record& y) {
    return x.item == y.item && x.kind == y.kind && x.payload == y.payload;
  });
}

TEST(Segment, RecordsComeBack) {
  const auto sample = make_sample();
  EXPECT_TRUE(same(read_all(sample.bytes, sample.indexes), sample.records));
  for (const auto index : sample.indexes) {
    for (const auto& ref : read_index_frame(sample.bytes, index, "s.seg")) {
      const auto payload = read_record(sample.bytes, ref, "s.seg");
      EXPECT_EQ((payload.data() - sample.bytes.data()) % 8, 0) << "payloads are aligned";
    }
  }
}

TEST(Segment, AnEmptyGroupIsAnIndexOfNothing) {
  SegmentGroup group(0);
  const auto index = group.finish();
  EXPECT_TRUE(read_index_frame(group.bytes(), index, "s.seg").empty());
}

TEST(Segment, EveryTruncationIsFound) {
  const auto sample = make_sample();
  const std::span<const std::byte> whole = sample.bytes;
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const auto message = data_error_of([&] { read_all(whole.first(n), sample.indexes); });
    EXPECT_TRUE(message.starts_with("s.seg: the frame at byte ")) << message;
  }
}

TEST(Segment, EverySingleBitFlipIsFound) {
  const auto sample = make_sample();
  for (std::size_t bit = 0; bit < sample.bytes.size() * 8; ++bit) {
    auto bad = sample.bytes;
    bad[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    data_error_of([&] { read_all(bad, sample.indexes); });
  }
}

TEST(Segment, RandomDamageIsFound) {
  const auto sample = make_sample();
  std::mt19937_64 random(17);
  int found = 0;
  for (int i = 0; i < 10'000; ++i) {
    auto bad = sample.bytes;
    for (std::uint64_t n = random() % 8 + 1; n > 0; --n)
      bad[random() % bad.size()] = static_cast<std::byte>(random());
    if (bad == sample.bytes) continue;
    try {
      EXPECT_TRUE(same(read_all(bad, sample.indexes), sample.records)) << "damage went unseen";
    } catch (const core::DataError&) {
      ++found;
    }
  }
  EXPECT_GT(found, 9'900);
}

TEST(Segment, WrongReferencesAreRefused) {
  const auto sample = make_sample();
  const auto good = read_index_frame(sample.bytes, sample.indexes[0], "s.seg")[0];
  struct Case {
    RecordRef ref;
    const char* part;
  };
  const Case cases[] = {
      {{good.item + 1, good.offset, good.payload_bytes, good.kind},
       "is of item 1000 (kind 1, 12 bytes), not of item 1001"},
      {{good.item, good.offset, good.payload_bytes + 1, good.kind}, "not of item 1000 (kind 1, 13 bytes)"},
      {{good.item, good.offset, good.payload_bytes, RecordKind::kFailure}, "not of item 1000 (kind 2"},
      {{good.item, good.offset + 8, good.payload_bytes, good.kind},
       "does not start with a frame's magic number"},
      {{good.item, sample.indexes[0], good.payload_bytes, good.kind}, "(kind 255"},
      {{good.item, sample.bytes.size(), good.payload_bytes, good.kind}, "is cut off"},
      {{good.item, UINT64_MAX, good.payload_bytes, good.kind}, "is cut off"},
  };
  for (const auto& [ref, part] : cases) {
    const auto message = data_error_of([&] { read_record(sample.bytes, ref, "s.seg"); });
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
  const std::pair<std::uint64_t, const char*> offsets[] = {{good.offset, "is a record instead"},
                                                           {sample.indexes[0] + 4, "magic"},
                                                           {UINT64_MAX - 3, "is cut off"},
                                                           {sample.bytes.size() - 8, "is cut off"}};
  for (const auto& [offset, part] : offsets) {
    const auto message = data_error_of([&] { read_index_frame(sample.bytes, offset, "s.seg"); });
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

/// A group copied to another place has good checksums, but its index lies about where its records are.
TEST(Segment, AMovedGroupIsFound) {
  const auto sample = make_sample();
  std::vector<std::byte> moved(64);
  moved.insert(moved.end(), sample.bytes.begin(), sample.bytes.end());
  EXPECT_NE(data_error_of([&] {
              read_index_frame(moved, sample.indexes[0] + 64, "s.seg");
            }).find("does not follow its last record"),
            std::string::npos);
}

}  // namespace
}  // namespace muster::formats
