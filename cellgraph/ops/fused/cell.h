// The gMLP cell with shared weights: one step of the cells of one sample, forward and backward.
//
// Cells are taken a few at a time through norm, product and activation while they are in the cache. Backward is handed
// the step's input alone and computes the activations again.
#pragma once

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <array>
#include <functional>

#include "product.h"
#include "vector.h"

namespace cellgraph {

using at::Tensor;
using at::TensorList;
using Index = int64_t;

constexpr Index tile = 24;        // cells taken together
constexpr double epsilon = 1e-5;  // of the norms

// The neighbours as tables [directions, nodes]: the cells at i + o_k and at i - o_k, -1 where there is none.
struct Neighbours {
  Index nodes, directions;
  const int32_t *from, *to;
  Index reach;  // the greatest distance of two neighbours in the order of the nodes
};

// The parameters, in the order in which they are handed over.
enum {
  position,
  norm_weight,
  norm_bias,
  in_weight,
  in_bias,
  gate_norm_weight,
  gate_norm_bias,
  gate_weight,
  gate_bias,
  out_weight,
  out_bias,
  transport,
  num_parameters
};

// What is written down about all the cells of a sample during a step.
template <class A, class S>
struct Record {
  Buffer<S> u;      // in backward the gradient of the gate takes its place
  Buffer<S> v, hat;
  Buffer<S> slope;  // of the activation; the gradient of W_in h takes its place
  Buffer<A> rstd, spare, again;  // `spare`: one state; `again`: those of the steps that backward runs again

  Record(Index nodes, Index channels, Index hidden, Index every, bool backward)
      : u(nodes * hidden), v(nodes * hidden), spare(nodes * channels) {
    if (!backward) return;
    hat = Buffer<S>(nodes * hidden), slope = Buffer<S>(nodes * 2 * hidden), rstd = Buffer<A>(nodes);
    again = Buffer<A>((every - 1) * nodes * channels);
  }
};

// What belongs to a worker: room for a tile of cells, and the gradients of the parameters it has seen.
template <class A, class S>
struct Worker {
  Buffer<S> rows, gated;
  Buffer<A> products;
  OuterProducts<A, S> in, out;
  std::array<Buffer<A>, num_parameters> grads;

  Worker(Index channels, Index hidden, TensorList t, bool backward)
      : rows(tile * std::max(channels, hidden)),
        gated(tile * hidden),
        products(tile * std::max(channels, 2 * hidden)),
        in(tile, 2 * hidden, channels),
        out(tile, channels, hidden) {
    for (int i = 0; backward && i < num_parameters; ++i) grads[i] = Buffer<A>(t[i].numel());
  }
};

// NC, NH: channels and hidden channels in vectors where they are known when this is compiled, else 0.
template <class A, class S, int NC, int NH>
class Cell {
  static constexpr int L = lanes<A>, most_c = NC ? NC : 2048 / vector_bytes, most_h = NH ? NH : 4096 / vector_bytes;
  using V = Vector<A>;
  using Book = Record<A, S>;
  using Hand = Worker<A, S>;
  using Stage = std::function<void(Index, Index, Hand&)>;

 public:
  Cell(const Neighbours& neighbours, TensorList t, double share)
      : n(neighbours),
        channels(t[position].size(1)),
        hidden(t[gate_bias].numel()),
        share(share),
        w_in(t[in_weight].const_data_ptr<A>(), channels, 2 * hidden, 1, channels),
        w_out(t[out_weight].const_data_ptr<A>(), hidden, channels, 1, hidden),
        w_in_back(t[in_weight].const_data_ptr<A>(), 2 * hidden, channels, channels, 1),
        w_out_back(t[out_weight].const_data_ptr<A>(), channels, hidden, hidden, 1) {
    for (int i = 0; i < num_parameters; ++i) p[i] = t[i].const_data_ptr<A>();
  }

  Book record(Index every, bool backward) const { return Book(n.nodes, channels, hidden, every, backward); }

  std::vector<Hand> workers(TensorList t, bool backward) const {
    std::vector<Hand> hands;
    for (int i = 0; i < at::get_num_threads(); ++i) hands.emplace_back(channels, hidden, t, backward);
    return hands;
  }

  // x' = x + m (t + W_out (u * s) + b)
  void forward(const A* x, const A* mask, A* next, Book& k, std::vector<Hand>& hands) const {
    run({[&](Index begin, Index end, Hand& hand) { activate<false>(begin, end, x, k, hand); },
         [&](Index begin, Index end, Hand& hand) { update(begin, end, x, mask, next, k, hand); }},
        hands);
  }

