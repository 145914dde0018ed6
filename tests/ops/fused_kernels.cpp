// Checks of the fused step's vectors and products on their own; says the width, and each check that failed.

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <type_traits>

#include "product.h"

using namespace cellgraph;

int failures = 0;

void check(bool holds, const char* what, double got = 0, double want = 0) {
  if (holds) return;
  ++failures;
  std::printf("failed: %s, got %.17g, expected %.17g\n", what, got, want);
}

// Whole numbers whose products and sums are exact in every type.
int small() { return std::rand() % 9 - 4; }

template <class A>
void totals() {
  for (int round = 0; round < 100; ++round) {
    A values[lanes<A>], want = 0;
    for (A& value : values) value = small(), want += value;
    A got = total<A>(load<A>(values));
    check(got == want, "total", got, want);
  }
}

template <class A>
void loads_and_stores() {
  A from[2 * lanes<A>], to[2 * lanes<A>] = {};
  for (A& value : from) value = small();
  store(to + 1, load<A>(from + 1));  // not aligned
  add(to + 1, fill(A(3)));
  for (int lane = 0; lane < 2 * lanes<A>; ++lane) {
    bool inside = lane >= 1 && lane <= lanes<A>;
    check(to[lane] == (inside ? from[lane] + 3 : 0), "load, store, add", to[lane], from[lane]);
  }
}

// To the nearest bfloat16, ties to even, for numbers that are neither denormal nor out of range.
float rounded(float value) {
  int exponent;
  float fraction = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(fraction * 256), exponent - 8);
}

void narrow() {
  for (int round = 0; round < 1000; ++round) {
    float values[lanes<float>], back[lanes<float>];
    // Odd multiples of half a step are among them, which are the ties.
    for (float& value : values) value = (std::rand() % 2048 - 1024 + small() / 16.0f) * std::ldexp(1.0f, small());
    Narrow stored[lanes<float>];
    store(stored, load<float>(values));
    store(back, load<float>(stored));
    for (int lane = 0; lane < lanes<float>; ++lane) {
      float want = std::is_same_v<Narrow, float> ? values[lane] : rounded(values[lane]);
      check(back[lane] == want, "narrow", back[lane], want);
    }
  }
}

template <class A, bool rough>
void normals(double tolerance) {
  constexpr int L = lanes<A>, W = 3;
  double extremes[] = {0, -0.0, 40, -40, 1e4, -1e4, 1e-20, 5, -5};
  int count = 0;
  for (double start = -14; start < 14; start += 0.01, ++count) {
    A values[W * L];
    Vector<A> y[W], cumulative[W], density[W];
    for (int i = 0; i < W * L; ++i) values[i] = count % 2 ? start + 0.01 * i / (W * L) : extremes[(i + count) % 9];
    for (int w = 0; w < W; ++w) y[w] = load<A>(values + w * L);
    normal<rough, W>(y, cumulative, density);
    for (int i = 0; i < W * L; ++i) {
      double v = values[i], sum = 0.5 * std::erfc(-v * M_SQRT1_2), at = std::exp(-0.5 * v * v) / std::sqrt(2 * M_PI);
      double got = cumulative[i / L][i % L], slope = density[i / L][i % L];
      check(std::abs(got - sum) <= tolerance, rough ? "rough cumulative" : "cumulative", got, sum);
      check(std::abs(slope - at) <= tolerance, rough ? "rough density" : "density", slope, at);
    }
  }
}

template <bool rough>
void reciprocals(double tolerance) {
  for (double value = 1; value < 40; value *= 1.01) {
    double got = reciprocal<rough>(fill(float(value)))[lanes<float> - 1];
    check(std::abs(got * float(value) - 1) <= tolerance, "reciprocal", got, 1 / value);
  }
}

template <class A, class S>
void products() {
  constexpr int64_t L = lanes<A>;
  for (int64_t count : {1, 2, 3, 4, 5, 6, 7, 9, 13, 24, 25})
    for (int64_t vectors : {1, 2, 3, 4, 5, 7, 8}) {
      int64_t width = vectors * L, depth = 2 * (1 + std::rand() % 20), stride = depth + 2;
      Buffer<A> weight(depth * width), out(count * width), sums(depth * width);
      Buffer<S> rows(count * stride), left(count * depth), right(count * width);
      for (int64_t i = 0; i < depth * width; ++i) weight.data()[i] = small(), sums.data()[i] = 7;
      for (int64_t i = 0; i < count * stride; ++i) rows.data()[i] = S(small());
      for (int64_t i = 0; i < count * depth; ++i) left.data()[i] = S(small());
      for (int64_t i = 0; i < count * width; ++i) right.data()[i] = S(small());
      Matrix<A, S>(weight.data(), depth, width, 1, depth).multiply(rows.data(), stride, count, out.data());
      OuterProducts<A, S>(count, depth, width).add(left.data(), depth, right.data(), width, count, sums.data());
      for (int64_t n = 0; n < width; ++n) {
        for (int64_t r = 0; r < count; ++r) {
          A want = 0;
          for (int64_t k = 0; k < depth; ++k) want += A(rows.data()[r * stride + k]) * weight.data()[k + n * depth];
          check(out.data()[r * width + n] == want, "multiply", out.data()[r * width + n], want);
        }
        for (int64_t m = 0; m < depth; ++m) {
          A want = 7;
          for (int64_t r = 0; r < count; ++r)
            want += A(left.data()[r * depth + m]) * A(right.data()[r * width + n]);
          check(sums.data()[m * width + n] == want, "outer products", sums.data()[m * width + n], want);
        }
      }
    }
}

int main() {
  std::printf("%d bytes, narrow %d\n", vector_bytes, int(sizeof(Narrow)));
  totals<float>(), totals<double>();
  loads_and_stores<float>(), loads_and_stores<double>();
  narrow();
  reciprocals<false>(4e-7), reciprocals<true>(1e-4);
  normals<float, false>(3e-7), normals<float, true>(1e-4), normals<double, false>(1e-15);
  products<float, float>(), products<double, double>(), products<float, Narrow>();
  return failures != 0;
}
