// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/safetensors.h"

#include <algorithm>
#include <cstring>

#include "fuzz/support.h"
#include "fuzz/targets.h"

namespace muster::fuzz {
namespace {

using formats::SafetensorsHeader;

/// The size that shape and dtype mean; the products of accepted headers fit 64 bits.
std::uint64_t size_of(const formats::TensorInfo& info) {
  std::uint64_t bytes = formats::dtype_bytes(info.dtype);
  for (const auto dimension : info.shape) bytes *= dimension;
  return bytes;
}

void check_header(const SafetensorsHeader& header, std::uint64_t file_bytes) {
  expect(header.data_offset >= 8 && header.data_offset <= file_bytes, "the data begins in the file");
  std::uint64_t sum = 0;
  for (const auto& [name, info] : header.tensors) {
    expect(is_utf8(name), "names are valid UTF-8");
    expect(info.begin <= info.end && info.end <= file_bytes - header.data_offset,
           "a tensor lies in the file");
    expect(size_of(info) == info.end - info.begin, "a tensor is as large as its shape");
    sum += info.end - info.begin;
  }
  expect(sum == file_bytes - header.data_offset, "tensors fill the file");
}

/// The same file through a map: every view is the bytes that the header says.
void check_views(std::string_view bytes, const SafetensorsHeader& header) {
  const Folder folder;
  const auto file = formats::Safetensors::open(folder.write("model.safetensors", bytes));
  expect(file.names().size() == header.tensors.size(), "every tensor is listed");
  expect(file.total_bytes() == bytes.size() - header.data_offset, "all bytes are counted");
  for (const auto& [name, info] : header.tensors) {
    const auto view = file.find(name);
    expect(view.has_value() && view->shape == info.shape && view->dtype == info.dtype, "a tensor is found");
    const auto expected = bytes.substr(header.data_offset + info.begin, info.end - info.begin);
    expect(std::ranges::equal(view->bytes, std::as_bytes(std::span(expected))),
           "a view is the tensor's bytes");
  }
}

/// The header's text behind the length that it has, in front of `data_bytes` of data.
std::string with_length(std::string_view header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string out(sizeof(length), '\0');
  std::memcpy(out.data(), &length, sizeof(length));
  return out.append(header).append(data_bytes, 'w');
}

void check(std::string_view file) {
  const auto header = unless<core::DataError>(
      [&] { return formats::parse_safetensors_header(std::as_bytes(std::span(file)), "fuzz.safetensors"); });
  if (!header) return;
  check_header(*header, file.size());
  check_views(file, *header);
}

}  // namespace

void safetensors(std::string_view bytes) {
  check(bytes);
  // And as a header alone, so that a changed length or size of the data does not end every mutation at once.
  Input input(bytes);
  const std::uint8_t data_bytes = input.byte();
  const auto text = input.rest();
  check(with_length(text.substr(0, text.find('\0', 8)).substr(std::min<std::size_t>(8, text.size())),
                    data_bytes));
}

}  // namespace muster::fuzz
