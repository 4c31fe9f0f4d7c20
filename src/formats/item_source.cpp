// SPDX-License-Identifier: Apache-2.0
#include "muster/formats/item_source.h"

#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <utility>

#include "formats/row_decoder.h"
#include "muster/core/error.h"
#include "muster/core/strings.h"
#include "muster/formats/prompt_row.h"
#include "muster/formats/utf8.h"

namespace muster::formats {
namespace {

constexpr const char* kInline = "the command line or config file";  // stands for a file in messages

constexpr std::array<std::pair<std::string_view, InputFormat>, 6> kFormatNames{{
    {"auto", InputFormat::kAuto},
    {"tsv", InputFormat::kTsv},
    {"csv", InputFormat::kCsv},
    {"jsonl", InputFormat::kJsonl},
    {"txt", InputFormat::kTxt},
    {"hdf5", InputFormat::kHdf5},
}};

constexpr std::array<std::pair<std::string_view, InputFormat>, 8> kExtensions{{
    {".tsv", InputFormat::kTsv},
    {".csv", InputFormat::kCsv},
    {".jsonl", InputFormat::kJsonl},
    {".ndjson", InputFormat::kJsonl},
    {".txt", InputFormat::kTxt},
    {".h5", InputFormat::kHdf5},
    {".hdf5", InputFormat::kHdf5},
    {".he5", InputFormat::kHdf5},
}};

/// Opens the files one after another and numbers what comes out.
class TextSource final : public ItemSource {
 public:
  explicit TextSource(const InputConfig& config)
      : config_(config),
        files_(config.texts.empty() ? expand_input_paths(config.paths) : std::vector{std::string(kInline)}),
        prefixes_(config.texts.empty() ? expand_id_prefixes(config) : std::vector<std::string>(1)) {
    if (!config.texts.empty()) {
      opened_ = 1;
      decoder_ = make_inline_decoder(config_);
      return;
    }
    for (const auto& file : files_) check_is_text(format_of(file), file);
    open_next(nullptr);
  }
  TextSource(std::unique_ptr<ByteSource> bytes, const std::string& name, const InputConfig& config)
      : config_(config), files_{name}, prefixes_(1) {
    check_is_text(format_of(name), name);
    open_next(std::move(bytes));
  }

  RowKind next(Item& item, Reject& reject) override {
    if (copies_left_ > 0) return next_copy(item);
    if (rows_ >= config_.limit) return RowKind::kEnd;
    reject.id.clear();
    RowKind kind = RowKind::kEnd;
    while (decoder_ && (kind = decoder_->next(item, reject)) == RowKind::kEnd) open_next(nullptr);
    if (kind == RowKind::kEnd) return kind;
    const std::uint64_t index = rows_++;
    const auto file = static_cast<std::uint32_t>(opened_ - 1);
    const bool by_index = decoder_->id_origin() == IdOrigin::kIndex;
    if (kind == RowKind::kReject) {
      reject.file = file;
      if (by_index && reject.id.empty()) reject.id = std::to_string(index);
      if (!reject.id.empty()) reject.id.insert(0, prefixes_[file]);
      return kind;
    }
    item.file = file;
    item.row = items_++;
    if (by_index) item.id = std::to_string(index);
    item.id.insert(0, prefixes_[file]);
    if (config_.prompts) begin_copies(item, index);
    return kind;
  }

  const std::vector<std::string>& files() const override { return files_; }
  std::vector<std::string> remarks() const override { return remarks_; }

 private:
  InputFormat format_of(const std::string& file) const {
    return config_.format == InputFormat::kAuto ? input_format_of_path(file) : config_.format;
  }

  static void check_is_text(InputFormat format, const std::string& file) {
    if (format != InputFormat::kHdf5) return;
    throw core::ConfigError(file + ": HDF5 input cannot be read together with text input; name it alone");
  }

  /// A prompt's first picture; its others follow.
  void begin_copies(Item& item, std::uint64_t index) {
    prompt_ = decoder_->prompt().row;
    prompt_.row = index;
    prompt_.copy = 0;
    prompt_.id = item.id;
    of_row_ = item;
    copies_left_ = decoder_->prompt().count.value_or(config_.prompts->count) - 1;
    item.text = to_json(prompt_);
  }

  RowKind next_copy(Item& item) {
    --copies_left_;
    item = of_row_;
    item.row = items_++;
    item.id = prompt_.id = copy_id(of_row_.id, ++prompt_.copy);
    item.text = to_json(prompt_);
    return RowKind::kItem;
  }

