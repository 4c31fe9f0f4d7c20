// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <fmt/format.h>

#include <memory>
#include <string>

#include "muster/core/problem_list.h"
#include "muster/formats/table.h"

namespace muster::phases {

/// A file's bytes, decompressed where they are gzipped.
inline std::unique_ptr<formats::ByteSource> open_bytes(const std::string& path) {
  return formats::decompress_source(formats::open_file_source(path), path);
}

/// Calls `use(row, complain)` for every row that could be split into fields; complain(text) puts the row's
/// line before the text.
template <class Use>
void for_each_row(formats::TableReader& reader, core::ProblemList& problems, Use&& use) {
  for (formats::TableRow row; reader.next(row);) {
    const auto complain = [&](const std::string& problem) {
      problems.add(fmt::format("line {}: {}", row.line, problem));
    };
    if (row.problem.empty())
      use(row, complain);
    else
      complain(row.problem);
  }
}

}  // namespace muster::phases
