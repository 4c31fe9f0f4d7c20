// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/safetensors.h"

#include <cstring>
#include <ctime>
#include <random>

#include "testing.h"

namespace muster::formats {
namespace {

using namespace std::string_literals;
using testing::data_error_of;
using testing::TemporaryFolder;

std::string length_bytes(std::uint64_t length) {
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out;
}

std::string file_of(const std::string& header, std::size_t data_bytes) {
  std::string out = length_bytes(header.size()) + header;
  for (std::size_t i = 0; i < data_bytes; ++i) out += static_cast<char>(i);
  return out;
}

SafetensorsHeader parse(const std::string& file) {
  return parse_safetensors_header(std::as_bytes(std::span(file)), "m.safetensors");
}

const std::string kGood =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]},)"
    R"("a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"e":{"dtype":"I64","shape":[3,0],"data_offsets":[4,4]},)"
    R"("s":{"dtype":"U8","shape":[],"data_offsets":[12,13]}}  )";

long peak_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == "VmHWM:") return status >> word, std::stol(word);
  }
  return 0;
}

TEST(Safetensors, HeaderOfAGoodFile) {
  const auto header = parse(file_of(kGood, 13));
  EXPECT_EQ(header.data_offset, 8 + kGood.size());
  EXPECT_EQ(header.metadata, (std::map<std::string, std::string>{{"format", "pt"}}));
  ASSERT_EQ(header.tensors.size(), 4u);
  const auto& b = header.tensors.at("b");
  EXPECT_EQ(b.dtype, DType::kF32);
  EXPECT_EQ(b.shape, (std::vector<std::uint64_t>{2, 1}));
  EXPECT_EQ(b.begin, 4u);
  EXPECT_EQ(b.end, 12u);
  EXPECT_TRUE(header.tensors.at("s").shape.empty());
  EXPECT_TRUE(parse(file_of("{}", 0)).tensors.empty());
  EXPECT_EQ(dtype_bytes(DType::kBF16), 2u);
  EXPECT_EQ(dtype_name(DType::kF8E4M3), "F8_E4M3");
}

