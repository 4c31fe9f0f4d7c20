// SPDX-License-Identifier: Apache-2.0
#include "phases/runner/publish_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "muster/core/error.h"

namespace muster::phases {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{8} << 20;

// 16 bytes a row: a rank holds those of all the rows it publishes.
struct Location {
  std::uint64_t offset = 0;
  std::uint32_t payload_bytes = 0;
  std::uint32_t entry = kNowhere;  // of the journal

  static constexpr std::uint32_t kNowhere = UINT32_MAX;
};

// Where the records of published rows [first, first + count) are.
std::vector<Location> locate(const PublishContext& context, std::uint64_t first, std::uint64_t count) {
  std::vector<Location> locations(count);
  const auto& failed = context.failed_rows;
  context.run.for_each_ref(
      context.journal, [&](const io::JournalEntry& entry, const formats::RecordRef& ref) {
        if (ref.kind != formats::RecordKind::kResult) return;
        const auto before = std::lower_bound(failed.begin(), failed.end(), ref.item);
        const std::uint64_t position = ref.item - static_cast<std::uint64_t>(before - failed.begin());
        if (position < first || position >= first + count) return;
        locations[position - first] = {.offset = ref.offset,
                                       .payload_bytes = ref.payload_bytes,
                                       .entry = static_cast<std::uint32_t>(&entry - context.journal.data())};
      });
  for (std::uint64_t i = 0; i < count; ++i) {
    core::internal_check(locations[i].entry != Location::kNowhere,
                         fmt::format("published row {} has no record", first + i));
  }
  return locations;
}

// The item that is published at `position`: the position-th without a failure.
std::uint64_t item_at(const std::vector<std::uint64_t>& failed, std::uint64_t position) {
  std::uint64_t low = 0,
                high = failed.size();  // failed items before it: those with failed[i] - i <= position
  while (low < high) {
    const std::uint64_t middle = (low + high) / 2;
    if (failed[middle] - middle <= position) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return position + low;
}

}  // namespace

void publish_rows(const PublishContext& context, const std::string& path, const std::vector<Column>& columns,
                  const std::map<std::string, io::H5Attribute>& attributes) {
  io::H5FileSpec spec{.path = path,
                      .datasets = {},
                      .attributes = attributes,
                      .next_id = context.next_id,
                      .ids_rows = context.rows,
                      .failure_claim = context.run.run_file("cause")};
  std::vector<std::size_t> row_bytes;
  std::size_t bytes = 0;
  for (const auto& column : columns) {
    spec.datasets.push_back({column.name, column.type, context.rows, column.columns});
    row_bytes.push_back(io::h5_type_bytes(column.type) * std::max<std::uint64_t>(column.columns, 1));
    bytes += row_bytes.back();
  }
  const auto ranks = static_cast<std::uint64_t>(context.world.size());
  const auto rank = static_cast<std::uint64_t>(context.world.rank());
  const std::uint64_t first = context.rows * rank / ranks, last = context.rows * (rank + 1) / ranks;
  const std::uint64_t block = std::max<std::uint64_t>(kBlockBytes / bytes, 1);

  io::write_h5(spec, context.world, [&](io::H5RowWriter& writer) {
    const auto locations = locate(context, first, last - first);
    std::vector<std::vector<std::byte>> buffers(columns.size());
    for (std::uint64_t begin = first; begin < last; begin += block) {
      const std::uint64_t rows = std::min(block, last - begin);
      context.step(fmt::format("writing rows from {}", begin));
      for (std::size_t c = 0; c < columns.size(); ++c) buffers[c].resize(rows * row_bytes[c]);
      for (std::uint64_t row = 0; row < rows; ++row) {
        const auto& location = locations[begin - first + row];
        const auto payload = context.run.payload(context.journal[location.entry].segment,
                                                 {.item = item_at(context.failed_rows, begin + row),
                                                  .offset = location.offset,
                                                  .payload_bytes = location.payload_bytes});
        for (std::size_t c = 0; c < columns.size(); ++c) {
          columns[c].fill(payload, std::span(buffers[c]).subspan(row * row_bytes[c], row_bytes[c]));
        }
      }
      const std::vector<std::span<const std::byte>> parts(buffers.begin(), buffers.end());
      writer.write(begin, rows, parts);
    }
  });
}

std::vector<RowStatus> row_status(const io::RunDirectory& run, const std::vector<io::JournalEntry>& journal,
                                  std::uint64_t rows) {
  std::vector<RowStatus> status(rows, RowStatus::kOpen);
  run.for_each_ref(journal, [&](const io::JournalEntry& entry, const formats::RecordRef& ref) {
    if (ref.item >= rows) {
      throw core::ResumeError(
          fmt::format("{} holds item {}, but the input has {} items; run with --fresh to start over",
                      entry.segment, ref.item, rows));
    }
    status[ref.item] = ref.kind == formats::RecordKind::kResult ? RowStatus::kDone : RowStatus::kFailed;
  });
  return status;
}

}  // namespace muster::phases
