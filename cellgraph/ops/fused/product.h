// The product of a few rows with a small matrix that stays in the cache.
#pragma once

#include <algorithm>
#include <cstdint>

#include "vector.h"

namespace cellgraph {

// Values that stand side by side in a packed matrix: pairs of bfloat16 are multiplied and added by one instruction.
template <class S>
constexpr int pair = sizeof(S) == 2 ? 2 : 1;

// A product is made of tiles of a few rows by a few vectors, as many as leave registers for a row of the one factor and
// a value of the other; with 32 registers 24 sums, with 16 registers 12, which is still enough to hide the latency.
constexpr int tile_rows = 6, tile_vectors = vector_registers == 32 ? 4 : 2;

// Calls `use` with the number of vectors of each block of columns as a constant, and the block's first column.
template <int L, class F>
CELLGRAPH_INLINE void each_block(int64_t width, const F& use) {
  constexpr int64_t block = tile_vectors * L;
  int64_t n = 0;
  for (; n + block <= width; n += block) use(std::integral_constant<int, tile_vectors>(), n);
  int64_t rest = (width - n) / L;
  if constexpr (tile_vectors == 4)
    if (rest == 3) return use(std::integral_constant<int, 3>(), n);
  if constexpr (tile_vectors == 4)
    if (rest == 2) return use(std::integral_constant<int, 2>(), n);
  if (rest) use(std::integral_constant<int, 1>(), n);
}

// The same for rows: six at a time, then three, two or one.
template <class F>
CELLGRAPH_INLINE void each_rows(int64_t count, const F& use) {
  int64_t r = 0;
  for (; r + tile_rows <= count; r += tile_rows) use(std::integral_constant<int, tile_rows>(), r);
  for (; r + 3 <= count; r += 3) use(std::integral_constant<int, 3>(), r);
  if (r + 2 == count) return use(std::integral_constant<int, 2>(), r);
  if (r < count) use(std::integral_constant<int, 1>(), r);
}

// The sums of a tile; they stay in registers as long as all loops over them are unrolled.
template <class A, int R, int W>
using Sums = Vector<A>[R][W];
#define EACH_SUM _Pragma("GCC unroll 6") for (int r = 0; r < R; ++r) _Pragma("GCC unroll 4") for (int w = 0; w < W; ++w)

// sum[r, :] += left[r * stride] * right[:]; of bfloat16 two products at once, of neighbours in `left` and in `right`.
template <class A, int R, int W, class S>
CELLGRAPH_INLINE void add_outer(Sums<A, R, W>& sum, const S* left, int64_t stride, const S* right) {
  constexpr int L = lanes<A>;
  if constexpr (pair<S> == 2) {
#ifdef CELLGRAPH_AVX512_BF16
    __m512bh row[W];
    for (int w = 0; w < W; ++w) row[w] = (__m512bh)_mm512_loadu_si512(right + 2 * w * L);
    for (int r = 0; r < R; ++r) {
      int bits;
      std::memcpy(&bits, left + r * stride, sizeof bits);
      __m512bh value = (__m512bh)_mm512_set1_epi32(bits);
      for (int w = 0; w < W; ++w) sum[r][w] = (Vector<A>)_mm512_dpbf16_ps((__m512)sum[r][w], value, row[w]);
    }
#endif
  } else {
    Vector<A> row[W];
    for (int w = 0; w < W; ++w) row[w] = load<A>(right + w * L);
    for (int r = 0; r < R; ++r) {
      A value = left[r * stride];
      for (int w = 0; w < W; ++w) sum[r][w] += value * row[w];
    }
  }
}

// A matrix [depth, width], packed in blocks of columns; width must be a multiple of the lanes, depth be even.
template <class A, class S>
class Matrix {
 public:
  static constexpr int L = lanes<A>;