  // The gradient of a step's input from that of its output.
  void backward(const A* x, const A* mask, const A* grad, A* grad_x, Book& k, std::vector<Hand>& hands) const {
    run({[&](Index begin, Index end, Hand& hand) { activate<true>(begin, end, x, k, hand); },
         [&](Index begin, Index end, Hand& hand) { gate_backward(begin, end, mask, grad, k, hand); },
         [&](Index begin, Index end, Hand& hand) { input_backward(begin, end, x, mask, grad, grad_x, k, hand); }},
        hands);
  }

 private:
  Neighbours n;
  Index channels, hidden;
  A share;  // of the update that a cell takes where there is no mask
  Matrix<A, S> w_in, w_out, w_in_back, w_out_back;
  std::array<const A*, num_parameters> p;

  int nc() const { return NC ? NC : channels / L; }
  int nh() const { return NH ? NH : hidden / L; }

  // A worker with a sample of its own runs each stage as far as the next one's neighbours need it, so that what one
  // stage wrote is still in the cache for the next; several workers on one sample take stage after stage.
  void run(const std::vector<Stage>& stages, std::vector<Hand>& hands) const {
    if (!at::in_parallel_region() && at::get_num_threads() > 1) {
      for (const Stage& stage : stages)
        at::parallel_for(0, (n.nodes + tile - 1) / tile, 4, [&](Index first, Index last) {
          for (Index i = first; i < last; ++i)
            stage(i * tile, std::min((i + 1) * tile, n.nodes), hands[at::get_thread_num()]);
        });
      return;
    }
    Hand& hand = hands[at::get_thread_num()];
    std::vector<Index> done(stages.size());
    std::function<void(int, Index)> advance = [&](int stage, Index until) {
      while (done[stage] < until) {
        Index end = std::min(done[stage] + tile, n.nodes);
        if (stage) advance(stage - 1, std::min(end + n.reach, n.nodes));
        stages[stage](done[stage], end, hand);
        done[stage] = end;
      }
    };
    advance(stages.size() - 1, n.nodes);
  }

  // h = Norm(x + p);  u, v = split(GELU(W_in h + b));  v = Norm(v)
  template <bool backward>
  void activate(Index begin, Index end, const A* x, Book& k, Hand& hand) const {
    S* h = hand.rows.data();
    for (Index i = begin; i < end; ++i) {
      V row[most_c];
      for (int c = 0; c < nc(); ++c)
        row[c] = load<A>(x + i * channels + c * L) + load<A>(p[position] + i * channels + c * L);
      normalise<NC>(row, nc());
      for (int c = 0; c < nc(); ++c)
        store(h + (i - begin) * channels + c * L,
              row[c] * load<A>(p[norm_weight] + c * L) + load<A>(p[norm_bias] + c * L));
    }
    w_in.multiply(h, channels, end - begin, hand.products.data());
    for (Index i = begin; i < end; ++i) {
      const A* y = hand.products.data() + (i - begin) * 2 * hidden;
      V row[most_h];
      for (int half = 0; half < 2; ++half) {
        for (int c = 0; c < nh();)
          c += nh() - c < 4 ? gelu<1, backward>(i, half, c, y, row, k) : gelu<4, backward>(i, half, c, y, row, k);
        if (half == 0)
          for (int c = 0; c < nh(); ++c) store(k.u.data() + i * hidden + c * L, row[c]);
      }
      A rstd = normalise<NH>(row, nh());
      if constexpr (backward) k.rstd.data()[i] = rstd;
      for (int c = 0; c < nh(); ++c) {
        if constexpr (backward) store(k.hat.data() + i * hidden + c * L, row[c]);
        store(k.v.data() + i * hidden + c * L,
              row[c] * load<A>(p[gate_norm_weight] + c * L) + load<A>(p[gate_norm_bias] + c * L));
      }
    }
  }

  // GELU of W vectors of a half of y, and for backward its slope.
  template <int W, bool backward>
  CELLGRAPH_INLINE int gelu(Index i, int half, int c, const A* y, V* row, Book& k) const {
    V z[W], cumulative[W], density[W];
    Index at = half * hidden + c * L;
    for (int w = 0; w < W; ++w) z[w] = load<A>(y + at + w * L) + load<A>(p[in_bias] + at + w * L);
    normal<!std::is_same_v<A, S>, W>(z, cumulative, density);
    for (int w = 0; w < W; ++w) {
      row[c + w] = z[w] * cumulative[w];
      if constexpr (backward) store(k.slope.data() + i * 2 * hidden + at + w * L, cumulative[w] + z[w] * density[w]);
    }
    return W;
  }

