// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/safetensors_writer.h"

#include "testing.h"

namespace muster::formats {
namespace {

using testing::TemporaryFolder;

std::vector<std::byte> some_bytes(std::size_t count, int first) {
  std::vector<std::byte> out(count);
  for (std::size_t i = 0; i < count; ++i) out[i] = static_cast<std::byte>(first + static_cast<int>(i));
  return out;
}

const std::vector<TensorSpec> kTensors{{"b.weight", DType::kBF16, {3, 1}},
                                       {"z", DType::kF64, {2}},
                                       {"ä \"quoted\"\n", DType::kU8, {}},
                                       {"empty", DType::kF32, {4, 0}},
                                       {"a", DType::kF32, {1, 2}}};
const std::map<std::string, std::string> kMetadata{{"format", "pt"}, {"a \"key\"", "a\tvalue\\"}};

class SafetensorsWriterOrder : public ::testing::TestWithParam<TensorOrder> {};
INSTANTIATE_TEST_SUITE_P(Orders, SafetensorsWriterOrder,
                         ::testing::Values(TensorOrder::kGiven, TensorOrder::kSorted));

TEST_P(SafetensorsWriterOrder, WhatIsWrittenIsRead) {
  const TemporaryFolder folder;
  const std::string path = folder.file("model.safetensors");
  SafetensorsWriter writer({path, kTensors, kMetadata, GetParam()});
  std::vector<std::string> order;
  int first = 1;
  std::map<std::string, std::vector<std::byte>> expected;
  for (const auto& tensor : writer.tensors()) {
    order.push_back(tensor.name);
    std::size_t bytes = dtype_bytes(tensor.dtype);
    for (const auto dimension : tensor.shape) bytes *= dimension;
    writer.write(tensor.name, expected[tensor.name] = some_bytes(bytes, first++));
  }
  writer.finish();
  EXPECT_EQ(order, GetParam() == TensorOrder::kGiven
                       ? (std::vector<std::string>{"b.weight", "z", "ä \"quoted\"\n", "empty", "a"})
                       : (std::vector<std::string>{"z", "a", "empty", "b.weight", "ä \"quoted\"\n"}));

  const auto file = Safetensors::open(path);
  EXPECT_EQ(file.names().size(), kTensors.size());
  for (const auto& tensor : kTensors) {
    const auto found = file.find(tensor.name);
    ASSERT_TRUE(found.has_value()) << tensor.name;
    EXPECT_EQ(found->dtype, tensor.dtype);
    EXPECT_EQ(found->shape, tensor.shape);
    EXPECT_TRUE(std::ranges::equal(found->bytes, expected[tensor.name])) << tensor.name;
  }
  const core::MappedFile mapped(path);
  const auto header = parse_safetensors_header(mapped.bytes(), path);
  EXPECT_EQ(header.metadata, kMetadata);
  EXPECT_EQ(header.data_offset % 8, 0u);
}

TEST(SafetensorsWriter, PiecesMaySpanTensors) {
  const TemporaryFolder folder;
  const std::string path = folder.file("m.safetensors");
  SafetensorsWriter writer({path, {{"a", DType::kU8, {3}}, {"b", DType::kU8, {4}}}, {}, TensorOrder::kGiven});
  const auto bytes = some_bytes(7, 10);
  writer.write(std::span(bytes).first(2));
  writer.write(std::span(bytes).subspan(2));
  writer.finish();
  const auto file = Safetensors::open(path);
  EXPECT_TRUE(std::ranges::equal(file.find("a")->bytes, some_bytes(3, 10)));
  EXPECT_TRUE(std::ranges::equal(file.find("b")->bytes, some_bytes(4, 13)));
}

TEST(SafetensorsWriter, AFileWithoutTensors) {
  const TemporaryFolder folder;
  SafetensorsWriter writer({folder.file("m.safetensors"), {}, {}, TensorOrder::kGiven});
  writer.finish();
  EXPECT_TRUE(Safetensors::open(folder.file("m.safetensors")).names().empty());
}

TEST(SafetensorsWriter, MistakesAreNoticed) {
  const TemporaryFolder folder;
  const std::string path = folder.file("m.safetensors");
  const std::uint64_t huge = std::uint64_t{1} << 62;
  const std::vector<std::vector<TensorSpec>> bad{
      {{"t", DType::kU8, {1}}, {"t", DType::kF32, {1}}},
      {{"__metadata__", DType::kU8, {1}}},
      {{"t", DType::kF32, {huge, 2}}},
      {{"t", DType::kU8, {2 * huge + 1}}, {"u", DType::kU8, {2 * huge}}},
  };
  for (const auto& tensors : bad) {
    EXPECT_THROW(SafetensorsWriter({path, tensors, {}, TensorOrder::kGiven}), core::InternalError);
  }
  SafetensorsWriter writer({path, {{"a", DType::kU8, {3}}, {"b", DType::kU8, {3}}}, {}, TensorOrder::kGiven});
  EXPECT_THROW(writer.write("b", some_bytes(3, 0)), core::InternalError);
  EXPECT_THROW(writer.write("c", some_bytes(3, 0)), core::InternalError);
  EXPECT_THROW(writer.write("a", some_bytes(2, 0)), core::InternalError);
  EXPECT_THROW(writer.write(some_bytes(7, 0)), core::InternalError);
  writer.write("a", some_bytes(3, 0));
  EXPECT_THROW(writer.finish(), core::InternalError);
  EXPECT_THROW(SafetensorsWriter({folder.file("no/such/folder"), {}, {}, TensorOrder::kGiven}),
               core::OutputError);
}

}  // namespace
}  // namespace muster::formats
