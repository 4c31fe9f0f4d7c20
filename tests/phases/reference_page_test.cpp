// SPDX-License-Identifier: Apache-2.0
// docs/reference.md against the key schemas: what it says of flags, values and defaults is what the program
// takes.
#include <gtest/gtest.h>

#include "muster/config/schema.h"
#include "muster/core/strings.h"
#include "muster/phases/item_phase.h"
#include "system.h"

namespace muster::test {
namespace {

constexpr std::size_t kCellsCompared =
    4;  // key, flags, values, default; the words behind them are the page's own

std::string head_of(const std::string& row) {
  std::size_t end = 0;
  for (std::size_t cell = 0; cell <= kCellsCompared && end != std::string::npos; ++cell)
    end = row.find('|', end + (cell > 0));
  return row.substr(0, end);
}

TEST(CommandsReference, HasARowForEveryKey) {
  const std::string page = read_text(source_file("docs/reference.md"));
  for (const auto& phase : phases::all_phases()) {
    SCOPED_TRACE(phase.name);
    const auto rows = core::split(config::markdown_table(phase.schema), '\n');
    for (std::size_t i = 2; i < rows.size(); ++i) {  // behind the table's head
      if (rows[i].empty()) continue;
      EXPECT_NE(page.find('\n' + head_of(rows[i])), std::string::npos) << "the page lacks\n" << rows[i];
    }
  }
}

}  // namespace
}  // namespace muster::test