  // sum_k w_k row(i + o_k) + w_K row(i), added to `sum`; the rows are those of `from`.
  template <int M, class T>
  CELLGRAPH_INLINE void gather(Index i, const T* from, Index width, const A* weight, V* sum) const {
    const int vectors = M ? M : width / L;
    for (Index d = 0; d <= n.directions; ++d, weight += width) {
      Index j = d == n.directions ? i : n.from[d * n.nodes + i];
      if (j < 0) continue;
      for (int c = 0; c < vectors; ++c) sum[c] += load<A>(weight + c * L) * load<A>(from + j * width + c * L);
    }
  }

  // Its backward: sum_k w_k scale_j grad(i - o_k), added to `sum`; the weights' gradient goes to `grad_weight`.
  template <int M, class T, class F>
  CELLGRAPH_INLINE void scatter(Index i, const V* row, const T* grad, const F& scale, Index width, const A* weight,
                                A* grad_weight, V* sum) const {
    const int vectors = M ? M : width / L;
    for (Index d = 0; d <= n.directions; ++d, weight += width, grad_weight += width) {
      Index j = d == n.directions ? i : n.to[d * n.nodes + i];
      if (j < 0) continue;
      for (int c = 0; c < vectors; ++c) {
        V g = load<A>(grad + j * width + c * L) * scale(j);
        sum[c] += load<A>(weight + c * L) * g;
        add(grad_weight + c * L, row[c] * g);
      }
    }
  }

  // s = b + sum_k w_k v_{i + o_k};  x' = x + m (sum_k a_k x_{i + o_k} + W_out (u * s) + b)
  void update(Index begin, Index end, const A* x, const A* mask, A* next, Book& k, Hand& hand) const {
    S* gated = hand.rows.data();
    for (Index i = begin; i < end; ++i) {
      V gate[most_h];
      for (int c = 0; c < nh(); ++c) gate[c] = load<A>(p[gate_bias] + c * L);
      gather<NH>(i, k.v.data(), hidden, p[gate_weight], gate);
      for (int c = 0; c < nh(); ++c)
        store(gated + (i - begin) * hidden + c * L, load<A>(k.u.data() + i * hidden + c * L) * gate[c]);
    }
    w_out.multiply(gated, hidden, end - begin, hand.products.data());
    for (Index i = begin; i < end; ++i) {
      V sum[most_c];
      for (int c = 0; c < nc(); ++c)
        sum[c] = load<A>(hand.products.data() + (i - begin) * channels + c * L) + load<A>(p[out_bias] + c * L);
      gather<NC>(i, x, channels, p[transport], sum);
      A m = mask ? mask[i] : share;
      for (int c = 0; c < nc(); ++c) store(next + i * channels + c * L, load<A>(x + i * channels + c * L) + m * sum[c]);
    }
  }

  // Through W_out, the product u * s and u's activation; the gate's gradient is left for its neighbours to gather.
  void gate_backward(Index begin, Index end, const A* mask, const A* grad, Book& k, Hand& hand) const {
    S *pushed = hand.rows.data(), *gated = hand.gated.data();
    for (Index i = begin; i < end; ++i) {
      A m = mask ? mask[i] : share;
      for (int c = 0; c < nc(); ++c) {
        V g = load<A>(grad + i * channels + c * L) * m;
        store(pushed + (i - begin) * channels + c * L, g);
        add(hand.grads[out_bias].data() + c * L, g);
      }
    }
    w_out_back.multiply(pushed, channels, end - begin, hand.products.data());
    for (Index i = begin; i < end; ++i) {
      V gate[most_h];
      for (int c = 0; c < nh(); ++c) gate[c] = load<A>(p[gate_bias] + c * L);
      gather<NH>(i, k.v.data(), hidden, p[gate_weight], gate);
      for (int c = 0; c < nh(); ++c) {
        S *at_u = k.u.data() + i * hidden + c * L, *at_slope = k.slope.data() + i * 2 * hidden + c * L;
        V u = load<A>(at_u);
        V g = load<A>(hand.products.data() + (i - begin) * hidden + c * L);
        store(gated + (i - begin) * hidden + c * L, u * gate[c]);
        store(at_u, u * g);
        add(hand.grads[gate_bias].data() + c * L, u * g);
        V grad_u = gate[c] * g * load<A>(at_slope);
        store(at_slope, grad_u);
        add(hand.grads[in_bias].data() + c * L, grad_u);
      }
    }
    hand.out.add(pushed, channels, gated, hidden, end - begin, hand.grads[out_weight].data());
  }

