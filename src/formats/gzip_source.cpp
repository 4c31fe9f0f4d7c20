// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "muster/core/error.h"
#include "muster/formats/byte_source.h"

namespace muster::formats {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{128} << 10;
constexpr std::size_t kSniffBytes = 8;
constexpr std::string_view kGzipMagic = "\x1f\x8b";

/// What was read while looking for the magic bytes, then the rest.
class PrefixedSource final : public ByteSource {
 public:
  PrefixedSource(std::string prefix, std::unique_ptr<ByteSource> rest)
      : prefix_(std::move(prefix)), rest_(std::move(rest)) {}

  std::size_t read(std::span<char> out) override {
    if (at_ == prefix_.size()) return rest_->read(out);
    const std::size_t n = std::min(out.size(), prefix_.size() - at_);
    std::memcpy(out.data(), prefix_.data() + at_, n);
    at_ += n;
    return n;
  }

 private:
  std::string prefix_;
  std::size_t at_ = 0;
  std::unique_ptr<ByteSource> rest_;
};

class GzipSource final : public ByteSource {
 public:
  GzipSource(std::unique_ptr<ByteSource> raw, std::string name)
      : raw_(std::move(raw)), name_(std::move(name)), input_(kBlockBytes) {
    constexpr int kGzipOnly = 16 + MAX_WBITS;
    if (inflateInit2(&stream_, kGzipOnly) != Z_OK)
      throw core::ResourceError("zlib has no memory to decompress " + name_);
  }
  ~GzipSource() override { inflateEnd(&stream_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  std::size_t read(std::span<char> out) override {
    const std::size_t wanted =
        std::min<std::size_t>(out.size(), std::size_t{1} << 30);  // zlib counts in 32 bits
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(wanted);
    while (stream_.avail_out == wanted) {
      if (stream_.avail_in == 0) refill();
      if (state_ == State::kBetweenMembers && !start_member()) return 0;
      if (stream_.avail_in == 0) fail("ends early");
      inflate_some();
    }
    const std::size_t produced = wanted - stream_.avail_out;
    produced_ += produced;
    return produced;
  }

 private:
  enum class State { kInMember, kBetweenMembers };

  [[noreturn]] void fail(std::string_view problem) const {
    throw core::DataError(
        fmt::format("{}: the gzip data {} at byte {} of the file (byte {} of the text); copy the file again",
                    name_, problem, consumed_ - stream_.avail_in, produced_));
  }

  void refill() {
    const std::size_t n = raw_->read(input_);
    stream_.next_in = reinterpret_cast<Bytef*>(input_.data());
    stream_.avail_in = static_cast<uInt>(n);
    consumed_ += n;
  }

  /// After a member: the next one, or zero padding up to the end. False at the end.
  bool start_member() {
    while (stream_.avail_in > 0 && *stream_.next_in == 0) {
      ++stream_.next_in;
      if (--stream_.avail_in == 0) refill();
      padded_ = Padding::kSome;
    }
    if (stream_.avail_in == 0) return false;
    if (padded_ == Padding::kSome || *stream_.next_in != static_cast<Bytef>(kGzipMagic[0])) {
      fail("is followed by something else");
    }
    inflateReset(&stream_);
    state_ = State::kInMember;
    return true;
  }

  void inflate_some() {
    const int status = inflate(&stream_, Z_NO_FLUSH);
    if (status == Z_STREAM_END) {
      state_ = State::kBetweenMembers;
    } else if (status == Z_MEM_ERROR) {
      throw core::ResourceError("zlib has no memory to decompress " + name_);
    } else if (status != Z_OK && status != Z_BUF_ERROR) {  // Z_BUF_ERROR: it wants more input
      fail(fmt::format("is damaged ({})", stream_.msg != nullptr ? stream_.msg : "unknown error"));
    }
  }

  enum class Padding { kNone, kSome };

  std::unique_ptr<ByteSource> raw_;
  std::string name_;
  std::vector<char> input_;
  z_stream stream_{};
  State state_ = State::kInMember;
  Padding padded_ = Padding::kNone;
  std::uint64_t consumed_ = 0;  ///< read from raw_
  std::uint64_t produced_ = 0;
};

void refuse_foreign(std::string_view start, const std::string& name) {
  struct Foreign {
    std::string_view magic, what, remedy;
  };
  constexpr std::array<Foreign, 7> kForeign{{
      {"\x28\xb5\x2f\xfd", "zstd data", "recompress it with gzip"},
      {std::string_view("\xfd"
                        "7zXZ\0",
                        6),
       "xz data", "recompress it with gzip"},
      {"BZh91AY", "bzip2 data", "recompress it with gzip"},
      {"PK\x03\x04", "a zip archive", "unpack it"},
      {"\x89HDF\r\n\x1a\n", "an HDF5 file", "name it .h5 or set input.format: hdf5"},
      {"\xff\xfe", "UTF-16 text", "convert it with iconv -f UTF-16 -t UTF-8"},
      {"\xfe\xff", "UTF-16 text", "convert it with iconv -f UTF-16 -t UTF-8"},
  }};
  for (const auto& [magic, what, remedy] : kForeign) {
    if (start.starts_with(magic)) throw core::DataError(fmt::format("{} is {}; {}", name, what, remedy));
  }
}

/// Up to kSniffBytes from the front of `source`; fewer only at its end.
std::string read_start(ByteSource& source) {
  std::string start(kSniffBytes, '\0');
  std::size_t have = 0;
  while (have < kSniffBytes) {
    const std::size_t n = source.read(std::span(start).subspan(have));
    if (n == 0) break;
    have += n;
  }
  start.resize(have);
  return start;
}

}  // namespace

std::unique_ptr<ByteSource> decompress_source(std::unique_ptr<ByteSource> raw, const std::string& name) {
  std::string start = read_start(*raw);
  const bool is_gzip = start.starts_with(kGzipMagic);
  auto whole = std::make_unique<PrefixedSource>(start, std::move(raw));
  if (!is_gzip) {
    refuse_foreign(start, name);
    return whole;
  }
  auto text = std::make_unique<GzipSource>(std::move(whole), name);
  start = read_start(*text);
  refuse_foreign(start, name);
  return std::make_unique<PrefixedSource>(std::move(start), std::move(text));
}

}  // namespace muster::formats
