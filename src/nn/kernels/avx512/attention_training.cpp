// SPDX-License-Identifier: Apache-2.0
// Attention of one head over one text with dropped probabilities, and its gradients: the scores are computed
// again in backward (Dao et al., FlashAttention, 2022), eight queries at a time.
#include "nn/kernels/avx512/head_panels.h"
#include "nn/kernels/avx512/product_block.h"
#include "nn/kernels/avx512/training.h"

namespace muster::nn::kernels {
namespace {

// Cuts the caller's scratch memory into pieces on cache lines.
class Pieces {
 public:
  explicit Pieces(void* memory) : next_(static_cast<char*>(memory)) {}
  template <typename Element>
  Element* take(std::int64_t elements) {
    auto* piece = reinterpret_cast<Element*>(next_);
    next_ += whole(elements * std::int64_t{sizeof(Element)}, 64);
    return piece;
  }

 private:
  char* next_;
};

// Calls `work(VectorCount<n>, first key)` for panels of 48 keys and the rest in whole vectors.
template <int Vectors>
struct VectorCount {};

template <typename Work>
inline void for_key_panels(std::int64_t length, const Work& work) {
  std::int64_t key = 0;
  for (; key + 2 * kLanes < length; key += kKeyPanel) work(VectorCount<3>(), key);
  if (length - key > kLanes)
    work(VectorCount<2>(), key);
  else if (length > key)
    work(VectorCount<1>(), key);
}

template <typename Element>
inline Matrix<const Element> rows_of(const HeadTraining<Element>& head, const Element* data) {
  return {data, head.stride, head.length, head.width};
}

template <typename Element>
inline __m512 scaled_score(const HeadTraining<Element>& head, __m512 product, std::int64_t query,
                           std::int64_t key, __mmask16 lanes) {
  const __m512 score = _mm512_mul_ps(product, _mm512_set1_ps(head.scale * kLog2E));
  if (!head.distance_bias) return score;
  return _mm512_fmadd_ps(_mm512_maskz_loadu_ps(lanes, head.distance_bias + key - query),
                         _mm512_set1_ps(kLog2E), score);
}

template <typename Element>
inline __mmask16 kept(const HeadTraining<Element>& head, std::int64_t query, std::int64_t key) {
  if (!head.keep) return __mmask16(0xffff);
  return sixteen_bits(head.keep, head.first_bit + query * head.length + key);
}

template <typename Element>
struct Forward {
  const HeadTraining<Element>& head;
  const HeadForward<Element>& to;
  const Element* keys;
  const Element* values;
  float* scores;  // [kQueryBlock][stride]
  Element* weights;
  std::int64_t stride;

  template <int Rows>
  void compute_scores(std::int64_t query, float (&highest)[Rows]) const {
    __m512 top[Rows];
    for (int r = 0; r < Rows; ++r) top[r] = _mm512_set1_ps(-__builtin_inff());
    for_key_panels(head.length, [&]<int Vectors>(VectorCount<Vectors>, std::int64_t key) {
      __m512 sum[Rows][Vectors];
      multiply_block(head.query + query * head.stride, head.stride, keys + key * head.width, head.width, sum);
      for (int v = 0; v < Vectors; ++v) {
        const std::int64_t first = key + v * kLanes;
        const __mmask16 lanes = lanes_of(head.length - first);
        for (int r = 0; r < Rows; ++r) {
          const __m512 score = scaled_score(head, sum[r][v], query + r, first, lanes);
          top[r] = _mm512_mask_max_ps(top[r], lanes, top[r], score);
          _mm512_storeu_ps(scores + r * stride + first, score);
        }
      }
    });
    for (int r = 0; r < Rows; ++r) highest[r] = _mm512_reduce_max_ps(top[r]);
  }

  // Kept 2^(score - highest); returns the sum of all.
  float weigh(std::int64_t query, int r, float highest) const {
    const __m512 top = _mm512_set1_ps(highest);
    __m512 sum = _mm512_setzero_ps();
    for (std::int64_t key = 0; key < head.length; key += kLanes) {
      const __mmask16 lanes = lanes_of(head.length - key);
      const __m512 score = _mm512_loadu_ps(scores + r * stride + key);
      const __m512 weight = _mm512_maskz_mov_ps(lanes, exp2_of(_mm512_sub_ps(score, top)));
      sum = _mm512_add_ps(sum, weight);
      store(weights + r * stride + key, _mm512_maskz_mov_ps(kept(head, query, key), weight));
    }
    return _mm512_reduce_add_ps(sum);
  }