  // Through the gate's neighbour sum, v's norm and activation, W_in, the first norm and the transport.
  void input_backward(Index begin, Index end, const A* x, const A* mask, const A* grad, A* grad_x, Book& k,
                      Hand& hand) const {
    S *grad_y = k.slope.data(), *h = hand.rows.data();
    auto& g = hand.grads;
    for (Index i = begin; i < end; ++i) {
      V row[most_h], sum[most_h];
      for (int c = 0; c < nh(); ++c) row[c] = load<A>(k.v.data() + i * hidden + c * L), sum[c] = V{};
      scatter<NH>(
          i, row, k.u.data(), [](Index) { return A(1); }, hidden, p[gate_weight], g[gate_weight].data(), sum);
      for (int c = 0; c < nh(); ++c) row[c] = load<A>(k.hat.data() + i * hidden + c * L);
      normalise_backward<NH>(row, nh(), k.rstd.data()[i], p[gate_norm_weight], g[gate_norm_weight].data(),
                             g[gate_norm_bias].data(), sum);
      for (int c = 0; c < nh(); ++c) {
        Index at = hidden + c * L;
        V grad_v = sum[c] * load<A>(grad_y + i * 2 * hidden + at);
        store(grad_y + i * 2 * hidden + at, grad_v);
        add(g[in_bias].data() + at, grad_v);
      }
    }
    w_in_back.multiply(grad_y + begin * 2 * hidden, 2 * hidden, end - begin, hand.products.data());
    for (Index i = begin; i < end; ++i) {
      V row[most_c], xi[most_c], sum[most_c];
      for (int c = 0; c < nc(); ++c) {
        xi[c] = load<A>(x + i * channels + c * L);
        row[c] = xi[c] + load<A>(p[position] + i * channels + c * L);
        sum[c] = load<A>(hand.products.data() + (i - begin) * channels + c * L);
      }
      A rstd = normalise<NC>(row, nc());
      for (int c = 0; c < nc(); ++c)
        store(h + (i - begin) * channels + c * L,
              row[c] * load<A>(p[norm_weight] + c * L) + load<A>(p[norm_bias] + c * L));
      normalise_backward<NC>(row, nc(), rstd, p[norm_weight], g[norm_weight].data(), g[norm_bias].data(), sum);
      for (int c = 0; c < nc(); ++c) {
        add(g[position].data() + i * channels + c * L, sum[c]);
        sum[c] += load<A>(grad + i * channels + c * L);
      }
      scatter<NC>(
          i, xi, grad, [&](Index j) { return mask ? mask[j] : share; }, channels, p[transport], g[transport].data(),
          sum);
      for (int c = 0; c < nc(); ++c) store(grad_x + i * channels + c * L, sum[c]);
    }
    hand.in.add(grad_y + begin * 2 * hidden, 2 * hidden, h, channels, end - begin, g[in_weight].data());
  }

  // (row - mean) / deviation in place; the inverse of the deviation is returned.
  template <int M>
  static CELLGRAPH_INLINE A normalise(V* row, int vectors) {
    if (M) vectors = M;
    V sum{}, squares{};
    for (int c = 0; c < vectors; ++c) sum += row[c];
    A mean = total<A>(sum) / (vectors * L);
    for (int c = 0; c < vectors; ++c) row[c] -= mean, squares += row[c] * row[c];
    A rstd = 1 / std::sqrt(total<A>(squares) / (vectors * L) + A(epsilon));
    for (int c = 0; c < vectors; ++c) row[c] *= rstd;
    return rstd;
  }

  // grad <- rstd (grad w - mean(grad w) - hat mean(grad w hat)), where `hat` is the normalised row.
  template <int M>
  static CELLGRAPH_INLINE void normalise_backward(const V* hat, int vectors, A rstd, const A* weight, A* grad_weight,
                                                  A* grad_bias, V* grad) {
    if (M) vectors = M;
    V sum{}, product{};
    for (int c = 0; c < vectors; ++c) {
      add(grad_weight + c * L, grad[c] * hat[c]);
      add(grad_bias + c * L, grad[c]);
      grad[c] *= load<A>(weight + c * L);
      sum += grad[c];
      product += grad[c] * hat[c];
    }
    A first = total<A>(sum) / (vectors * L), second = total<A>(product) / (vectors * L);
    for (int c = 0; c < vectors; ++c) grad[c] = rstd * (grad[c] - first - hat[c] * second);
  }
};

}  // namespace cellgraph
