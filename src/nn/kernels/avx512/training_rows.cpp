// SPDX-License-Identifier: Apache-2.0
// Passes over rows and elements, forward and backward.
#include "nn/kernels/avx512/elements.h"
#include "nn/kernels/avx512/training.h"

namespace muster::nn::kernels {
namespace {

// Philox4x32-10 on eight counters, each word in the lower half of a 64-bit lane: a product leaves the high
// word where a shift brings it down, and the low word where it is wanted; what lies above is never read.
struct EightBlocks {
  __m512i word[4];
};

EightBlocks philox(EightBlocks c, const std::uint32_t (&key)[2]) {
  const __m512i m0 = _mm512_set1_epi64(0xD2511F53), m1 = _mm512_set1_epi64(0xCD9E8D57);
  std::uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; ++round) {
    const __m512i p0 = _mm512_mul_epu32(c.word[0], m0), p1 = _mm512_mul_epu32(c.word[2], m1);
    constexpr int kXor3 = 0x96;
    c = {{_mm512_ternarylogic_epi64(_mm512_srli_epi64(p1, 32), c.word[1], _mm512_set1_epi64(k0), kXor3), p1,
          _mm512_ternarylogic_epi64(_mm512_srli_epi64(p0, 32), c.word[3], _mm512_set1_epi64(k1), kXor3), p0}};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c;
}

// Two words in one 64-bit lane.
__m512i join(__m512i low, __m512i high) {
  return _mm512_mask_shuffle_epi32(low, 0xaaaa, high, _MM_PERM_CCAA);
}

void keep_bits_avx512(const KeepStream& stream, std::int64_t elements, std::uint8_t* bits) {
  const __m512i threshold = _mm512_set1_epi16(static_cast<short>(stream.threshold));
  // Unpacking pairs of lanes then yields blocks 0 .. 3 and 4 .. 7.
  const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  const std::int64_t bytes = keep_bytes(elements);
  for (std::int64_t block = 0; block < bytes; block += 8) {
    const EightBlocks numbers =
        philox({{_mm512_add_epi64(order, _mm512_set1_epi64(block)), _mm512_set1_epi64(stream.counter[0]),
                 _mm512_set1_epi64(stream.counter[1]), _mm512_set1_epi64(stream.counter[2])}},
               stream.key);
    const __m512i low = join(numbers.word[0], numbers.word[1]), high = join(numbers.word[2], numbers.word[3]);
    const std::uint64_t first = _mm512_cmpge_epu16_mask(_mm512_unpacklo_epi64(low, high), threshold);
    const std::uint64_t second = _mm512_cmpge_epu16_mask(_mm512_unpackhi_epi64(low, high), threshold);
    const std::uint64_t word = first | second << 32;
    __builtin_memcpy(bits + block, &word, sizeof word);
  }
}

template <typename Element>
void gelu_backward(const GeluBackward<Element>& pass) {
  for_vectors(pass.elements, [&](std::int64_t i, __mmask16 lanes) {
    const __m512 slope = gelu_slope(load(pass.before + i, lanes), *pass.table);
    store(pass.out + i, _mm512_mul_ps(load(pass.gradient + i, lanes), slope), lanes);
  });
}

// Four vectors of columns at a time stay in registers over all rows.
template <typename Element>
void add_rows(const Matrix<const Element>& from, const std::int64_t* chosen, float* sums) {
  constexpr int kVectors = 4;
  for (std::int64_t column = 0; column < from.columns; column += kVectors * kLanes) {
    __mmask16 lanes[kVectors];
    __m512 sum[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      const std::int64_t left = from.columns - column - v * kLanes;
      lanes[v] = left > 0 ? lanes_of(left) : __mmask16(0);
      sum[v] = _mm512_maskz_loadu_ps(lanes[v], sums + column + v * kLanes);
    }
    for (std::int64_t row = 0; row < from.rows; ++row) {
      const Element* at = from.data + (chosen ? chosen[row] : row) * from.stride + column;
      for (int v = 0; v < kVectors; ++v) sum[v] = _mm512_add_ps(sum[v], load(at + v * kLanes, lanes[v]));
    }
    for (int v = 0; v < kVectors; ++v) _mm512_mask_storeu_ps(sums + column + v * kLanes, lanes[v], sum[v]);
  }
}

template <typename Element>
void drop(const Element* x, const std::uint8_t* keep, float scale, std::int64_t elements, Element* out) {
  const __m512 scales = _mm512_set1_ps(scale);
  for_vectors(elements, [&](std::int64_t i, __mmask16 lanes) {
    const __mmask16 kept = sixteen_bits(keep, i);
    store(out + i, _mm512_maskz_mul_ps(kept, load(x + i, lanes), scales), lanes);
  });
}

template <typename Element>
void add_norm(const AddNorm<Element>& pass) {
  const __m512 scale = _mm512_set1_ps(pass.keep_scale);
  for (std::int64_t row = 0; row < pass.rows; ++row) {
    const std::int64_t at = row * pass.width;
    __m512 sum = _mm512_setzero_ps();
    for_vectors(pass.width, [&](std::int64_t c, __mmask16 lanes) {
      __m512 x = load(pass.x + at + c, lanes);
      if (pass.keep) x = _mm512_maskz_mul_ps(sixteen_bits(pass.keep, at + c), x, scale);
      if (pass.residual) x = _mm512_add_ps(x, load(pass.residual + at + c, lanes));
      _mm512_mask_storeu_ps(pass.scratch + c, lanes, x);
      sum = _mm512_add_ps(sum, x);
    });
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / static_cast<float>(pass.width));
    __m512 squares = _mm512_setzero_ps();
    for_vectors(pass.width, [&](std::int64_t c, __mmask16 lanes) {
      const __m512 d = _mm512_maskz_sub_ps(lanes, _mm512_maskz_loadu_ps(lanes, pass.scratch + c), mean);
      squares = _mm512_fmadd_ps(d, d, squares);
    });
    const float variance = _mm512_reduce_add_ps(squares) / static_cast<float>(pass.width);
    const float inverse = 1.0f / __builtin_sqrtf(variance + pass.epsilon);
    pass.inverse_deviation[row] = inverse;
    const __m512 inverses = _mm512_set1_ps(inverse);
    for_vectors(pass.width, [&](std::int64_t c, __mmask16 lanes) {
      const __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, pass.scratch + c), mean);
      const __m512 normalized = _mm512_mul_ps(d, inverses);
      store(pass.normalized + at + c, normalized, lanes);
      const __m512 gamma = _mm512_maskz_loadu_ps(lanes, pass.gamma + c);
      store(pass.out + at + c,
            _mm512_fmadd_ps(normalized, gamma, _mm512_maskz_loadu_ps(lanes, pass.beta + c)), lanes);
    });
  }
}

