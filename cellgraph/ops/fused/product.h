// The product of a few rows with a small matrix that stays in the cache.
#pragma once

#include <algorithm>

#include "vector.h"

namespace cellgraph {

// Pairs of bfloat16 are multiplied and added by one instruction where the processor has it.
template <class A, class S>
#ifdef __AVX512BF16__
constexpr bool pairwise = std::is_same_v<S, c10::BFloat16>;
#else
constexpr bool pairwise = false;
#endif

// A matrix [depth, width], packed in blocks of `block` columns; width must be a multiple of the lanes, depth be even.
template <class A, class S>
class Matrix {
 public:
  static constexpr int L = lanes<A>, most = 4, block = most * L, together = 6;

  // The matrix whose value at [k, n] is weight[k * k_stride + n * n_stride].
  Matrix(const A* weight, int64_t depth, int64_t width, int64_t k_stride, int64_t n_stride)
      : depth_(depth), width_(width), packed_(depth * width) {
    constexpr int pair = pairwise<A, S> ? 2 : 1;
    Packed* to = packed_.data();
    for (int64_t n = 0; n < width; n += block)
      for (int64_t k = 0; k < depth; k += pair)
        for (int64_t column = n; column < std::min(n + block, width); ++column)
          for (int64_t half = k; half < k + pair; ++half)
            *to++ = Packed(float_or_same(S(weight[half * k_stride + column * n_stride])));
  }

  // out[r, :] = rows[r, :] @ matrix
  void multiply(const S* rows, int64_t stride, int64_t count, A* out) const {
    for (int64_t n = 0; n < width_; n += block) {
      const Packed* from = packed_.data() + n * depth_;
      switch (std::min<int64_t>(most, (width_ - n) / L)) {
        case 4:
          columns<4>(rows, stride, count, from, out + n);
          break;
        case 3:
          columns<3>(rows, stride, count, from, out + n);
          break;
        case 2:
          columns<2>(rows, stride, count, from, out + n);
          break;
        default:
          columns<1>(rows, stride, count, from, out + n);
      }
    }
  }

 private:
  using Packed = std::conditional_t<pairwise<A, S>, S, A>;

  static A float_or_same(S value) { return static_cast<A>(value); }

  template <int W>
  void columns(const S* rows, int64_t stride, int64_t count, const Packed* from, A* out) const {
    int64_t r = 0;
    for (; r + together <= count; r += together) tile<together, W>(rows + r * stride, stride, from, out + r * width_);
    for (; r < count; ++r) tile<1, W>(rows + r * stride, stride, from, out + r * width_);
  }

  template <int R, int W>
  void tile(const S* rows, int64_t stride, const Packed* from, A* out) const {
    Vector<A> sum[R][W] = {};  // stays in registers as long as all loops over it are unrolled
    if constexpr (pairwise<A, S>) {
#ifdef __AVX512BF16__
      for (int64_t k = 0; k < depth_; k += 2, from += 2 * W * L) {
        __m512bh right[W];
        for (int w = 0; w < W; ++w) right[w] = (__m512bh)_mm512_loadu_si512(from + 2 * w * L);
        for (int r = 0; r < R; ++r) {
          int pair;
          std::memcpy(&pair, rows + r * stride + k, sizeof pair);
          __m512bh left = (__m512bh)_mm512_set1_epi32(pair);
          for (int w = 0; w < W; ++w) sum[r][w] = (Vector<A>)_mm512_dpbf16_ps((__m512)sum[r][w], left, right[w]);
        }
      }
#endif
    } else {
      for (int64_t k = 0; k < depth_; ++k, from += W * L) {
        Vector<A> right[W];
        for (int w = 0; w < W; ++w) right[w] = load<A>(from + w * L);
        for (int r = 0; r < R; ++r) {
          A left = static_cast<A>(rows[r * stride + k]);
          for (int w = 0; w < W; ++w) sum[r][w] += left * right[w];
        }
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int w = 0; w < W; ++w) store(out + r * width_ + w * L, sum[r][w]);
  }

  int64_t depth_, width_;
  Buffer<Packed> packed_;
};

}  // namespace cellgraph
