// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace muster::core {

/// What is wrong with a file, told at once: the first problems in words, the others as a number.
class ProblemList {
 public:
  static constexpr std::size_t kMostTold = 20;

  explicit ProblemList(std::string source) : source_(std::move(source)) {}
  void add(std::string problem);
  /// No further problem will be told: nothing need be found out for one.
  bool full() const { return told_.size() >= kMostTold; }
  /// DataError "source: problem", a line for each of several.
  void throw_if_any() const;

 private:
  std::string source_;
  std::vector<std::string> told_;
  std::size_t count_ = 0;
};

}  // namespace muster::core
