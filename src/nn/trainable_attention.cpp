// SPDX-License-Identifier: Apache-2.0
#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "muster/core/error.h"
#include "muster/nn/trainable.h"
#include "nn/differentiable.h"
#include "nn/trainable_elements.h"
#include "nn/trainable_masks.h"

namespace muster::nn::trainable {
namespace {

constexpr auto kFp32 = c10::ScalarType::Float;

// Row i begins at distance -i: windows over the distances, the last one first. [heads, 2n - 1] -> [heads,
// length, length]
at::Tensor scores_of_distances(const at::Tensor& distances, std::int64_t length) {
  const std::int64_t longest = (distances.size(1) + 1) / 2;
  return distances.narrow(1, longest - length, 2 * length - 1).unfold(1, length, 1).flip(1);
}

// [3, count, heads, length, width]
at::Tensor heads_of(const at::Tensor& rows, std::int64_t length, const HeadShape& shape) {
  return rows.view({-1, length, 3, shape.heads, shape.width}).permute({2, 0, 3, 1, 4});
}

at::Tensor attend_text(const at::Tensor& rows, const HeadShape& shape, const at::Tensor& distance_bias,
                       const at::Tensor& factors) {
  const std::int64_t length = rows.size(0);
  const at::Tensor heads = heads_of(rows, length, shape).squeeze(1);  // [3, heads, length, width]
  at::Tensor scores =
      at::matmul(heads[0], heads[1].transpose(1, 2)).to(kFp32) / std::sqrt(static_cast<double>(shape.width));
  if (distance_bias.defined()) scores = scores + scores_of_distances(distance_bias, length);
  at::Tensor weights = at::softmax(scores, -1);
  if (factors.defined()) weights = weights * factors.view({shape.heads, length, length});
  return at::matmul(weights.to(rows.scalar_type()), heads[2]).transpose(0, 1).reshape({length, -1});
}

at::Tensor attend_on_host(const at::Tensor& qkv, const HeadShape& shape, const at::Tensor& distance_bias,
                          const Dropout& dropout) {
  const Texts& texts = *dropout.texts;
  const auto elements = [&](std::int64_t length) { return shape.heads * length * length; };
  KeepBits bits;
  if (drops(dropout)) bits = KeepBits(dropout, elements);
  std::vector<at::Tensor> parts;
  std::int64_t row = 0;
  for (std::size_t text = 0; text < texts.lengths.size(); ++text) {
    const std::int64_t length = texts.lengths[text];
    const at::Tensor factors =
        bits.defined() ? bits.factors(text, elements(length), keep_scale(dropout)) : at::Tensor();
    parts.push_back(attend_text(qkv.narrow(0, row, length), shape, distance_bias, factors));
    row += length;
  }
  return at::cat(parts, 0);
}

at::Tensor attend_on_device(const at::Tensor& qkv, const HeadShape& shape, const at::Tensor& distance_bias,
                            const Dropout& dropout) {
  const Texts& texts = *dropout.texts;
  std::vector<at::Tensor> parts;
  std::size_t text = 0;
  for (const auto& [first_row, count, length] : texts.runs) {
    if (drops(dropout)) seed_generator(qkv.device(), dropout, texts.items[text]);
    const at::Tensor heads = heads_of(qkv.narrow(0, first_row, count * length), length, shape);
    std::optional<at::Tensor> bias;
    if (distance_bias.defined())
      bias = scores_of_distances(distance_bias, length).to(qkv.scalar_type()).unsqueeze(0);
    const at::Tensor attended =
        at::scaled_dot_product_attention(heads[0], heads[1], heads[2], bias, dropout.probability);
    parts.push_back(attended.transpose(1, 2).reshape({count * length, -1}));
    text += static_cast<std::size_t>(count);
  }
  return at::cat(parts, 0);
}

// One pass over all texts and heads: forward's or backward's pointers for a head begin at `row`.
struct HeadPlace {
  std::size_t text;
  std::int64_t row, head;
};

template <typename Work>
void for_heads(const Texts& texts, std::int64_t heads, const Work& work) {
  std::int64_t row = 0;
  for (std::size_t text = 0; text < texts.lengths.size(); ++text) {
    for (std::int64_t head = 0; head < heads; ++head)
      work(HeadPlace{text, row, head}, std::int64_t{texts.lengths[text]});
    row += texts.lengths[text];
  }
}

// Attention by our kernels: what backward needs of forward. Heads lie in memory with whole vectors.
struct OwnAttention {
  at::Tensor qkv, distance_bias, log_sums;  // log_sums: fp32 [heads, rows]
  HeadShape shape;
  std::int64_t width;  // of a head in memory
  Dropout dropout;
  KeepBits bits;

  std::int64_t rows() const { return qkv.size(0); }
  std::int64_t columns() const { return shape.heads * width; }

  // The middle of a head's distances, from where all begin.
  std::int64_t middle(std::int64_t head) const {
    return head * distance_bias.size(1) + distance_bias.size(1) / 2;
  }

  at::Tensor scratch() const {
    std::int64_t longest = 0;
    for (const std::uint32_t length : dropout.texts->lengths)
      longest = std::max<std::int64_t>(longest, length);
    const auto element_bytes = static_cast<std::int64_t>(qkv.element_size());
    return at::empty({kernels::head_scratch_bytes(longest, width, element_bytes)}, c10::ScalarType::Byte);
  }

