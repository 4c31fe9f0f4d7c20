// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "muster/io/hdf5_results.h"
#include "muster/phases/item_phase.h"

namespace muster::phases {

/// One dataset of a table, and how a record's payload becomes its row.
struct Column {
  std::string name;  ///< "/embeddings"
  io::H5Type type = io::H5Type::kF32;
  std::uint64_t columns = 0;  ///< 0: one value a row
  std::function<void(std::span<const std::byte> payload, std::span<std::byte> row)> fill;
};

/// Collective: writes the records of all ranks and starts as one HDF5 table in input order. Every rank
/// assembles an equal run of rows from the segments (whoever wrote them) and writes it; failed items have no
/// row.
void publish_rows(const PublishContext& context, const std::string& path, const std::vector<Column>& columns,
                  const std::map<std::string, io::H5Attribute>& attributes);

/// What became of each item row after the last start.
enum class RowStatus : std::uint8_t { kOpen, kDone, kFailed };
std::vector<RowStatus> row_status(const io::RunDirectory& run, const std::vector<io::JournalEntry>& journal,
                                  std::uint64_t rows);

}  // namespace muster::phases