// With g = gradient * gamma and n normalized: (g - mean(g) - n * mean(g * n)) / deviation.
template <typename Element>
void add_norm_backward(const AddNormBackward<Element>& pass) {
  const __m512 scale = _mm512_set1_ps(pass.keep_scale);
  const float width = static_cast<float>(pass.width);
  for (std::int64_t row = 0; row < pass.rows; ++row) {
    const std::int64_t at = row * pass.width;
    __m512 sum = _mm512_setzero_ps(), product = _mm512_setzero_ps();
    for_vectors(pass.width, [&](std::int64_t c, __mmask16 lanes) {
      const __m512 gradient = load(pass.gradient + at + c, lanes), n = load(pass.normalized + at + c, lanes);
      const __m512 g = _mm512_mul_ps(gradient, _mm512_maskz_loadu_ps(lanes, pass.gamma + c));
      sum = _mm512_add_ps(sum, g);
      product = _mm512_fmadd_ps(g, n, product);
      const auto add = [&](float* to, __m512 more) {
        _mm512_mask_storeu_ps(to + c, lanes, _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, to + c), more));
      };
      add(pass.gamma_gradient, _mm512_mul_ps(gradient, n));
      add(pass.beta_gradient, gradient);
    });
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / width);
    const __m512 slope = _mm512_set1_ps(_mm512_reduce_add_ps(product) / width);
    const __m512 inverse = _mm512_set1_ps(pass.inverse_deviation[row]);
    for_vectors(pass.width, [&](std::int64_t c, __mmask16 lanes) {
      const __m512 gradient = load(pass.gradient + at + c, lanes), n = load(pass.normalized + at + c, lanes);
      const __m512 g = _mm512_fmsub_ps(gradient, _mm512_maskz_loadu_ps(lanes, pass.gamma + c), mean);
      const __m512 d = _mm512_mul_ps(_mm512_fnmadd_ps(n, slope, g), inverse);
      store(pass.sum_gradient + at + c, d, lanes);
      if (pass.x_gradient)
        store(pass.x_gradient + at + c, _mm512_maskz_mul_ps(sixteen_bits(pass.keep, at + c), d, scale),
              lanes);
    });
  }
}

template <typename Element>
constexpr TypedTrainingKernels<Element> typed_kernels() {
  return {
      .pack_transposed = pack_transposed_avx512<Element>,
      .pack = pack_avx512<Element>,
      .transpose = transpose_avx512<Element>,
      .multiply = multiply_avx512<Element>,
      .gelu_backward = gelu_backward<Element>,
      .add_rows = add_rows<Element>,
      .drop = drop<Element>,
      .add_norm = add_norm<Element>,
      .add_norm_backward = add_norm_backward<Element>,
      .head_forward = head_forward_avx512<Element>,
      .head_backward = head_backward_avx512<Element>,
  };
}

}  // namespace

const TrainingKernels kAvx512TrainingKernels = {
    .bf16 = typed_kernels<Bf16>(),
    .fp32 = typed_kernels<float>(),
    .keep_bits = keep_bits_avx512,
};

}  // namespace muster::nn::kernels
