// Vectors of the width that the instruction set has, over GCC's and Clang's vector types: what they compile to is the
// compiler's choice, and where it chooses badly an intrinsic stands beside the plain form.
// A is the type that is computed in (float or double), S the one that is stored (A itself, or Narrow for float).
//
// ATen's at::vec::Vectorized was measured beside them: equal in products with AVX-512 and AVX2, a fifth of the speed
// without either, and it multiplies no bfloat16 and has no shifts of a float's bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

// One of these is defined by the build (see instruction_set.py), or none for a plain one.
#ifdef CELLGRAPH_AVX512_BF16
#define CELLGRAPH_AVX512
#include <c10/util/BFloat16.h>
#endif

#if defined(CELLGRAPH_AVX512) || defined(CELLGRAPH_AVX2)
#include <immintrin.h>
#elif defined(CELLGRAPH_NEON)
#include <arm_neon.h>
#endif

namespace cellgraph {

// Vectors in arrays stay in registers only where all is inlined.
#define CELLGRAPH_INLINE inline __attribute__((always_inline))

#if defined(CELLGRAPH_AVX512)
constexpr int vector_bytes = 64, vector_registers = 32;
#elif defined(CELLGRAPH_AVX2)
constexpr int vector_bytes = 32, vector_registers = 16;
#elif defined(CELLGRAPH_NEON)
constexpr int vector_bytes = 16, vector_registers = 32;
#else
constexpr int vector_bytes = 16, vector_registers = 16;
#endif

template <class A>
struct VectorOf {
  typedef A type __attribute__((vector_size(vector_bytes)));
};
template <class A>
using Vector = typename VectorOf<A>::type;
template <class A>
constexpr int lanes = vector_bytes / sizeof(A);

// Zeros that start on a cache line: a vector across two lines costs twice.
template <class T>
class Buffer {
  struct alignas(64) Line {
    char bytes[64];
  };
  std::vector<Line> lines_;

