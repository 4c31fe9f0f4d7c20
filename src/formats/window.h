// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "muster/formats/byte_source.h"

namespace muster::formats {

/// A moving view of a ByteSource. Bytes stay where they are, also consumed ones, until the next grow().
class Window {
 public:
  static constexpr std::size_t kBlockBytes = std::size_t{256} << 10;

  explicit Window(std::unique_ptr<ByteSource> source) : source_(std::move(source)) {}

  std::string_view view() const { return {buffer_.get() + begin_, end_ - begin_}; }
  char* data() { return buffer_.get() + begin_; }
  std::size_t size() const { return end_ - begin_; }
  /// Appends at least one byte; false at the end of the source.
  bool grow();
  void consume(std::size_t bytes) {
    begin_ += bytes;
    offset_ += bytes;
  }
  /// Of view()'s first byte in the source.
  std::uint64_t offset() const { return offset_; }
  /// Makes `at` a valid position of view(); false when the source ends before it.
  bool reach(std::size_t at) {
    while (at >= size()) {
      if (!grow()) return false;
    }
    return true;
  }
  /// Drops everything through the next '\n', in bounded memory.
  void skip_line();
  /// Reads the first block and drops a UTF-8 byte-order mark. Call once, before anything else.
  void start();

 private:
  std::unique_ptr<ByteSource> source_;
  std::unique_ptr<char[]> buffer_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::uint64_t offset_ = 0;
};

}  // namespace muster::formats
