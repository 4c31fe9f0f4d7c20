// SPDX-License-Identifier: Apache-2.0
#include "fuzz/support.h"

#include <stdlib.h>

#include <algorithm>
#include <cstring>
#include <fstream>

namespace muster::fuzz {
namespace {

class PortionedSource final : public formats::ByteSource {
 public:
  PortionedSource(std::string bytes, std::uint8_t most) : bytes_(std::move(bytes)), most_(most) {}

  std::size_t read(std::span<char> out) override {
    portion_ = most_ == 0 ? bytes_.size() : portion_ % most_ + 1;
    const std::size_t size = std::min({portion_, out.size(), bytes_.size() - at_});
    std::memcpy(out.data(), bytes_.data() + at_, size);
    at_ += size;
    return size;
  }

 private:
  std::string bytes_;
  std::size_t most_, portion_ = 0, at_ = 0;
};

}  // namespace

void expect(bool holds, std::string_view promise) {
  if (!holds) throw Broken("broken promise: " + std::string(promise));
}

std::uint8_t Input::byte() {
  if (rest_.empty()) return 0;
  const auto value = static_cast<std::uint8_t>(rest_.back());
  rest_.remove_suffix(1);
  return value;
}

std::uint16_t Input::number() {
  const unsigned low = byte();
  return static_cast<std::uint16_t>(low | (unsigned{byte()} << 8));
}

std::pair<std::string_view, std::string_view> cut(std::string_view text, char separator) {
  const auto at = text.find(separator);
  if (at == std::string_view::npos) return {text, {}};
  return {text.substr(0, at), text.substr(at + 1)};
}

std::unique_ptr<formats::ByteSource> portioned_source(std::string bytes, std::uint8_t most) {
  return std::make_unique<PortionedSource>(std::move(bytes), most);
}

std::string read_all(formats::ByteSource& source, std::size_t max_bytes) {
  std::string all;
  char block[4096];
  while (all.size() < max_bytes) {
    const std::size_t size = source.read(block);
    if (size == 0) break;
    all.append(block, size);
  }
  return all;
}

bool is_utf8(std::string_view text) {
  constexpr std::uint32_t kSmallest[] = {0, 0x80, 0x800,
                                         0x10000};  // that needs so many bytes after its first
  for (std::size_t at = 0; at < text.size();) {
    const auto lead = static_cast<unsigned char>(text[at++]);
    const std::size_t extra = lead < 0x80   ? 0
                              : lead < 0xC0 ? 4
                              : lead < 0xE0 ? 1
                              : lead < 0xF0 ? 2
                              : lead < 0xF8 ? 3
                                            : 4;
    if (extra == 4 || text.size() - at < extra) return false;
    std::uint32_t value = extra == 0 ? lead : lead & (0x3Fu >> extra);
    for (std::size_t i = 0; i < extra; ++i) {
      const auto byte = static_cast<unsigned char>(text[at++]);
      if (byte < 0x80 || byte >= 0xC0) return false;
      value = value << 6 | (byte & 0x3Fu);
    }
    if (value < kSmallest[extra] || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) return false;
  }
  return true;
}

Folder::Folder() {
  std::string name = (std::filesystem::temp_directory_path() / "muster_fuzz_XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
  path_ = name;
}

Folder::~Folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string Folder::write(const std::string& name, std::string_view content) const {
  const std::string file = (path_ / name).string();
  std::ofstream out(file, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  if (!out.flush()) throw std::runtime_error("cannot write " + file);
  return file;
}

}  // namespace muster::fuzz
