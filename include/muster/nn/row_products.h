// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <memory>
#include <span>

namespace muster::nn {

/// Products of rows with one matrix in fp32 on the host, y = x W^T, for callers that know nothing of tensors.
/// A row's bytes depend on that row and the matrix alone: neither on the other rows nor on how many there
/// are.
class RowProducts {
 public:
  /// Rows are multiplied so many at a time; blocks of them waste nothing.
  static std::size_t block_rows();

  /// `matrix` is [outputs, columns], row by row.
  RowProducts(std::span<const float> matrix, std::size_t columns);
  ~RowProducts();
  RowProducts(const RowProducts&) = delete;
  RowProducts& operator=(const RowProducts&) = delete;

  std::size_t outputs() const { return outputs_; }
  /// `rows` [n, columns] to `out` [n, outputs]. Safe from several threads; computes on the caller's alone.
  void multiply(std::span<const float> rows, std::span<float> out) const;

 private:
  struct Packed;
  std::size_t columns_, outputs_;
  std::unique_ptr<const Packed> packed_;
};

}  // namespace muster::nn
