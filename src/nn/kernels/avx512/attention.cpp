// SPDX-License-Identifier: Apache-2.0
// Attention of one head over one sequence. Keys and values are packed like weights, then a block of queries
// goes through scores, softmax and the weighted sum without leaving the first-level cache.
#include "nn/kernels/avx512/head_panels.h"
#include "nn/kernels/avx512/kernels.h"
#include "nn/kernels/avx512/row_blocks.h"

namespace muster::nn::kernels {
namespace {

static_assert(kKeyPanel == kPanelColumns);

struct Packed {
  const Bf16* keys;
  const Bf16* values;
  float* scores;  // [kQueryBlock][score_stride], scaled for 2^x
  Bf16* weights;  // [kQueryBlock][score_stride]
  std::int64_t score_stride;
};

template <int Rows>
void compute_scores(const HeadInputs& head, const Packed& packed, std::int64_t query,
                    float (&highest)[Rows]) {
  const __m512 scale = _mm512_set1_ps(head.scale * kLog2E);
  const __m512 log2e = _mm512_set1_ps(kLog2E);
  __m512 top[Rows];
  for (int r = 0; r < Rows; ++r) top[r] = _mm512_set1_ps(-__builtin_inff());
  for (std::int64_t key = 0; key < head.keys; key += kKeyPanel) {
    __m512 sum[Rows][kKeyVectors];
    multiply(head.query + query * head.stride, head.stride, packed.keys + key * head.width, head.width / 2,
             sum);
    for (int v = 0; v < kKeyVectors; ++v) {
      const std::int64_t first = key + v * kLanes, left = head.keys - first;
      if (left <= 0) break;
      const __mmask16 lanes = left >= kLanes ? __mmask16(0xffff) : first_lanes(left);
      for (int r = 0; r < Rows; ++r) {
        __m512 score = _mm512_mul_ps(sum[r][v], scale);
        if (head.distance_bias)
          score = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(lanes, head.distance_bias + first - (query + r)),
                                  log2e, score);
        top[r] = _mm512_mask_max_ps(top[r], lanes, top[r], score);
        _mm512_storeu_ps(packed.scores + r * packed.score_stride + first, score);
      }
    }
  }
  for (int r = 0; r < Rows; ++r) highest[r] = _mm512_reduce_max_ps(top[r]);
}

// exp(score - highest) as bf16, zero behind the last key up to an even count; returns 1 / sum.
float weigh(const float* scores, std::int64_t length, float highest, Bf16* weights) {
  const __m512 top = _mm512_set1_ps(highest);
  __m512 sum = _mm512_setzero_ps();
  for (std::int64_t key = 0; key < length; key += kLanes) {
    const __mmask16 lanes = length - key >= kLanes ? __mmask16(0xffff) : first_lanes(length - key);
    const __m512 weight =
        _mm512_maskz_mov_ps(lanes, exp2_of(_mm512_sub_ps(_mm512_loadu_ps(scores + key), top)));
    sum = _mm512_add_ps(sum, weight);
    store_bf16(weights + key, weight);
  }
  return 1.0f / _mm512_reduce_add_ps(sum);
}

// A panel of the result from `column` on.
template <int Rows, int Vectors>
void weighted_sum(const HeadInputs& head, const Packed& packed, const float (&inverse)[Rows],
                  std::int64_t column, const OutputRows& out) {
  const std::int64_t pairs = (head.keys + 1) / 2;
  __m512 sum[Rows][Vectors];
  multiply(packed.weights, packed.score_stride, packed.values + column * pairs * 2, pairs, sum);
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < Vectors; ++v)
      store_bf16(out.data + r * out.stride + column + v * kLanes,
                 _mm512_mul_ps(sum[r][v], _mm512_set1_ps(inverse[r])),
                 lanes_of(head.width - column - v * kLanes));
}

template <int Rows>
void attend_block(const HeadInputs& head, const Packed& packed, std::int64_t query, const OutputRows& out) {
  float highest[Rows], inverse[Rows];
  compute_scores(head, packed, query, highest);
  for (int r = 0; r < Rows; ++r)
    inverse[r] = weigh(packed.scores + r * packed.score_stride, head.keys, highest[r],
                       packed.weights + r * packed.score_stride);
  const OutputRows rows{out.data + query * out.stride, out.stride};
  for (std::int64_t column = 0; column < head.width; column += kValuePanel)
    if (head.width - column > kLanes)
      weighted_sum<Rows, kValueVectors>(head, packed, inverse, column, rows);
    else
      weighted_sum<Rows, 1>(head, packed, inverse, column, rows);
}

}  // namespace

void attend_head_avx512(const HeadInputs& head, const OutputRows& out, void* scratch) {
  const std::int64_t keys = whole(head.keys, kKeyPanel), columns = whole(head.width, kLanes);
  auto* packed_keys = static_cast<Bf16*>(scratch);
  Bf16* packed_values = packed_keys + keys * columns;
  auto* scores = reinterpret_cast<float*>(packed_values + keys * columns);
  auto* weights = reinterpret_cast<Bf16*>(scores + kQueryBlock * keys);
  pack_transposed<kKeyPanel, Bf16>({head.key, head.key_stride, head.keys, head.width},
                                   {packed_keys, head.width, keys});
  pack<kValuePanel, Bf16>({head.value, head.key_stride, head.keys, head.width},
                          {packed_values, whole(head.keys, 2), head.width}, 0);
  const Packed packed{packed_keys, packed_values, scores, weights, keys};
  for_row_blocks(head.length, [&]<int Rows>(RowCount<Rows>, std::int64_t query) {
    attend_block<Rows>(head, packed, query, out);
  });
}

}  // namespace muster::nn::kernels
