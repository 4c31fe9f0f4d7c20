// SPDX-License-Identifier: Apache-2.0
#include "phases/infer/submission.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/error.h"
#include "muster/core/fault.h"
#include "muster/core/file.h"
#include "muster/core/strings.h"
#include "muster/formats/table.h"
#include "muster/io/hdf5_results.h"

namespace muster::phases {
namespace {

constexpr std::uint64_t kBlockValues = std::uint64_t{1} << 20;

bool has_column_a_class(LabelStyle style) {
  return style == LabelStyle::kOneHot || style == LabelStyle::kProbabilities;
}

/// Rows [first, first + count) of what the lines are made of.
struct Block {
  std::uint64_t first = 0, count = 0, width = 0;  ///< width: of labels or probabilities
  std::vector<std::string> ids;
  std::vector<std::int32_t> labels, label_counts;
  std::vector<float> probabilities;
};

class Writer {
 public:
  explicit Writer(const SubmissionRequest& request) : request_(request), reader_(request.predictions) {}

  void write(const std::string& path) const {
    const core::UniqueFd fd = core::create_for_writing(path);
    core::write_all(fd.get(), header(), path);
    const std::uint64_t rows = reader_.shape("/ids").at(0);
    const std::uint64_t width = reader_.shape(dataset()).at(1);
    const std::uint64_t block = std::max<std::uint64_t>(kBlockValues / width, 1);
    std::string lines;
    for (std::uint64_t first = 0; first < rows; first += block) {
      request_.step(fmt::format("writing line {}", first));
      const Block read = this->read(first, std::min(block, rows - first), width);
      lines.clear();
      for (std::uint64_t row = 0; row < read.count; ++row) append_line(read, row, lines);
      core::write_all(fd.get(), lines, path);
    }
    core::sync(fd.get(), path);
  }

  std::size_t columns() const { return has_column_a_class(style()) ? request_.class_names.size() + 1 : 2; }

 private:
  LabelStyle style() const { return request_.options.style; }
  const char* dataset() const { return style() == LabelStyle::kProbabilities ? "/probabilities" : "/labels"; }

  std::string header() const {
    std::string line = formats::csv_field(request_.options.id_column);
    if (!has_column_a_class(style()))
      return line + "," + formats::csv_field(request_.options.label_column) + "\n";
    for (const auto& name : request_.class_names) line += "," + formats::csv_field(name);
    return line + "\n";
  }

  Block read(std::uint64_t first, std::uint64_t count, std::uint64_t width) const {
    Block block{.first = first, .count = count, .width = width};
    block.ids = reader_.read_strings("/ids", first, count);
    if (style() == LabelStyle::kProbabilities) {
      block.probabilities = reader_.read_rows("/probabilities", first, count);
    } else {
      block.labels = reader_.read_i32("/labels", first, count);
      block.label_counts = reader_.read_i32("/n_labels", first, count);
    }
    return block;
  }

  void append_line(const Block& block, std::uint64_t row, std::string& out) const {
    out += formats::csv_field(block.ids[row]);
    if (style() == LabelStyle::kProbabilities) {
      for (std::uint64_t i = 0; i < block.width; ++i)
        fmt::format_to(std::back_inserter(out), ",{}", block.probabilities[row * block.width + i]);
    } else {
      const std::span labels(block.labels.data() + row * block.width,
                             static_cast<std::size_t>(block.label_counts[row]));
      style() == LabelStyle::kOneHot ? append_one_hot(labels, out) : append_list(labels, out);
    }
    out += '\n';
  }

  void append_one_hot(std::span<const std::int32_t> labels, std::string& out) const {
    const std::size_t begin = out.size();
    for (std::size_t i = 0; i < request_.class_names.size(); ++i) out += ",0";
    for (const auto label : labels) out[begin + 2 * static_cast<std::size_t>(label) + 1] = '1';
  }

  void append_list(std::span<const std::int32_t> labels, std::string& out) const {
    std::string list;
    for (const auto label : labels) {
      if (!list.empty()) list += request_.options.separator;
      list += style() == LabelStyle::kNames ? request_.class_names[static_cast<std::size_t>(label)]
                                            : std::to_string(label);
    }
    out += "," + formats::csv_field(list);
  }

  const SubmissionRequest& request_;
  io::H5Reader reader_;
};

// What any reader of CSV will find in it.
IdDigest ids_of_file(const std::string& path, std::size_t columns,
                     const std::function<void(const std::string&)>& step) {
  const auto reader = formats::make_csv_reader(formats::open_file_source(path));
  IdDigester ids;
  bool header = true;
  for (formats::TableRow row; reader->next(row); header = false) {
    if (!row.problem.empty() || row.fields.size() != columns)
      throw core::InternalError(
          fmt::format("{}: line {} does not read back: {}", path, row.line,
                      row.problem.empty() ? fmt::format("{} fields instead of {}", row.fields.size(), columns)
                                          : row.problem));
    if (header) continue;
    ids.add(row.fields.front());
    if (row.line % 65536 == 0) step(fmt::format("checking line {}", row.line));
  }
  return ids.finish();
}

}  // namespace

void IdDigester::add(std::string_view id) {
  ++count_;
  sha_.update(fmt::format("{}:", id.size()));
  sha_.update(id);
}

void write_submission(const SubmissionRequest& request) {
  const std::string temporary = request.path + ".tmp";
  const Writer writer(request);
  writer.write(temporary);
  core::fault_point("publish.csv_written");
  const IdDigest written = ids_of_file(temporary, writer.columns(), request.step);
  if (written.count != request.ids.count)
    throw core::InternalError(
        fmt::format("{} has {} rows, but there are {} documents with labels; it is not "
                    "published",
                    temporary, written.count, request.ids.count));
  if (written != request.ids)
    throw core::InternalError(
        fmt::format("{}: its ids are not those of the input in their order; it is not published", temporary));
  core::publish_file(temporary, request.path);
}

void check_submission(const SubmissionOptions& options, const std::vector<std::string>& class_names) {
  if (has_column_a_class(options.style) && class_names.size() + 1 > formats::kMaxColumns)
    throw core::ConfigError(fmt::format(
        "output.label_style {} writes a column a class, but {} classes are more than the {} columns that are "
        "read back; take ids, and output.probabilities for predictions.h5",
        options.style == LabelStyle::kOneHot ? "onehot" : "probabilities", class_names.size(),
        formats::kMaxColumns));
  if (options.style != LabelStyle::kNames) return;
  for (const auto& name : class_names) {
    if (name.find(options.separator) == std::string::npos) continue;
    throw core::ConfigError(fmt::format(
        "output.label_style names would be ambiguous: the class '{}' holds the output.separator '{}'; take "
        "another separator, or ids",
        core::printable(name), core::printable(options.separator)));
  }
}

}  // namespace muster::phases
