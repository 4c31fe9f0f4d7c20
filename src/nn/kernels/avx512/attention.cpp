// SPDX-License-Identifier: Apache-2.0
// Attention of one head over one sequence. Keys and values are packed like weights, then a block of queries
// goes through scores, softmax and the weighted sum without leaving the first-level cache.
#include "nn/kernels/avx512/kernels.h"
#include "nn/kernels/avx512/math.h"
#include "nn/kernels/avx512/row_blocks.h"

namespace muster::nn::kernels {
namespace {

constexpr int kKeyVectors = 3;  // of keys in a panel
constexpr std::int64_t kKeyPanel = kKeyVectors * kLanes;
static_assert(kKeyPanel == kPanelColumns);
constexpr int kValueVectors = 2;
constexpr std::int64_t kValuePanel = kValueVectors * kLanes;  // 32 columns of a head

constexpr std::int64_t whole(std::int64_t size, std::int64_t step) {
  return (size + step - 1) / step * step;
}

// 16 x 16 words of 32 bits across the diagonal.
void transpose(__m512i (&rows)[16]) {
  __m512i t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 2; ++j) {
      rows[4 * i + 2 * j] = _mm512_unpacklo_epi64(t[4 * i + j], t[4 * i + 2 + j]);
      rows[4 * i + 2 * j + 1] = _mm512_unpackhi_epi64(t[4 * i + j], t[4 * i + 2 + j]);
    }
  for (int i = 0; i < 4; ++i) {  // rows[4g + i] holds, per 128-bit lane l, word 4l + i of rows 4g .. 4g + 3
    const __m512i a = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88);
    const __m512i b = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
    const __m512i c = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd);
    const __m512i d = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
    t[i] = _mm512_shuffle_i32x4(a, b, 0x88);
    t[8 + i] = _mm512_shuffle_i32x4(a, b, 0xdd);
    t[4 + i] = _mm512_shuffle_i32x4(c, d, 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(c, d, 0xdd);
  }
  for (int i = 0; i < 16; ++i) rows[i] = t[i];
}

// [panels of 48 keys][width / 2][48][2]; keys behind the last are zero.
void pack_keys(const HeadInputs& head, Bf16* out) {
  for (std::int64_t key = 0; key < whole(head.length, kKeyPanel); key += kLanes) {
    Bf16* panel = out + (key / kKeyPanel) * kKeyPanel * head.width + (key % kKeyPanel) * 2;
    for (std::int64_t column = 0; column < head.width; column += 32) {
      __m512i rows[16];
      for (std::int64_t i = 0; i < kLanes; ++i)
        rows[i] = key + i < head.length ? _mm512_loadu_si512(head.key + (key + i) * head.stride + column)
                                        : _mm512_setzero_si512();
      transpose(rows);
      for (std::int64_t i = 0; i < kLanes; ++i)
        _mm512_storeu_si512(panel + (column / 2 + i) * kKeyPanel * 2, rows[i]);
    }
  }
}

// [width / 32][pairs of keys][32][2]; the key behind an odd length is zero.
void pack_values(const HeadInputs& head, Bf16* out) {
  alignas(64) std::uint16_t low[32], high[32];
  for (std::uint16_t i = 0; i < 32; ++i) {
    low[i] = static_cast<std::uint16_t>(i / 2 + (i % 2) * 32);
    high[i] = static_cast<std::uint16_t>(low[i] + 16);
  }
  const __m512i low_index = _mm512_load_si512(low), high_index = _mm512_load_si512(high);
  for (std::int64_t column = 0; column < head.width; column += kValuePanel)
    for (std::int64_t key = 0; key < head.length; key += 2, out += 2 * kValuePanel) {
      const __m512i first = _mm512_loadu_si512(head.value + key * head.stride + column);
      const __m512i second = key + 1 < head.length
                                 ? _mm512_loadu_si512(head.value + (key + 1) * head.stride + column)
                                 : _mm512_setzero_si512();
      _mm512_storeu_si512(out, _mm512_permutex2var_epi16(first, low_index, second));
      _mm512_storeu_si512(out + 32, _mm512_permutex2var_epi16(first, high_index, second));
    }
}

struct Packed {
  const Bf16* keys;
  const Bf16* values;
  float* scores;  // [kQueryBlock][score_stride], scaled for 2^x
  Bf16* weights;  // [kQueryBlock][score_stride]
  std::int64_t score_stride;
};

constexpr float kLog2E = 1.44269504f;

template <int Rows>
void compute_scores(const HeadInputs& head, const Packed& packed, std::int64_t query,
                    float (&highest)[Rows]) {
  const __m512 scale = _mm512_set1_ps(head.scale * kLog2E);
  const __m512 log2e = _mm512_set1_ps(kLog2E);
  __m512 top[Rows];
  for (int r = 0; r < Rows; ++r) top[r] = _mm512_set1_ps(-__builtin_inff());
  for (std::int64_t key = 0; key < head.length; key += kKeyPanel) {
    __m512 sum[Rows][kKeyVectors];
    multiply(head.query + query * head.stride, head.stride, packed.keys + key * head.width, head.width / 2,
             sum);
    for (int v = 0; v < kKeyVectors; ++v) {
      const std::int64_t first = key + v * kLanes, left = head.length - first;
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

template <int Rows>
void attend_block(const HeadInputs& head, const Packed& packed, std::int64_t query, const OutputRows& out) {
  float highest[Rows], inverse[Rows];
  compute_scores(head, packed, query, highest);
  for (int r = 0; r < Rows; ++r)
    inverse[r] = weigh(packed.scores + r * packed.score_stride, head.length, highest[r],
                       packed.weights + r * packed.score_stride);
  const std::int64_t pairs = (head.length + 1) / 2;
  for (std::int64_t column = 0; column < head.width; column += kValuePanel) {
    __m512 sum[Rows][kValueVectors];
    multiply(packed.weights, packed.score_stride, packed.values + column * pairs * 2, pairs, sum);
    for (int r = 0; r < Rows; ++r)
      for (int v = 0; v < kValueVectors; ++v)
        store_bf16(out.data + (query + r) * out.stride + column + v * kLanes,
                   _mm512_mul_ps(sum[r][v], _mm512_set1_ps(inverse[r])));
  }
}

}  // namespace

void attend_head_avx512(const HeadInputs& head, const OutputRows& out, void* scratch) {
  const std::int64_t keys = whole(head.length, kKeyPanel);
  auto* packed_keys = static_cast<Bf16*>(scratch);
  Bf16* packed_values = packed_keys + keys * head.width;
  auto* scores = reinterpret_cast<float*>(packed_values + keys * head.width);
  auto* weights = reinterpret_cast<Bf16*>(scores + kQueryBlock * keys);
  pack_keys(head, packed_keys);
  pack_values(head, packed_values);
  const Packed packed{packed_keys, packed_values, scores, weights, keys};
  for_row_blocks(head.length, [&]<int Rows>(RowCount<Rows>, std::int64_t query) {
    attend_block<Rows>(head, packed, query, out);
  });
}

}  // namespace muster::nn::kernels
