// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "io/hdf5_child.h"
#include "muster/core/error.h"
#include "muster/formats/utf8.h"
#include "muster/io/hdf5_results.h"

namespace muster::io {
namespace {

using formats::InputConfig;
using formats::InputFormat;
using formats::Item;
using formats::Reject;
using formats::RowKind;

/// The rows of HDF5 files, with the rules that formats' text sources have.
class H5ItemSource final : public formats::ItemSource {
 public:
  H5ItemSource(const InputConfig& config, std::vector<std::string> files)
      : config_(config), files_(std::move(files)), prefixes_(formats::expand_id_prefixes(config)) {
    if (!files_.empty()) open(0);  // a file that cannot be read is reported before any work
  }

  const std::vector<std::string>& files() const override { return files_; }

  RowKind next(Item& item, Reject& reject) override {
    if (rows_ >= config_.limit || !next_row()) return RowKind::kEnd;
    const std::uint64_t index = rows_++;
    const char* const problem = find_problem();
    if (problem != nullptr) {
      reject = {.line = line_, .byte_offset = 0, .file = file_, .reason = problem, .id = ""};
      if (child_->has_ids()) formats::assign_utf8_replaced(row_.id, reject.id);
      if (!reject.id.empty()) reject.id.insert(0, prefixes_[file_]);
      return RowKind::kReject;
    }
    item.row = items_++;
    item.file = file_;
    item.line = line_;
    item.id = prefixes_[file_] + (child_->has_ids() ? row_.id : std::to_string(index));
    item.replaced_utf8 = formats::assign_utf8_replaced(row_.text, item.text) > 0;
    return RowKind::kItem;
  }

 private:
  void open(std::uint32_t file) {
    child_.reset();  // one child at a time
    child_ = std::make_unique<H5Child>(files_[file], config_.id_column, config_.text_column);
    file_ = file;
    line_ = 0;
  }

  bool next_row() {
    while (child_) {
      if (child_->next(row_)) {
        ++line_;
        return true;
      }
      if (file_ + 1 == files_.size()) return false;
      open(file_ + 1);
    }
    return false;
  }

  const char* find_problem() const {
    if (row_.text.size() > config_.max_row_bytes) return "the text is too long";
    if (!child_->has_ids()) return nullptr;
    if (row_.id.empty()) return "the id is empty";
    if (!formats::is_valid_utf8(row_.id)) return "the id is not valid UTF-8";
    return nullptr;
  }

  InputConfig config_;
  std::vector<std::string> files_, prefixes_;
  std::unique_ptr<H5Child> child_;
  H5Row row_;
  std::uint32_t file_ = 0;
  std::uint64_t line_ = 0, rows_ = 0, items_ = 0;
};

bool is_hdf5(const InputConfig& config, const std::string& file) {
  if (config.format != InputFormat::kAuto) return config.format == InputFormat::kHdf5;
  return formats::input_format_of_path(file) == InputFormat::kHdf5;
}

}  // namespace

std::unique_ptr<formats::ItemSource> open_items(const InputConfig& config) {
  if (!config.texts.empty()) return formats::open_text_source(config);
  auto files = formats::expand_input_paths(config.paths);
  const auto hdf5 = static_cast<std::size_t>(std::count_if(
      files.begin(), files.end(), [&](const std::string& file) { return is_hdf5(config, file); }));
  if (hdf5 == 0) return formats::open_text_source(config);
  if (config.prompts)
    throw core::ConfigError("input: prompts are read from txt, tsv, csv or jsonl files, not from HDF5");
  if (hdf5 != files.size()) {
    throw core::ConfigError(fmt::format(
        "input: {} of {} files are HDF5; give HDF5 and text files to jobs of their own", hdf5, files.size()));
  }
  return std::make_unique<H5ItemSource>(config, std::move(files));
}

}  // namespace muster::io