  template <int Rows>
  void run(std::int64_t query) const {
    float highest[Rows], inverse[Rows];
    compute_scores(query, highest);
    for (int r = 0; r < Rows; ++r) {
      const float sum = weigh(query + r, r, highest[r]);
      inverse[r] = head.keep_scale / sum;
      to.log_sum[query + r] = highest[r] + __builtin_log2f(sum);
    }
    const std::int64_t depth = whole(head.length, kDepthGroup<Element>);
    for (std::int64_t column = 0; column < head.width; column += kValuePanel) {
      __m512 sum[Rows][kValueVectors];
      multiply_block(weights, stride, values + column * depth, depth, sum);
      for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < kValueVectors; ++v)
          store(to.out + (query + r) * to.stride + column + v * kLanes,
                _mm512_mul_ps(sum[r][v], _mm512_set1_ps(inverse[r])));
    }
  }
};

// x [8 queries][16 keys] -> out [keys][8].
inline void store_across(const __m512 (&x)[kQueryBlock], Bf16* out, std::int64_t stride, std::int64_t keys) {
  __m512i pair[4];
  for (int i = 0; i < 4; ++i) {
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x[2 * i]));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x[2 * i + 1]));
    pair[i] = _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
  }
  const __m512i a = _mm512_unpacklo_epi32(pair[0], pair[1]), b = _mm512_unpackhi_epi32(pair[0], pair[1]);
  const __m512i c = _mm512_unpacklo_epi32(pair[2], pair[3]), d = _mm512_unpackhi_epi32(pair[2], pair[3]);
  alignas(64) __m128i key[4][4];  // lane l of [i]: key 4l + i
  _mm512_store_si512(key[0], _mm512_unpacklo_epi64(a, c));
  _mm512_store_si512(key[1], _mm512_unpackhi_epi64(a, c));
  _mm512_store_si512(key[2], _mm512_unpacklo_epi64(b, d));
  _mm512_store_si512(key[3], _mm512_unpackhi_epi64(b, d));
  for (std::int64_t k = 0; k < keys; ++k)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + k * stride), key[k % 4][k / 4]);
}

inline void store_across(const __m512 (&x)[kQueryBlock], float* out, std::int64_t stride, std::int64_t keys) {
  __m512i words[16];
  for (int i = 0; i < 16; ++i)
    words[i] = i < kQueryBlock ? _mm512_castps_si512(x[i]) : _mm512_setzero_si512();
  transpose(words);
  for (std::int64_t k = 0; k < kLanes; ++k)
    if (k < keys)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + k * stride), _mm512_castsi512_si256(words[k]));
}

template <typename Element>
struct Backward {
  const HeadTraining<Element>& head;
  const HeadBackward<Element>& to;
  std::int64_t queries;            // the length up to whole blocks; what is behind the last is zero
  Element *query_rows, *out_rows;  // [queries][width], of the inputs and of the output's gradient
  Element *query_panels, *out_panels, *key_panels;
  Element *keys_across, *values_across;
  float *weights, *gradients;  // [kQueryBlock][stride]
  Element* score_gradients;    // likewise
  std::int64_t stride;
  Element *weights_across, *scores_across;  // [length][queries]

  void copy_rows(const Element* from, std::int64_t from_stride, Element* rows) const {
    constexpr std::int64_t kWords = kLanes * kDepthGroup<Element>;
    for (std::int64_t row = 0; row < queries; ++row)
      for (std::int64_t column = 0; column < head.width; column += kWords)
        _mm512_storeu_si512(rows + row * head.width + column,
                            row < head.length ? _mm512_loadu_si512(from + row * from_stride + column)
                                              : _mm512_setzero_si512());
  }

  void prepare() const {
    copy_rows(head.query, head.stride, query_rows);
    copy_rows(to.gradient, to.gradient_stride, out_rows);
    pack_transposed<kKeyPanel, Element>(rows_of(head, head.key), {keys_across, head.width, head.length});
    pack_transposed<kKeyPanel, Element>(rows_of(head, head.value), {values_across, head.width, head.length});
    pack<kValuePanel, Element>(rows_of(head, head.key),
                               {key_panels, whole(head.length, kDepthGroup<Element>), head.width}, 0);
    pack<kValuePanel, Element>({query_rows, head.width, queries, head.width},
                               {query_panels, queries, head.width}, 0);
    pack<kValuePanel, Element>({out_rows, head.width, queries, head.width}, {out_panels, queries, head.width},
                               0);
  }