  template <typename Element>
  kernels::HeadTraining<Element> training_of(const HeadPlace& place, std::int64_t length) const {
    const Element* query = elements<Element>(qkv) + place.row * qkv.size(1) + place.head * width;
    return {.query = query,
            .key = query + columns(),
            .value = query + 2 * columns(),
            .stride = qkv.size(1),
            .length = length,
            .width = width,
            .scale = 1.0f / std::sqrt(static_cast<float>(shape.width)),
            .distance_bias = distance_bias.defined()
                                 ? distance_bias.const_data_ptr<float>() + middle(place.head)
                                 : nullptr,
            .keep = bits.defined() ? bits.text(place.text) : nullptr,
            .first_bit = place.head * length * length,
            .keep_scale = bits.defined() ? keep_scale(dropout) : 1.0f};
  }

  template <typename Element>
  at::Tensor forward() {
    at::Tensor context = at::empty({rows(), columns()}, qkv.options()), memory = scratch();
    log_sums = at::empty({shape.heads, rows()}, kFp32);
    for_heads(*dropout.texts, shape.heads, [&](const HeadPlace& place, std::int64_t length) {
      typed_kernels<Element>().head_forward(
          training_of<Element>(place, length),
          {.out = mutable_elements<Element>(context) + place.row * columns() + place.head * width,
           .stride = columns(),
           .log_sum = log_sums.mutable_data_ptr<float>() + place.head * rows() + place.row},
          memory.mutable_data_ptr());
    });
    return context;
  }

  struct Gradients {
    at::Tensor qkv, distance_bias;
  };

  template <typename Element>
  Gradients backward(const at::Tensor& gradient, const Wanted& wanted) const {
    at::Tensor of_qkv = at::empty_like(qkv), memory = scratch();
    at::Tensor of_bias = wanted(1) ? at::zeros_like(distance_bias) : at::Tensor();
    for_heads(*dropout.texts, shape.heads, [&](const HeadPlace& place, std::int64_t length) {
      Element* query = mutable_elements<Element>(of_qkv) + place.row * of_qkv.size(1) + place.head * width;
      typed_kernels<Element>().head_backward(
          training_of<Element>(place, length),
          {.gradient = elements<Element>(gradient) + place.row * columns() + place.head * width,
           .gradient_stride = columns(),
           .log_sum = log_sums.const_data_ptr<float>() + place.head * rows() + place.row,
           .query = query,
           .key = query + columns(),
           .value = query + 2 * columns(),
           .stride = of_qkv.size(1),
           .distance_bias =
               of_bias.defined() ? of_bias.mutable_data_ptr<float>() + middle(place.head) : nullptr},
          memory.mutable_data_ptr());
    });
    return {of_qkv, of_bias};
  }
};

// [rows, heads * width] and back: zero columns behind a head's own change no product.
at::Tensor widen_heads(const at::Tensor& x, std::int64_t width, std::int64_t to) {
  if (width == to) return x.contiguous();
  return at::constant_pad_nd(x.reshape({x.size(0), -1, width}), {0, to - width}).view({x.size(0), -1});
}
at::Tensor narrow_heads(const at::Tensor& x, std::int64_t width, std::int64_t to) {
  return width == to ? x : x.view({x.size(0), -1, width}).narrow(2, 0, to).reshape({x.size(0), -1});
}

at::Tensor attend_by_kernels(const at::Tensor& qkv, const HeadShape& shape, const at::Tensor& distance_bias,
                             const Dropout& dropout) {
  const std::int64_t width = head_columns(shape.width);
  OwnAttention attention{
      .qkv = widen_heads(kept(qkv), shape.width, width), .shape = shape, .width = width, .dropout = dropout};
  if (distance_bias.defined()) attention.distance_bias = kept(distance_bias).contiguous();
  if (drops(dropout))
    attention.bits = KeepBits(dropout, [&](std::int64_t length) { return shape.heads * length * length; });
  const at::Tensor context =
      with_element(qkv, [&]<typename Element>(ElementType<Element>) { return attention.forward<Element>(); });
  const at::Tensor inputs[] = {qkv, distance_bias};
  return differentiable(narrow_heads(context, width, shape.width), inputs,
                        [attention = std::move(attention)](const at::Tensor& gradient, const Wanted& wanted) {
                          const std::int64_t own = attention.shape.width, wide = attention.width;
                          const at::Tensor from = widen_heads(gradient, own, wide);
                          const auto found = with_element(from, [&]<typename Element>(ElementType<Element>) {
                            return attention.backward<Element>(from, wanted);
                          });
                          return std::vector{narrow_heads(found.qkv, wide, own), found.distance_bias};
                        });
}

// The text-by-text graph as one node, so that the bias gets one gradient, whatever the number of texts.
at::Tensor attend_by_library(const at::Tensor& qkv, const HeadShape& shape, const at::Tensor& distance_bias,
                             const Dropout& dropout) {
  const at::Tensor inputs[] = {qkv, distance_bias};
  return one_node(inputs, [&](std::span<const at::Tensor> own) {
    return qkv.device().is_cpu() ? attend_on_host(own[0], shape, own[1], dropout)
                                 : attend_on_device(own[0], shape, own[1], dropout);
  });
}

}  // namespace

at::Tensor attend(const at::Tensor& qkv, const HeadShape& shape, const at::Tensor& distance_bias,
                  const Dropout& dropout) {
  core::internal_check(dropout.texts && dropout.texts->rows == qkv.size(0), "attention knows its texts");
  return has_own_passes(qkv) ? attend_by_kernels(qkv, shape, distance_bias, dropout)
                             : attend_by_library(qkv, shape, distance_bias, dropout);
}

}  // namespace muster::nn::trainable