/// One kind of bad file a row, with the rule that must refuse it.
TEST(SafetensorsRejects, EveryRuleNamesItself) {
  const auto tensor = [](const std::string& fields) { return "{\"t\":{" + fields + "}}"; };
  const auto offsets = [](const std::string& begin_end) {
    return "{\"t\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" + begin_end + "}}";
  };
  const auto shaped = [](const std::string& shape) {
    return "{\"t\":{\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":[0,4]}}";
  };
  const auto two = [](const std::string& a, const std::string& b) {
    return "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" + a +
           "},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" + b + "}}";
  };
  std::string many = "{\"t\":[";
  for (int i = 0; i < 400'100; ++i) many += "0,";
  struct Case {
    std::string name, file, part;
  };
  const Case cases[] = {
      {"empty file", "", "0 bytes are too few"},
      {"seven bytes", "\1\0\0\0\0\0\0"s, "7 bytes are too few"},
      {"length only", length_bytes(2), "but only 0 follow"},
      {"length beyond the file", length_bytes(1000) + "{}", "but only 2 follow"},
      {"length beyond the format", length_bytes(100'000'001) + "{}", "the format allows 100000000"},
      {"length of 2^64-1", length_bytes(UINT64_MAX) + "{}", "the format allows 100000000"},
      {"a zip archive", "PK\3\4" + std::string(60, 'x'), "Is this a safetensors file?"},
      {"length 0", length_bytes(0) + "{}", "does not start with '{'"},
      {"starts with a space", file_of(" {}", 0), "does not start with '{'"},
      {"starts with a byte-order mark", file_of("\xEF\xBB\xBF{}", 0), "does not start with '{'"},
      {"an array", file_of("[]", 0), "does not start with '{'"},
      {"cut JSON", file_of("{\"t\":", 0), "broken JSON at byte 6"},
      {"two documents", file_of("{}{}", 0), "broken JSON"},
      {"comment", file_of("{}/**/", 0), "broken JSON"},
      {"NUL padding", file_of("{}\0\0"s, 0), "NUL byte"},
      {"invalid UTF-8", file_of("{\"\xFF\":1}", 0), "broken JSON"},
      {"overlong UTF-8", file_of("{\"\xC0\xAF\":1}", 0), "broken JSON"},
      {"deep nesting", file_of("{\"t\":" + std::string(100'000, '['), 0), "nested deeper than 64"},
      {"too many values", file_of(many, 0), "holds more than 400000 values"},
      {"a name twice",
       file_of("{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"t\":{\"dtype\":\"U8\","
               "\"shape\":[1],\"data_offsets\":[0,1]}}",
               1),
       "key 't' occurs twice"},
      {"a field twice",
       file_of(tensor("\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]"), 1),
       "key 'dtype' occurs twice in 't'"},
      {"metadata twice", file_of("{\"__metadata__\":{},\"__metadata__\":{}}", 0),
       "key '__metadata__' occurs twice"},
      {"metadata no object", file_of("{\"__metadata__\":[]}", 0),
       "key '__metadata__' is an array, not an object"},
      {"metadata not text", file_of("{\"__metadata__\":{\"a\":1}}", 0),
       "key '__metadata__.a' is an integer, not a string"},
      {"tensor no object", file_of("{\"t\":5}", 0), "key 't' is an integer, not an object"},
      {"no dtype", file_of(tensor("\"shape\":[1],\"data_offsets\":[0,1]"), 1), "key 't.dtype' is missing"},
      {"no shape", file_of(tensor("\"dtype\":\"U8\",\"data_offsets\":[0,1]"), 1), "key 't.shape' is missing"},
      {"no offsets", file_of(tensor("\"dtype\":\"U8\",\"shape\":[1]"), 1), "key 't.data_offsets' is missing"},
      {"unknown field", file_of(tensor("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1"), 1),
       "key 't.x' is not part of the format"},
      {"unknown dtype", file_of(tensor("\"dtype\":\"Q4\",\"shape\":[1],\"data_offsets\":[0,1]"), 1),
       "key 't.dtype' is 'Q4', a dtype that is not supported"},
      {"dtype in lower case", file_of(tensor("\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]"), 4),
       "'f32'"},
      {"dtype no text", file_of(tensor("\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]"), 1),
       "key 't.dtype' is an integer"},
      {"shape no array", file_of(shaped("4"), 4), "key 't.shape' is an integer, not an array"},
      {"negative dimension", file_of(shaped("[-1]"), 4), "key 't.shape[0]' is -1"},
      {"fractional dimension", file_of(shaped("[1.0]"), 4), "key 't.shape[0]' is a number, not an integer"},
      {"dimension of 2^64", file_of(shaped("[18446744073709551616]"), 4),
       "key 't.shape[0]' is a number, not an integer"},
      {"shape overflows", file_of(shaped("[4294967296,4294967296]"), 4), "overflows 64 bits"},
      {"shape overflows before 0", file_of(shaped("[4294967296,4294967296,0]"), 4), "overflows 64 bits"},
      {"shape times dtype overflows", file_of(shaped("[4611686018427387904]"), 4), "overflows 64 bits"},
      {"1e18 elements", file_of(shaped("[1000000000000000000]"), 4),
       "has a shape of 4000000000000000000 bytes, but its data_offsets span 4"},
      {"1e18 bytes", file_of(offsets("[0,1000000000000000000]"), 4),
       "ends at 1000000000000000000, but the file has 4 bytes of data"},
      {"shape too small", file_of(shaped("[0]"), 4), "has a shape of 0 bytes"},
      {"shape too large", file_of(shaped("[2]"), 4), "has a shape of 8 bytes, but its data_offsets span 4"},
      {"one offset", file_of(offsets("[4]"), 4), "has 1 numbers, not 2"},
      {"three offsets", file_of(offsets("[0,4,4]"), 4), "has 3 numbers, not 2"},
      {"offsets no array", file_of(offsets("\"0,4\""), 4), "key 't.data_offsets' is a string"},
      {"negative offset", file_of(offsets("[-4,0]"), 4), "key 't.data_offsets[0]' is -4"},
      {"fractional offset", file_of(offsets("[0,4.0]"), 4), "key 't.data_offsets[1]' is a number"},
      {"end before begin", file_of(offsets("[4,0]"), 4), "begins at 4, after its end at 0"},
      {"end beyond the data", file_of(offsets("[0,4]"), 3),
       "ends at 4, but the file has 3 bytes of data; is the file cut off?"},
      {"does not begin at 0", file_of(offsets("[1,5]"), 5),
       "tensor 't' begins at byte 1 of the data, which leaves a hole"},
      {"a hole", file_of(two("[0,2]", "[3,5]"), 5),
       "tensor 'b' begins at byte 3 of the data, which leaves a hole"},
      {"an overlap", file_of(two("[0,2]", "[1,3]"), 3),
       "tensor 'b' begins at byte 1 of the data, which overlaps"},
      {"the same bytes twice", file_of(two("[0,2]", "[0,2]"), 2), "overlaps"},
      {"bytes after the last tensor", file_of(two("[0,2]", "[2,4]"), 5),
       "5 bytes of data, but the tensors end at 4"},
      {"data without tensors", file_of("{}", 1), "1 bytes of data, but the tensors end at 0"},
  };
  static_assert(std::size(cases) >= 30);
  double slowest = 0;
  for (const auto& c : cases) {
    const long before = peak_kib();
    const std::clock_t start = std::clock();  // processor time: other jobs on the machine must not count
    const auto message = data_error_of([&] { parse(c.file); });
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    slowest = std::max(slowest, seconds);
    EXPECT_TRUE(message.starts_with("m.safetensors: ")) << c.name << ": " << message;
    EXPECT_NE(message.find(c.part), std::string::npos) << c.name << ": " << message;
    EXPECT_LT(peak_kib() - before, 64 * 1024) << c.name;
  }
  RecordProperty("kinds", static_cast<int>(std::size(cases)));
  RecordProperty("slowest_microseconds", static_cast<int>(slowest * 1e6));
#if !defined(__SANITIZE_ADDRESS__) && defined(__OPTIMIZE__)
  EXPECT_LT(slowest, 0.1);
#endif
}

TEST(SafetensorsRejects, EveryTruncation) {
  const std::string whole = file_of(kGood, 13);
  for (std::size_t n = 0; n < whole.size(); ++n) data_error_of([&] { parse(whole.substr(0, n)); });
}

TEST(SafetensorsRejects, RandomBitFlipsNeverCrash) {
  const std::string whole = file_of(kGood, 13);
  std::mt19937_64 random(13);
  int refused = 0;
  for (int i = 0; i < 10'000; ++i) {
    std::string bad = whole;
    for (std::uint64_t n = random() % 4 + 1; n > 0; --n) {
      const std::size_t bit = random() % (8 * (8 + kGood.size()));
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    }
    try {
      for (const auto& [name, info] : parse(bad).tensors) {
        ASSERT_LE(info.begin, info.end);
        ASSERT_LE(info.end, 13u);
      }
    } catch (const core::DataError&) {
      ++refused;
    }
  }
  RecordProperty("refused_of_10000", refused);
  EXPECT_GT(refused, 7'000);
}

TEST(Safetensors, FilesAndFolders) {
  const TemporaryFolder folder;
  folder.write("model.safetensors", file_of(kGood, 13));
  for (const auto& path : {folder.path(), folder.file("model.safetensors")}) {
    const auto model = Safetensors::open(path);
    EXPECT_EQ(model.names(), (std::vector<std::string>{"a", "b", "e", "s"}));
    EXPECT_EQ(model.total_bytes(), 13u);
    EXPECT_EQ(model.files().size(), 1u);
    const auto b = model.find("b");
    ASSERT_TRUE(b);
    EXPECT_EQ(b->bytes.size(), 8u);
    EXPECT_EQ(b->bytes[0], std::byte{4});
    EXPECT_EQ(b->file, folder.file("model.safetensors"));
    EXPECT_FALSE(model.find("c"));
  }
  EXPECT_NE(data_error_of([&] {
              Safetensors::open(folder.path(), "other");
            }).find("holds neither other.safetensors nor"),
            std::string::npos);
  EXPECT_NE(
      data_error_of([&] { Safetensors::open(folder.file("none.safetensors")); }).find("none.safetensors"),
      std::string::npos);
  folder.write("empty.safetensors", "");
  data_error_of([&] { Safetensors::open(folder.file("empty.safetensors")); });
}

TEST(Safetensors, ShardsMustFitTheirIndex) {
  const auto one = [](const std::string& name) {
    return file_of("{\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3);
  };
  struct Case {
    std::string weight_map, part;  ///< no part: a good index
  };
  const Case cases[] = {
      {R"({"x":"m-1.safetensors","y":"m-2.safetensors"})", ""},
      {R"({"x":"m-1.safetensors"})", ""},
      {R"({"x":"m-2.safetensors","y":"m-1.safetensors"})",
       "tensor 'x' shall be in m-2.safetensors, which does not hold it"},
      {R"({"x":"m-1.safetensors","y":"m-2.safetensors","z":"m-2.safetensors"})",
       "tensor 'z' shall be in m-2.safetensors"},
      {R"({"x":"m-1.safetensors","y":"m-3.safetensors"})", "m-3.safetensors"},
      {R"({"x":"m-1.safetensors","y":"two.safetensors"})",
       "two.safetensors holds tensor 'w', which the index does not list"},
      {R"({"x":"../m-1.safetensors"})", "shards lie beside their index"},
      {R"({"x":"/etc/passwd"})", "shards lie beside their index"},
      {R"({"x":"sub/m-1.safetensors"})", "shards lie beside their index"},
      {R"({"x":".."})", "shards lie beside their index"},
      {R"({"x":""})", "shards lie beside their index"},
      {R"({"x":"m-1.bin"})", "which is not .safetensors"},
      {R"({"x":7})", "key 'weight_map.x' is an integer, not a string"},
      {R"({"x":"m-1.safetensors","x":"m-1.safetensors"})", "key 'x' occurs twice in 'weight_map'"},
      {"{}", "key 'weight_map' is empty"},
      {"[]", "key 'weight_map' is an array"},
  };
  for (const auto& c : cases) {
    const TemporaryFolder folder;
    folder.write("m-1.safetensors", one("x"));
    folder.write("m-2.safetensors", one("y"));
    folder.write(
        "two.safetensors",
        file_of(
            R"({"y":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
            2));
    folder.write("model.safetensors.index.json",
                 "{\"metadata\":{\"total_size\":6},\"weight_map\":" + c.weight_map + "}");
    if (c.part.empty()) {
      const auto model = Safetensors::open(folder.path());
      EXPECT_EQ(model.find("x")->bytes.size(), 3u);
      EXPECT_EQ(model.find("x")->file, folder.file("m-1.safetensors"));
      EXPECT_EQ(Safetensors::open(folder.file("model.safetensors.index.json")).names(), model.names());
      continue;
    }
    const auto message = data_error_of([&] { Safetensors::open(folder.path()); });
    EXPECT_NE(message.find(c.part), std::string::npos) << message;
  }
  const TemporaryFolder folder;
  folder.write("model.safetensors.index.json", "{\"metadata\":{}}");
  EXPECT_NE(data_error_of([&] { Safetensors::open(folder.path()); }).find("key 'weight_map' is missing"),
            std::string::npos);
}

/// A file that really is as large as it claims, but sparse: nothing of it may be read or allocated.
TEST(Safetensors, SparseGiantsCostNothing) {
  const TemporaryFolder folder;
  const std::uint64_t claimed = std::uint64_t{1} << 40;
  const std::string header = "{\"t\":{\"dtype\":\"U8\",\"shape\":[" + std::to_string(claimed) +
                             "],\"data_offsets\":[0," + std::to_string(claimed) + "]}}";
  const std::string path = folder.write("g.safetensors", file_of(header, 0));
  EXPECT_NE(data_error_of([&] { Safetensors::open(path); }).find("is the file cut off?"), std::string::npos);
  std::error_code error;
  std::filesystem::resize_file(path, 8 + header.size() + claimed, error);
  if (error) GTEST_SKIP() << "the file system takes no sparse file of 1 TiB: " << error.message();
  const long before = peak_kib();
  EXPECT_EQ(Safetensors::open(path).find("t")->bytes.size(), claimed);
  EXPECT_LT(peak_kib() - before, 16 * 1024);
}

}  // namespace
}  // namespace muster::formats