  // The matrix whose value at [k, n] is weight[k * k_stride + n * n_stride].
  Matrix(const A* weight, int64_t depth, int64_t width, int64_t k_stride, int64_t n_stride)
      : depth_(depth), width_(width), packed_(depth * width) {
    constexpr int64_t block = tile_vectors * L;
    S* to = packed_.data();
    for (int64_t n = 0; n < width; n += block)
      for (int64_t k = 0; k < depth; k += pair<S>)
        for (int64_t column = n; column < std::min(n + block, width); ++column)
          for (int64_t half = k; half < k + pair<S>; ++half) *to++ = S(weight[half * k_stride + column * n_stride]);
  }

  // out[r, :] = rows[r, :] @ matrix
  void multiply(const S* rows, int64_t stride, int64_t count, A* out) const {
    each_block<L>(width_, [&](auto vectors, int64_t n) {
      each_rows(count, [&](auto some, int64_t r) {
        tile<some, vectors>(rows + r * stride, stride, packed_.data() + n * depth_, out + r * width_ + n);
      });
    });
  }

 private:
  template <int R, int W>
  void tile(const S* rows, int64_t stride, const S* from, A* out) const {
    Sums<A, R, W> sum = {};
    for (int64_t k = 0; k < depth_; k += pair<S>, from += pair<S> * W * L)
      add_outer<A, R, W>(sum, rows + k, stride, from);
    EACH_SUM store(out + r * width_ + w * L, sum[r][w]);
  }

  int64_t depth_, width_;
  Buffer<S> packed_;
};

// A sum over rows of outer products, which is what the gradient of a weight is.
template <class A, class S>
class OuterProducts {
 public:
  // Room for as many rows at a time as `most`, of left[m] and right[n].
  OuterProducts(int64_t most, int64_t m, int64_t n) {
    if constexpr (pair<S> == 2) left_ = Buffer<S>((most + 1) * m), right_ = Buffer<S>((most + 1) * n);
  }

  // to[m, n] += sum over the rows of left[row, m] * right[row, n]; n must be a multiple of the lanes. Rows of `left` are
  // so many values apart, m by default.
  void add(const S* left, int64_t m, const S* right, int64_t n, int64_t count, A* to, int64_t left_stride = 0) {
    if (!left_stride) left_stride = m;
    int64_t right_stride = n;
    if constexpr (pair<S> == 2) {
      left = interleaved(left, m, left_stride, count, left_);
      right = interleaved(right, n, right_stride, count, right_);
      count = (count + 1) / 2, left_stride = 2 * m, right_stride = 2 * n;
    }
    each_block<lanes<A>>(n, [=](auto vectors, int64_t column) {
      each_rows(m, [=](auto some, int64_t row) {
        tile<some, vectors>(left + pair<S> * row, left_stride, right + pair<S> * column, right_stride, count,
                            to + row * n + column, n);
      });
    });
  }

 private:
  // The sums start at zero: loading them first makes GCC spill.
  template <int R, int W>
  static void tile(const S* left, int64_t left_stride, const S* right, int64_t right_stride, int64_t count, A* to,
                   int64_t to_stride) {
    constexpr int L = lanes<A>;
    Sums<A, R, W> sum = {};
    for (int64_t k = 0; k < count; ++k, left += left_stride, right += right_stride)
      add_outer<A, R, W>(sum, left, pair<S>, right);
    EACH_SUM cellgraph::add(to + r * to_stride + w * L, sum[r][w]);
  }

  // Two rows at a time, value by value in turn; a last row without another has zeros beside it.
  static const S* interleaved(const S* rows, int64_t width, int64_t stride, int64_t count, Buffer<S>& room) {
    uint32_t* to = reinterpret_cast<uint32_t*>(room.data());
    for (int64_t k = 0; k < count; k += 2, rows += 2 * stride)
      for (int64_t i = 0; i < width; ++i)
        *to++ = rows[i].x | (k + 1 < count ? uint32_t(rows[stride + i].x) << 16 : 0u);
    return room.data();
  }

  Buffer<S> left_, right_;
};

#undef EACH_SUM

}  // namespace cellgraph
