// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets share: taking an input apart, and stating what must hold of any input.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "muster/core/error.h"
#include "muster/formats/byte_source.h"

namespace muster::fuzz {

/// A broken promise of the code under test. None of the program's own errors, so nothing catches it and the
/// fuzzer sees a crash.
class Broken : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

void expect(bool holds, std::string_view promise);

/// The result of `parse`, or nullopt when it throws one of the errors that its documentation names. Any other
/// goes through.
template <class Documented, class F>
auto unless(F&& parse) -> std::optional<decltype(parse())> {
  try {
    return parse();
  } catch (const Documented& error) {
    expect(!std::string_view(error.what()).empty(), "an error has a message");
    return std::nullopt;
  }
}

/// Bytes that steer a target are taken from the end of an input, so that any file of the format under test is
/// a good seed.
class Input {
 public:
  explicit Input(std::string_view bytes) : rest_(bytes) {}
  /// 0 when nothing is left.
  std::uint8_t byte();
  /// Little-endian, of two bytes.
  std::uint16_t number();
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

/// What lies before and after the first `separator`; the second part is empty without one.
std::pair<std::string_view, std::string_view> cut(std::string_view text, char separator);

/// `bytes` in portions of 1 to `most` bytes, or at once when `most` is 0.
std::unique_ptr<formats::ByteSource> portioned_source(std::string bytes, std::uint8_t most);
/// Everything that `source` gives, but at most `max_bytes`.
std::string read_all(formats::ByteSource& source, std::size_t max_bytes);

/// Valid UTF-8, judged by the values of the code points and not by tables of bytes.
bool is_utf8(std::string_view text);

/// A folder that goes with the object.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string path() const { return path_.string(); }
  std::string write(const std::string& name, std::string_view content) const;

 private:
  std::filesystem::path path_;
};

}  // namespace muster::fuzz
