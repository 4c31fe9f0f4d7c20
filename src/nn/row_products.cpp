// SPDX-License-Identifier: Apache-2.0
#include "muster/nn/row_products.h"

#include <ATen/Functions.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cstring>

#include "muster/core/error.h"
#include "muster/nn/backend.h"
#include "muster/nn/linear.h"

namespace muster::nn {
namespace {

// The library only reads it.
at::Tensor view(const float* values, std::int64_t rows, std::size_t columns) {
  return at::from_blob(const_cast<float*>(values), {rows, static_cast<std::int64_t>(columns)}, at::kFloat);
}

}  // namespace

struct RowProducts::Packed {
  PackedLinear linear;
};

std::size_t RowProducts::block_rows() {
  return kTileRows;
}

RowProducts::RowProducts(std::span<const float> matrix, std::size_t columns)
    : columns_(columns), outputs_(columns == 0 ? 0 : matrix.size() / columns) {
  core::internal_check(columns > 0 && !matrix.empty() && matrix.size() == outputs_ * columns,
                       "a matrix has whole rows");
  try {
    use_one_thread();
    const c10::InferenceMode inference;
    packed_ = std::make_unique<Packed>(Packed{PackedLinear(
        view(matrix.data(), static_cast<std::int64_t>(outputs_), columns), {}, Activation::kIdentity, {})});
  } catch (const c10::Error& error) {
    rethrow(error, "packing a matrix");
  }
}

RowProducts::~RowProducts() = default;

void RowProducts::multiply(std::span<const float> rows, std::span<float> out) const {
  const std::size_t count = rows.size() / columns_, block = block_rows();
  core::internal_check(rows.size() == count * columns_ && out.size() == count * outputs_,
                       "a product has as many rows as its input");
  try {
    use_one_thread();
    const c10::InferenceMode inference;
    at::Tensor padded;
    for (std::size_t row = 0; row < count; row += block) {
      const std::size_t here = std::min(block, count - row);
      at::Tensor tile = view(rows.data() + row * columns_, kTileRows, columns_);
      if (here < block) {
        padded = at::zeros({kTileRows, static_cast<std::int64_t>(columns_)}, at::kFloat);
        std::memcpy(padded.mutable_data_ptr<float>(), rows.data() + row * columns_,
                    here * columns_ * sizeof(float));
        tile = padded;
      }
      const at::Tensor product = packed_->linear.forward(tile).contiguous();
      std::memcpy(out.data() + row * outputs_, product.const_data_ptr<float>(),
                  here * outputs_ * sizeof(float));
    }
  } catch (const c10::Error& error) {
    rethrow(error, "multiplying rows");
  }
}

}  // namespace muster::nn