 public:
  explicit Buffer(int64_t size = 0) : lines_((size * sizeof(T) + 63) / 64) {}
  T* data() { return reinterpret_cast<T*>(lines_.data()); }
  const T* data() const { return reinterpret_cast<const T*>(lines_.data()); }
};

template <class A>
CELLGRAPH_INLINE Vector<A> fill(A value) {
  return Vector<A>{} + value;
}

template <class A>
CELLGRAPH_INLINE Vector<A> load(const A* from) {
  Vector<A> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class A>
CELLGRAPH_INLINE void store(A* to, Vector<A> v) {
  std::memcpy(to, &v, sizeof v);
}

typedef uint32_t Words __attribute__((vector_size(vector_bytes)));

// Numbers are stored as bfloat16 only where pairs of them are multiplied and added by one instruction. Elsewhere the
// smaller store gains nothing: the step takes as long or longer than in float, which is also the closer result.
#ifdef CELLGRAPH_AVX512_BF16
using Narrow = c10::BFloat16;

// A bfloat16 is the upper half of a float. GCC makes six instructions of a plain conversion.
template <class A>
CELLGRAPH_INLINE Vector<A> load(const c10::BFloat16* from) {
  static_assert(std::is_same_v<A, float>);
  __m256i bits;
  std::memcpy(&bits, from, sizeof bits);
  return (Vector<float>)_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16);
}

CELLGRAPH_INLINE void store(c10::BFloat16* to, Vector<float> v) {
  __m256bh bits = _mm512_cvtneps_pbh((__m512)v);
  std::memcpy(to, &bits, sizeof bits);
}
#else
using Narrow = float;
#endif

template <class A>
CELLGRAPH_INLINE void add(A* to, Vector<A> v) {
  store(to, load<A>(to) + v);
}

template <class A>
CELLGRAPH_INLINE A total(Vector<A> v) {
#if defined(CELLGRAPH_AVX512)
  if constexpr (std::is_same_v<A, float>)
    return _mm512_reduce_add_ps((__m512)v);
  else
    return _mm512_reduce_add_pd((__m512d)v);
#elif defined(CELLGRAPH_AVX2)
  if constexpr (std::is_same_v<A, float>) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  } else {
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128((__m256d)v), _mm256_extractf128_pd((__m256d)v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
#elif defined(CELLGRAPH_NEON)
  if constexpr (std::is_same_v<A, float>)
    return vaddvq_f32((float32x4_t)v);
  else
    return vaddvq_f64((float64x2_t)v);
#else
  A sum = 0;
  for (int lane = 0; lane < lanes<A>; ++lane) sum += v[lane];
  return sum;
#endif
}

template <bool rough>
CELLGRAPH_INLINE Vector<float> reciprocal(Vector<float> v) {
#if defined(CELLGRAPH_AVX512)
  Vector<float> guess = (Vector<float>)_mm512_rcp14_ps((__m512)v);
  return rough ? guess : guess * (2.0f - v * guess);
#elif defined(CELLGRAPH_AVX2)
  Vector<float> guess = (Vector<float>)_mm256_rcp_ps((__m256)v);  // 12 bits, so the step of Newton is never left out
  return guess * (2.0f - v * guess);
#else
  return 1.0f / v;
#endif
}

CELLGRAPH_INLINE Vector<float> magnitude(Vector<float> v) { return (Vector<float>)((Words)v & 0x7fffffffu); }

CELLGRAPH_INLINE Vector<float> smaller(Vector<float> v, float bound) {
#if defined(CELLGRAPH_AVX512)
  return (Vector<float>)_mm512_min_ps((__m512)v, _mm512_set1_ps(bound));
#elif defined(CELLGRAPH_AVX2)
  return (Vector<float>)_mm256_min_ps((__m256)v, _mm256_set1_ps(bound));
#else
  return v < bound ? v : fill(bound);
#endif
}

// Cumulative distribution and density of the normal law at W vectors y; several at a time hide each other's latencies.
//
// The first is formula 7.1.26 of Abramowitz and Stegun (Handbook of Mathematical Functions, 1964), whose absolute error
// is below 1e-7. The second is exp(-q): -q = n ln 2 + r (ln 2 in two parts, Cody and Waite), and the Taylor polynomial
// of r. `rough` is for results that are rounded to bfloat16: errors below 1e-4 of the value.
template <bool rough, int W>
CELLGRAPH_INLINE void normal(const Vector<float>* y, Vector<float>* cumulative, Vector<float>* density) {
  Vector<float> size[W], t[W], q[W], shifted[W], r[W], p[W], e[W];
#define EACH _Pragma("GCC unroll 8") for (int w = 0; w < W; ++w)
  EACH size[w] = magnitude(y[w]);
  EACH t[w] = 1.0f + size[w] * (0.3275911f * 0.70710678f);
  EACH t[w] = reciprocal<rough>(t[w]);
  EACH q[w] = smaller(y[w] * y[w] * 0.5f, 87.0f);
  EACH shifted[w] = q[w] * -1.44269504f + 12582912.0f;  // 1.5 * 2^23: n is left in the last bits
  EACH r[w] = shifted[w] - 12582912.0f;
  EACH r[w] = (r[w] * -0.693359375f - q[w]) + r[w] * 2.12194440e-4f;
  EACH p[w] = rough ? fill(1.0f / 24) : (r[w] * (1.0f / 720) + 1.0f / 120) * r[w] + 1.0f / 24;
  EACH p[w] = p[w] * r[w] + 1.0f / 6;
  EACH p[w] = p[w] * r[w] + 0.5f;
  EACH p[w] = p[w] * r[w] + 1.0f;
  EACH p[w] = p[w] * r[w] + 1.0f;
  EACH e[w] = (Vector<float>)((Words)p[w] + ((Words)shifted[w] << 23));
  EACH p[w] = t[w] * (0.5f * 1.061405429f) - 0.5f * 1.453152027f;
  EACH p[w] = p[w] * t[w] + 0.5f * 1.421413741f;
  EACH p[w] = p[w] * t[w] - 0.5f * 0.284496736f;
  EACH p[w] = p[w] * t[w] + 0.5f * 0.254829592f;
  EACH p[w] = p[w] * t[w] * e[w];  // the tail beyond |y|
  EACH cumulative[w] = y[w] < 0.0f ? p[w] : 1.0f - p[w];
  EACH density[w] = e[w] * 0.39894228f;
#undef EACH
}

template <bool rough, int W>
CELLGRAPH_INLINE void normal(const Vector<double>* y, Vector<double>* cumulative, Vector<double>* density) {
  for (int w = 0; w < W; ++w)
    for (int lane = 0; lane < lanes<double>; ++lane) {
      double value = y[w][lane];
      cumulative[w][lane] = 0.5 * std::erfc(-value * M_SQRT1_2);
      density[w][lane] = std::exp(-0.5 * value * value) * (0.5 * M_2_SQRTPI * M_SQRT1_2);
    }
}

}  // namespace cellgraph
