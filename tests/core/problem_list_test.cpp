// SPDX-License-Identifier: Apache-2.0
#include "muster/core/problem_list.h"

#include <gtest/gtest.h>

#include "muster/core/error.h"

namespace muster::core {
namespace {

TEST(ProblemList, TellsTheFirstAndCountsTheRest) {
  const struct {
    std::size_t problems;
    const char *begin, *end;
  } rows[] = {
      {1, "f.txt: problem 0", "problem 0"},
      {2, "f.txt: problem 0\n  problem 1", "problem 1"},
      {ProblemList::kMostTold, "f.txt: problem 0\n  problem 1", "\n  problem 19"},
      {ProblemList::kMostTold + 2, "f.txt: problem 0\n  problem 1", "\n  problem 19\n  and 2 more"},
  };
  for (const auto& row : rows) {
    ProblemList list("f.txt");
    EXPECT_NO_THROW(list.throw_if_any());
    for (std::size_t i = 0; i < row.problems; ++i) list.add("problem " + std::to_string(i));
    EXPECT_EQ(list.full(), row.problems >= ProblemList::kMostTold);
    std::string message;
    try {
      list.throw_if_any();
    } catch (const DataError& error) {
      message = error.what();
    }
    EXPECT_TRUE(message.starts_with(row.begin) && message.ends_with(row.end)) << message;
  }
}

}  // namespace
}  // namespace muster::core
