// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "muster/core/error.h"
#include "muster/formats/item_source.h"
#include "support/gzip.h"

namespace muster::testing {

/// A folder that goes away with the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "muster_formats_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string file(const std::string& name) const { return (path_ / name).string(); }
  std::string write(const std::string& name, std::string_view content) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(file(name), std::ios::binary)
        .write(content.data(), static_cast<std::streamsize>(content.size()));
    return file(name);
  }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

/// The message of the DataError that `action` must throw.
template <class F>
std::string data_error_of(F&& action) {
  try {
    action();
  } catch (const core::DataError& error) {
    return error.what();
  }
  ADD_FAILURE() << "no DataError was thrown";
  return {};
}

/// All rows of a source.
struct Rows {
  std::vector<formats::Item> items;
  std::vector<formats::Reject> rejects;

  std::string ids() const {
    std::string out;
    for (const auto& item : items) out += (out.empty() ? "" : "|") + item.id;
    return out;
  }
  std::string texts() const {
    std::string out;
    for (const auto& item : items) out += (item.row == 0 ? "" : "|") + item.text;
    return out;
  }
  std::string reasons() const {
    std::string out;
    for (const auto& reject : rejects)
      out += (out.empty() ? "" : "|") + std::to_string(reject.line) + ": " + reject.reason;
    return out;
  }
};

inline Rows read_rows(formats::ItemSource& source) {
  Rows rows;
  formats::Item item;
  formats::Reject reject;
  for (;;) {
    switch (source.next(item, reject)) {
      case formats::RowKind::kItem:
        rows.items.push_back(item);
        break;
      case formats::RowKind::kReject:
        rows.rejects.push_back(reject);
        break;
      case formats::RowKind::kEnd:
        return rows;
    }
  }
}

inline Rows read_text(std::string text, const std::string& name, formats::InputConfig config = {}) {
  return read_rows(*formats::open_text_stream(formats::memory_source(std::move(text)), name, config));
}

}  // namespace muster::testing