  /// `bytes` stand in for the file when given.
  void open_next(std::unique_ptr<ByteSource> bytes) {
    decoder_.reset();
    if (opened_ == files_.size()) return;
    const std::string& file = files_[opened_++];
    if (!bytes) bytes = open_file_source(file);
    decoder_ = make_row_decoder(format_of(file), decompress_source(std::move(bytes), file), file, config_);
    if (auto remark = decoder_->remark(); !remark.empty()) remarks_.push_back(std::move(remark));
  }

  const InputConfig config_;
  const std::vector<std::string> files_;
  const std::vector<std::string> prefixes_;  ///< of the ids, a file each
  std::size_t opened_ = 0;
  std::unique_ptr<RowDecoder> decoder_;
  std::uint64_t rows_ = 0;
  std::uint64_t items_ = 0;
  std::vector<std::string> remarks_;
  PromptRow prompt_;  ///< the row in hand, when the rows are prompts
  Item of_row_;
  std::uint32_t copies_left_ = 0;
};

/// The matches of a glob, sorted.
std::vector<std::string> matches_of(const std::string& pattern) {
  glob_t found{};
  const int status = ::glob(pattern.c_str(), 0, nullptr, &found);
  std::vector<std::string> paths;
  if (status == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  if (status == GLOB_NOSPACE) throw core::ResourceError("no memory to list the files that match " + pattern);
  // glob() sorts by the locale; the order of items must not depend on it.
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string valid_utf8(const std::string& text) {
  std::string out;
  assign_utf8_replaced(text, out);
  return out;
}

}  // namespace

InputFormat input_format_from_name(const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [known, format] : kFormatNames) {
    if (name == known) return format;
    names.emplace_back(known);
  }
  const auto near = core::nearest(name, names);
  throw core::ConfigError(fmt::format("unknown input format '{}'{}; one of {}", core::printable(name),
                                      near ? " (did you mean " + *near + "?)" : "", core::join(names, ", ")));
}

InputFormat input_format_of_path(const std::string& path) {
  std::string name = std::filesystem::path(path).filename().string();
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  for (const auto& [extension, format] : kExtensions) {
    if (name.ends_with(extension)) return format;
  }
  throw core::ConfigError(fmt::format(
      "{}: its name does not say what it holds; set input.format to tsv, csv, jsonl, txt or hdf5", path));
}

std::vector<std::string> expand_input_paths(const std::vector<std::string>& paths) {
  if (paths.empty()) throw core::DataError("no input file is named; set input.path");
  std::vector<std::string> files;
  for (const auto& path : paths) {
    // A file may be named like a pattern; then it is meant itself.
    std::error_code error;
    const auto found = std::filesystem::exists(path, error) ? std::vector{path} : matches_of(path);
    if (found.empty())
      throw core::DataError(fmt::format("input {} does not exist and matches no file", path));
    for (const auto& file : found) {
      if (std::filesystem::is_directory(file, error)) {
        throw core::DataError(
            fmt::format("input {} is a folder; name its files, for example '{}/*.tsv'", file, path));
      }
      files.push_back(file);
    }
  }
  return files;
}

std::vector<std::string> expand_id_prefixes(const InputConfig& config) {
  const auto& prefixes = config.id_prefixes;
  if (!prefixes.empty() && prefixes.size() != config.paths.size()) {
    throw core::ConfigError(
        fmt::format("input.id_prefix has {} entries for {} paths of input.path; give one each",
                    prefixes.size(), config.paths.size()));
  }
  std::vector<std::string> of_files;
  for (std::size_t i = 0; i < config.paths.size(); ++i)
    of_files.resize(of_files.size() + expand_input_paths({config.paths[i]}).size(),
                    prefixes.empty() ? "" : prefixes[i]);
  return of_files;
}

std::unique_ptr<ItemSource> open_text_source(const InputConfig& config) {
  return std::make_unique<TextSource>(config);
}

std::unique_ptr<ItemSource> open_text_stream(std::unique_ptr<ByteSource> bytes, const std::string& name,
                                             const InputConfig& config) {
  return std::make_unique<TextSource>(std::move(bytes), name, config);
}

std::string reject_json_line(const Reject& reject, const std::vector<std::string>& files) {
  return fmt::format("{{\"file\":{},\"line\":{},\"byte_offset\":{},\"id\":{},\"reason\":{}}}\n",
                     core::json_quote(valid_utf8(files.at(reject.file))), reject.line, reject.byte_offset,
                     core::json_quote(valid_utf8(reject.id)), core::json_quote(valid_utf8(reject.reason)));
}

}  // namespace muster::formats