  // A row behind the last takes the last one's mask and bias; its weights are zero.
  std::int64_t row_of(std::int64_t query) const { return query < head.length ? query : head.length - 1; }

  // Weights, and gradients of the weights before they were dropped; `mean` is their product's sum over keys.
  void weights_and_gradients(std::int64_t query, float (&mean)[kQueryBlock]) const {
    constexpr int kRows = kQueryBlock;
    __m512 log_sum[kRows], product[kRows];
    for (int r = 0; r < kRows; ++r) {
      constexpr float kNothing = 1e30f;
      log_sum[r] = _mm512_set1_ps(query + r < head.length ? to.log_sum[query + r] : kNothing);
      product[r] = _mm512_setzero_ps();
    }
    for_key_panels(head.length, [&]<int Vectors>(VectorCount<Vectors>, std::int64_t key) {
      __m512 sum[kRows][Vectors];
      multiply_block(query_rows + query * head.width, head.width, keys_across + key * head.width, head.width,
                     sum);
      for (int v = 0; v < Vectors; ++v) {
        const std::int64_t first = key + v * kLanes;
        const __mmask16 lanes = lanes_of(head.length - first);
        for (int r = 0; r < kRows; ++r) {
          const __m512 score = scaled_score(head, sum[r][v], row_of(query + r), first, lanes);
          _mm512_storeu_ps(weights + r * stride + first,
                           _mm512_maskz_mov_ps(lanes, exp2_of(_mm512_sub_ps(score, log_sum[r]))));
        }
      }
      multiply_block(out_rows + query * head.width, head.width, values_across + key * head.width, head.width,
                     sum);
      const __m512 keep_scale = _mm512_set1_ps(head.keep_scale);
      for (int v = 0; v < Vectors; ++v) {
        const std::int64_t first = key + v * kLanes;
        for (int r = 0; r < kRows; ++r) {
          const __m512 gradient =
              _mm512_maskz_mul_ps(kept(head, row_of(query + r), first), sum[r][v], keep_scale);
          product[r] = _mm512_fmadd_ps(_mm512_loadu_ps(weights + r * stride + first), gradient, product[r]);
          _mm512_storeu_ps(gradients + r * stride + first, gradient);
        }
      }
    });
    for (int r = 0; r < kRows; ++r) mean[r] = _mm512_reduce_add_ps(product[r]);
  }

  // Through the softmax: weight * (gradient - mean).
  void score_gradients_of(std::int64_t query, const float (&mean)[kQueryBlock]) const {
    const __m512 keep_scale = _mm512_set1_ps(head.keep_scale);
    for (std::int64_t key = 0; key < head.length; key += kLanes) {
      const __mmask16 lanes = lanes_of(head.length - key);
      __m512 dropped[kQueryBlock], score[kQueryBlock];
      for (int r = 0; r < kQueryBlock; ++r) {
        const __m512 weight = _mm512_loadu_ps(weights + r * stride + key);
        const __m512 gradient = _mm512_loadu_ps(gradients + r * stride + key);
        dropped[r] = _mm512_maskz_mul_ps(kept(head, row_of(query + r), key), weight, keep_scale);
        score[r] = _mm512_mul_ps(weight, _mm512_sub_ps(gradient, _mm512_set1_ps(mean[r])));
        store(score_gradients + r * stride + key, score[r]);
        if (!to.distance_bias || query + r >= head.length) continue;
        float* bias = to.distance_bias + key - (query + r);
        _mm512_mask_storeu_ps(bias, lanes, _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, bias), score[r]));
      }
      const std::int64_t place = key * queries + query, left = head.length - key;
      store_across(dropped, weights_across + place, queries, left < kLanes ? left : kLanes);
      store_across(score, scores_across + place, queries, left < kLanes ? left : kLanes);
    }
  }

  void query_gradients(std::int64_t query) const {
    const std::int64_t depth = whole(head.length, kDepthGroup<Element>);
    for (std::int64_t column = 0; column < head.width; column += kValuePanel) {
      __m512 sum[kQueryBlock][kValueVectors];
      multiply_block(score_gradients, stride, key_panels + column * depth, depth, sum);
      for (std::int64_t r = 0; r < kQueryBlock && query + r < head.length; ++r)
        for (int v = 0; v < kValueVectors; ++v)
          store(to.query + (query + r) * to.stride + column + v * kLanes,
                _mm512_mul_ps(sum[r][v], _mm512_set1_ps(head.scale)));
    }
  }

  // Rows of keys: across [length][queries] x panels [queries][width] * scale.
  void key_side(const Element* across, const Element* panels, float scale, Element* out) const {
    for (std::int64_t column = 0; column < head.width; column += kValuePanel)
      for_row_blocks(head.length, [&]<int Rows>(RowCount<Rows>, std::int64_t key) {
        __m512 sum[Rows][kValueVectors];
        multiply_block(across + key * queries, queries, panels + column * queries, queries, sum);
        for (int r = 0; r < Rows; ++r)
          for (int v = 0; v < kValueVectors; ++v)
            store(out + (key + r) * to.stride + column + v * kLanes,
                  _mm512_mul_ps(sum[r][v], _mm512_set1_ps(scale)));
      });
  }

  void run() const {
    prepare();
    for (std::int64_t query = 0; query < head.length; query += kQueryBlock) {
      float mean[kQueryBlock];
      weights_and_gradients(query, mean);
      score_gradients_of(query, mean);
      query_gradients(query);
    }
    key_side(weights_across, out_panels, 1.0f, to.value);
    key_side(scores_across, query_panels, head.scale, to.key);
  }
};

}  // namespace

