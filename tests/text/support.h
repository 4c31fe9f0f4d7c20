// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "muster/core/digest.h"
#include "muster/core/env.h"
#include "muster/formats/json.h"
#include "muster/text/tokenizer.h"

namespace muster::testing {

inline constexpr std::uint32_t kNoLimit = 0xFFFFFFFF;

inline std::filesystem::path source_dir() {
  return core::env("MUSTER_SOURCE_DIR").value_or(".");
}
inline std::filesystem::path fixtures() {
  return source_dir() / "tests/text/fixtures";
}
inline text::Tokenizer load_fixture(const std::string& name) {
  return text::Tokenizer::load((fixtures() / name).string());
}

inline std::vector<std::uint32_t> ids_of(const text::Tokenizer& tokenizer, std::string_view text,
                                         std::uint32_t max_length = kNoLimit) {
  text::Encoding encoding;
  tokenizer.encode(text, max_length, encoding);
  return encoding.ids;
}

/// SHA-256 over the ids as little-endian 32-bit numbers, as generate_fixtures.py makes it.
inline std::string digest_of(const std::vector<std::uint32_t>& ids) {
  return core::sha256_hex({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(ids[0])});
}

/// Texts one after another, each led by its number of ids.
class DigestOfMany {
 public:
  void add(const std::vector<std::uint32_t>& ids) {
    all_.push_back(static_cast<std::uint32_t>(ids.size()));
    all_.insert(all_.end(), ids.begin(), ids.end());
  }
  std::string finish() const { return digest_of(all_); }

 private:
  std::vector<std::uint32_t> all_;
};

inline std::vector<std::string> nasty_texts() {
  return formats::read_json((fixtures() / "nasty.json").string()).as_list<std::string>();
}

/// A folder that goes away with the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "muster_text_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string path() const { return path_.string(); }
  void write(const std::string& name, std::string_view content) const {
    std::ofstream(path_ / name, std::ios::binary)
        .write(content.data(), static_cast<std::streamsize>(content.size()));
  }

 private:
  std::filesystem::path path_;
};

}  // namespace muster::testing
