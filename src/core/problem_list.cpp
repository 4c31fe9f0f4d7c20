// SPDX-License-Identifier: Apache-2.0
#include "muster/core/problem_list.h"

#include <fmt/format.h>

#include "muster/core/error.h"
#include "muster/core/strings.h"

namespace muster::core {

void ProblemList::add(std::string problem) {
  if (!full()) told_.push_back(std::move(problem));
  ++count_;
}

void ProblemList::throw_if_any() const {
  if (count_ == 0) return;
  std::string message = fmt::format("{}: {}", source_, join(told_, "\n  "));
  if (count_ > told_.size()) message += fmt::format("\n  and {} more", count_ - told_.size());
  throw DataError(message);
}

}  // namespace muster::core