template <typename Element>
void head_forward_avx512(const HeadTraining<Element>& head, const HeadForward<Element>& to, void* scratch) {
  const std::int64_t vectors = whole(head.length, kLanes);
  Pieces pieces(scratch);
  auto* keys = pieces.take<Element>(vectors * head.width);
  auto* values = pieces.take<Element>(whole(head.length, kDepthGroup<Element>) * head.width);
  auto* scores = pieces.take<float>(kQueryBlock * vectors);
  auto* weights = pieces.take<Element>(kQueryBlock * vectors);
  pack_transposed<kKeyPanel, Element>(rows_of(head, head.key), {keys, head.width, head.length});
  pack<kValuePanel, Element>(rows_of(head, head.value),
                             {values, whole(head.length, kDepthGroup<Element>), head.width}, 0);
  const Forward<Element> forward{head, to, keys, values, scores, weights, vectors};
  for_row_blocks(head.length,
                 [&]<int Rows>(RowCount<Rows>, std::int64_t query) { forward.template run<Rows>(query); });
}

template <typename Element>
void head_backward_avx512(const HeadTraining<Element>& head, const HeadBackward<Element>& to, void* scratch) {
  const std::int64_t length = head.length, width = head.width;
  const std::int64_t queries = whole(length, kQueryBlock), vectors = whole(length, kLanes);
  Pieces pieces(scratch);
  Backward<Element>{
      .head = head,
      .to = to,
      .queries = queries,
      .query_rows = pieces.take<Element>(queries * width),
      .out_rows = pieces.take<Element>(queries * width),
      .query_panels = pieces.take<Element>(queries * width),
      .out_panels = pieces.take<Element>(queries * width),
      .key_panels = pieces.take<Element>(whole(length, kDepthGroup<Element>) * width),
      .keys_across = pieces.take<Element>(vectors * width),
      .values_across = pieces.take<Element>(vectors * width),
      .weights = pieces.take<float>(kQueryBlock * vectors),
      .gradients = pieces.take<float>(kQueryBlock * vectors),
      .score_gradients = pieces.take<Element>(kQueryBlock * vectors),
      .stride = vectors,
      .weights_across = pieces.take<Element>(length * queries),
      .scores_across = pieces.take<Element>(length * queries),
  }
      .run();
}

template void head_forward_avx512<Bf16>(const HeadTraining<Bf16>&, const HeadForward<Bf16>&, void*);
template void head_forward_avx512<float>(const HeadTraining<float>&, const HeadForward<float>&, void*);
template void head_backward_avx512<Bf16>(const HeadTraining<Bf16>&, const HeadBackward<Bf16>&, void*);
template void head_backward_avx512<float>(const HeadTraining<float>&, const HeadBackward<float>&, void*);

}  // namespace muster::nn::kernels
