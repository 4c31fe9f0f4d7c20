// SPDX-License-Identifier: Apache-2.0
#include "training/state_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "muster/core/digest.h"
#include "muster/core/strings.h"
#include "muster/formats/json.h"
#include "muster/formats/safetensors_writer.h"

namespace muster::training {
namespace {

constexpr const char* kStateKey = "muster.trainer";
constexpr const char* kCrcKey = "muster.trainer.crc32c";  // of the text under kStateKey
constexpr int kMaxRanks = 1'000'000;

std::span<const std::byte> bytes_of(const at::Tensor& values) {
  return {static_cast<const std::byte*>(values.const_data_ptr()), values.nbytes()};
}

std::string state_text(const StateHeader& header, std::span<const StatePart> parts) {
  std::vector<std::string> ranges, arrays;
  for (const StatePart& part : parts)
    ranges.push_back(fmt::format("[{},{}]", part.range.begin, part.range.end));
  for (std::size_t a = 0; a < arrays_of(header.averages); ++a) {
    std::vector<std::uint32_t> crcs;
    for (const StatePart& part : parts) crcs.push_back(core::crc32c(bytes_of(part.values[a])));
    arrays.push_back(fmt::format("\"{}\":[{}]", kStateArrays[a], fmt::join(crcs, ",")));
  }
  return fmt::format(
      R"({{"version":1,"steps":{},"loss_scale":{},"steps_since_change":{},"layout":{},"elements":{},"ranks":{},)"
      R"("ranges":[{}],"crc32c":{{{}}}}})",
      header.steps, header.scaler.scale, header.scaler.steps_since_change, core::json_quote(header.layout),
      header.elements, header.ranks, fmt::join(ranges, ","), fmt::join(arrays, ","));
}

/// The text under kStateKey, when it is whole.
formats::JsonValue read_state_text(const std::string& path) {
  const core::MappedFile file(path);
  const auto header = formats::parse_safetensors_header(file.bytes(), path);
  const auto text = header.metadata.find(kStateKey), crc = header.metadata.find(kCrcKey);
  if (text == header.metadata.end() || crc == header.metadata.end())
    throw core::DataError(fmt::format("{} is not a part of a trainer's state", path));
  if (crc->second != fmt::format("{:08x}", core::crc32c(text->second)))
    throw core::DataError(fmt::format("{} is damaged: its header does not match its CRC", path));
  return formats::parse_json(text->second, path);
}

StateHeader read_header(const formats::JsonValue& json) {
  StateHeader header;
  if (const auto version = json.get<std::int64_t>("version"); version != 1)
    json.at("version").fail(fmt::format("is {}; this program reads version 1", version));
  header.steps = json.get<std::uint64_t>("steps");
  header.scaler = {json.get<double>("loss_scale"), json.get<std::uint64_t>("steps_since_change")};
  header.layout = json.get<std::string>("layout");
  header.elements = json.get<std::int64_t>("elements");
  header.ranks = json.get<std::int32_t>("ranks");
  header.averages = json.at("crc32c").has(kStateArrays.back()) ? Averages::kYes : Averages::kNo;
  if (header.ranks < 1 || header.ranks > kMaxRanks) json.at("ranks").fail("is not a number of ranks");
  if (!(header.scaler.scale > 0) || !std::isfinite(header.scaler.scale))
    json.at("loss_scale").fail("is not a positive number");
  return header;
}

std::vector<Range> read_ranges(const formats::JsonValue& json, std::int64_t elements) {
  std::vector<Range> ranges;
  for (const auto& pair : json.at("ranges").elements()) {
    if (pair.size() != 2) pair.fail("is not a range");
    const Range range{pair.element(0).as<std::int64_t>(), pair.element(1).as<std::int64_t>()};
    if (range.begin < 0 || range.begin >= range.end || range.end > elements) pair.fail("is not a range");
    ranges.push_back(range);
  }
  return ranges;
}

}  // namespace

std::string state_file_name(int rank) {
  return fmt::format("trainer_{:05}.safetensors", rank);
}

void write_state_file(const std::string& path, const StateHeader& header, std::span<const StatePart> parts) {
  std::uint64_t count = 0;
  for (const StatePart& part : parts) count += static_cast<std::uint64_t>(part.range.count());
  std::vector<formats::TensorSpec> tensors;
  const std::size_t arrays = arrays_of(header.averages);
  for (std::size_t a = 0; a < arrays; ++a)
    tensors.push_back({kStateArrays[a], formats::DType::kF32, {count}});
  const std::string text = state_text(header, parts);
  formats::SafetensorsWriter writer(
      {path,
       std::move(tensors),
       {{kStateKey, text}, {kCrcKey, fmt::format("{:08x}", core::crc32c(text))}},
       formats::TensorOrder::kGiven});
  for (std::size_t a = 0; a < arrays; ++a) {
    for (const StatePart& part : parts) writer.write(bytes_of(part.values[a]));
  }
  writer.finish();
}

StateFiles::StateFiles(const std::string& folder, const StateHeader& wanted) {
  const auto path_of = [&](int rank) {
    return (std::filesystem::path(folder) / state_file_name(rank)).string();
  };
  const std::string first = path_of(0);
  header_ = read_header(read_state_text(first));
  if (header_.layout != wanted.layout || header_.elements != wanted.elements) {
    throw core::DataError(
        fmt::format("{} is the state of other parameters (names, shapes or order); is the model or its head "
                    "another one now?",
                    first));
  }
  if (header_.averages != wanted.averages) {
    throw core::DataError(fmt::format("{} {} a moving average of the weights, and train.ema asks for {}",
                                      first, header_.averages == Averages::kYes ? "holds" : "lacks",
                                      wanted.averages == Averages::kYes ? "one" : "none"));
  }
  for (int rank = 0; rank < header_.ranks; ++rank) add_file(path_of(rank), rank);
  std::ranges::sort(pieces_, {}, [](const Piece& piece) { return piece.range.begin; });
  check_cover();
}

void StateFiles::add_file(const std::string& path, int rank) {
  const formats::JsonValue json = read_state_text(path);
  const StateHeader header = read_header(json);
  if (header.steps != header_.steps || header.ranks != header_.ranks || header.layout != header_.layout ||
      header.elements != header_.elements) {
    throw core::DataError(
        fmt::format("{} belongs to another state (update {}, rank {} of {}) than the file of rank 0 "
                    "(update {}, {} ranks)",
                    path, header.steps, rank, header.ranks, header_.steps, header_.ranks));
  }
  const auto ranges = read_ranges(json, header.elements);
  std::uint64_t total = 0;
  for (const Range& range : ranges) total += static_cast<std::uint64_t>(range.count());
  files_.push_back(formats::Safetensors::open(path));
  const std::size_t first_piece = pieces_.size();
  for (const Range& range : ranges) pieces_.push_back({range, files_.size() - 1, {}, {}});
  for (std::size_t a = 0; a < arrays_of(header_.averages); ++a) {
    const auto view = files_.back().find(kStateArrays[a]);
    const auto crcs = json.at("crc32c").at(kStateArrays[a]).as_list<std::uint32_t>();
    if (!view || view->dtype != formats::DType::kF32 || view->bytes.size() != total * sizeof(float) ||
        crcs.size() != ranges.size()) {
      throw core::DataError(
          fmt::format("{} is damaged: '{}' does not match the ranges", path, kStateArrays[a]));
    }
    std::size_t offset = 0;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      const std::size_t bytes = static_cast<std::size_t>(ranges[i].count()) * sizeof(float);
      pieces_[first_piece + i].bytes[a] = view->bytes.subspan(offset, bytes);
      pieces_[first_piece + i].crcs[a] = crcs[i];
      offset += bytes;
    }
  }
}

void StateFiles::check_cover() const {
  std::int64_t end = 0;
  for (const Piece& piece : pieces_) {
    if (piece.range.begin != end) break;
    end = piece.range.end;
  }
  if (end != header_.elements) {
    throw core::DataError(
        fmt::format("{}: the files of the state do not hold every weight once (from element {})",
                    files_.front().files().front(), end));
  }
}

/// Only what is read, and once.
void StateFiles::check(Piece& piece) const {
  if (piece.is_checked) return;
  for (std::size_t a = 0; a < arrays_of(header_.averages); ++a) {
    if (core::crc32c(piece.bytes[a]) == piece.crcs[a]) continue;
    throw core::DataError(fmt::format("{} is damaged: '{}' does not match its CRC",
                                      files_[piece.file].files().front(), kStateArrays[a]));
  }
  piece.is_checked = true;
}

void StateFiles::read(const StatePart& part) {
  const auto ends_before = [](const Piece& piece, std::int64_t place) { return piece.range.end <= place; };
  auto piece = std::lower_bound(pieces_.begin(), pieces_.end(), part.range.begin, ends_before);
  for (; piece != pieces_.end() && piece->range.begin < part.range.end; ++piece) {
    check(*piece);
    const Range common{std::max(piece->range.begin, part.range.begin),
                       std::min(piece->range.end, part.range.end)};
    const auto skipped = static_cast<std::size_t>(common.begin - piece->range.begin) * sizeof(float);
    const auto bytes = static_cast<std::size_t>(common.count()) * sizeof(float);
    for (std::size_t a = 0; a < arrays_of(header_.averages); ++a) {
      std::memcpy(part.values[a].data_ptr<float>() + (common.begin - part.range.begin),
                  piece->bytes[a].data() + skipped, bytes);
    }
  }
}

}  // namespace muster::training
