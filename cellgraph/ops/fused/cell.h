// The gMLP cell with shared weights: one step of some cells of one sample, forward and backward.
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

// Which cells a step computes, the targets, and from which, the sources: rows of the walker itself, own, and behind them
// those of another walker, lent, which has them alike for all samples. Tables are [directions + 1, ...], the centre last.
struct Step {
  Index targets, own, lent, directions;
  Index centres;                   // own sources from this one on may be the centre of a target
  const int32_t *target, *source;  // the nodes of the targets and of the own sources
  const int32_t* from;             // [, targets]: the source at i + o_k, -1 if none
  const int32_t *to;               // [, own + lent]: the target at i - o_k, -1 if none
  const int32_t* lender;           // [lent]: their rows in the other walker
  bool in_place;                   // whether the targets are the own sources, in their order
  std::vector<Index> ahead, behind;  // by tile: how many own sources its targets need, how many targets its sources

  // The tiles' needs, so that a worker can follow one stage closely with the next.
  void order(Index tile) {
    in_place = targets == own && lent == 0;
    for (Index i = 0; in_place && i < targets; ++i) in_place = from[directions * targets + i] == i;
    ahead = needs(from, targets, tile, own);
    behind = needs(to, own + lent, tile, targets);
  }

 private:
  std::vector<Index> needs(const int32_t* table, Index rows, Index tile, Index most) const {
    std::vector<Index> until((rows + tile - 1) / tile);
    for (Index d = 0; d <= directions; ++d)
      for (Index i = 0; i < rows; ++i)
        if (Index j = table[d * rows + i]; j < most) until[i / tile] = std::max(until[i / tile], j + 1);
    for (size_t i = 1; i < until.size(); ++i) until[i] = std::max(until[i], until[i - 1]);
    return until;
  }
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

// What is written down about the sources of a step, and the gradients that take its place.
template <class A, class S>
struct Record {
  Buffer<S> u, v, hat;
  Buffer<S> slope;      // of the activation; the gradient of W_in h takes its place
  Buffer<S> grad_gate;  // by target; where targets are the sources themselves it takes the place of u
  Buffer<A> rstd;

  // `rows`: the most sources or targets of a step. `apart`: whether in some step the two are not the same.
  Record(Index rows, Index hidden, bool backward, bool apart) : u(rows * hidden), v(rows * hidden) {
    if (!backward) return;
    hat = Buffer<S>(rows * hidden), slope = Buffer<S>(rows * 2 * hidden), rstd = Buffer<A>(rows);
    if (apart) grad_gate = Buffer<S>(rows * hidden);
  }
};

// The state of the lending walker before a step and what it has written down about it; null where nothing is lent.
template <class A, class S>
struct Lender {
  const A* x = nullptr;
  const Record<A, S>* record = nullptr;
};

// The gradients of what is lent, [lent, ...].
template <class A>
struct LentGrads {
  Buffer<A> x, u, v;
};

// The same as a walker that lends is handed them: by own source its row in them, -1 if it is not lent.
template <class A>
struct Lent {
  const int32_t* row;
  const LentGrads<A>* grads;
};

// What belongs to a worker: room for a tile of cells, and the gradients of the parameters it has seen.
template <class A, class S>
struct Worker {
  Buffer<S> rows, gated;
  Buffer<A> products;
  OuterProducts<A, S> in, out;
  std::array<Buffer<A>, num_parameters> grads;
  LentGrads<A> lent;

  Worker(Index channels, Index hidden, TensorList t, Index borrowed, bool backward)
      : rows(tile * std::max(channels, hidden)),
        gated(tile * hidden),
        products(tile * std::max(channels, 2 * hidden)),
        in(tile, 2 * hidden, channels),
        out(tile, channels, hidden) {
    if (!backward) return;
    for (int i = 0; i < num_parameters; ++i) grads[i] = Buffer<A>(t[i].numel());
    lent = {Buffer<A>(borrowed * channels), Buffer<A>(borrowed * hidden), Buffer<A>(borrowed * hidden)};
  }
};

// Rows of the sources: the own ones and, behind them, those that are lent.
template <class T>
struct Rows {
  const T *own, *other;
  const int32_t* lender;
  Index count, width;
  CELLGRAPH_INLINE const T* operator[](Index j) const {
    return j < count ? own + j * width : other + lender[j - count] * width;
  }
};

// NC, NH: channels and hidden channels in vectors where they are known when this is compiled, else 0.
template <class A, class S, int NC, int NH>
class Cell {
  static constexpr int L = lanes<A>, most_c = NC ? NC : 2048 / vector_bytes, most_h = NH ? NH : 4096 / vector_bytes;
  using V = Vector<A>;
  using Book = Record<A, S>;
  using Hand = Worker<A, S>;
  struct Stage {
    Index count;                       // of rows
    const std::vector<Index>* before;  // by tile: how far the stage before must be; null if it is done
    bool own;                          // whether the first stage must be as far as this one
    std::function<void(Index, Index, Hand&)> work;
  };

 public:
  Cell(TensorList t, double share)
      : channels(t[position].size(1)),
        hidden(t[gate_bias].numel()),
        share(share),
        w_u(t[in_weight].const_data_ptr<A>(), channels, hidden, 1, channels),
        w_v(t[in_weight].const_data_ptr<A>() + hidden * channels, channels, hidden, 1, channels),
        w_out(t[out_weight].const_data_ptr<A>(), hidden, channels, 1, hidden),
        w_in_back(t[in_weight].const_data_ptr<A>(), 2 * hidden, channels, channels, 1),
        w_v_back(t[in_weight].const_data_ptr<A>() + hidden * channels, hidden, channels, channels, 1),
        w_out_back(t[out_weight].const_data_ptr<A>(), channels, hidden, hidden, 1) {
    for (int i = 0; i < num_parameters; ++i) p[i] = t[i].const_data_ptr<A>();
  }

  Book record(Index rows, bool backward, bool apart = false) const { return Book(rows, hidden, backward, apart); }

  std::vector<Hand> workers(TensorList t, Index borrowed, bool backward) const {
    std::vector<Hand> hands;
    for (int i = 0; i < at::get_num_threads(); ++i) hands.emplace_back(channels, hidden, t, borrowed, backward);
    return hands;
  }

  // Activations of the own sources, for this walker's targets and those of others.
  template <bool backward>
  void activate(const Step& s, const A* x, Book& k, std::vector<Hand>& hands, bool alone) const {
    run({activation<backward>(s, x, k)}, hands, alone);
  }

  // x' = x + m (t + W_out (u * s) + b), where the sources are activated.
  void update(const Step& s, const A* x, const Lender<A, S>& lender, const A* mask, A* next, Book& k,
              std::vector<Hand>& hands, bool alone) const {
    Stage stage = updating(s, x, lender, mask, next, k);
    stage.before = nullptr;
    run({stage}, hands, alone);
  }

  void forward(const Step& s, const A* x, const Lender<A, S>& lender, const A* mask, A* next, Book& k,
               std::vector<Hand>& hands, bool alone) const {
    run({activation<false>(s, x, k), updating(s, x, lender, mask, next, k)}, hands, alone);
  }

  // The gradient of the own sources from that of the targets. With `lent`, what other walkers have for them is added,
  // and the activations are there already: the others have used them.
  void backward(const Step& s, const A* x, const Lender<A, S>& lender, const A* mask, const A* grad, A* grad_x, Book& k,
                std::vector<Hand>& hands, bool alone, const Lent<A>* lent = nullptr) const {
    std::vector<Stage> stages;
    if (!lent) stages.push_back(activation<true>(s, x, k));
    stages.push_back({s.targets, lent ? nullptr : &s.ahead, false, [&](Index begin, Index end, Hand& hand) {
                        gate_backward(s, begin, end, lender, mask, grad, k, hand, lent);
                      }});
    stages.push_back({s.own + s.lent, &s.behind, !lent, [&](Index begin, Index end, Hand& hand) {
                        Index middle = std::clamp(s.own, begin, end);
                        if (begin < middle) input_backward(s, begin, middle, x, mask, grad, grad_x, k, hand, lent);
                        if (middle < end) lent_backward(s, middle, end, lender, mask, grad, k, hand);
                      }});
    run(stages, hands, alone);
  }

 private:
  Index channels, hidden;
  A share;  // of the update that a cell takes where there is no mask
  Matrix<A, S> w_u, w_v, w_out, w_in_back, w_v_back, w_out_back;
  std::array<const A*, num_parameters> p;

  int nc() const { return NC ? NC : channels / L; }
  int nh() const { return NH ? NH : hidden / L; }

  // A worker alone runs each stage as far as the next one needs it, so that what one stage wrote is still in the cache
  // for the next; several workers on one sample take stage after stage.
  static void run(const std::vector<Stage>& stages, std::vector<Hand>& hands, bool alone) {
    if (!alone) {
      for (const Stage& stage : stages)
        at::parallel_for(0, (stage.count + tile - 1) / tile, 4, [&](Index first, Index last) {
          for (Index i = first; i < last; ++i)
            stage.work(i * tile, std::min((i + 1) * tile, stage.count), hands[at::get_thread_num()]);
        });
      return;
    }
    Hand& hand = hands[at::get_thread_num()];
    std::vector<Index> done(stages.size());
    std::function<void(int, Index)> advance = [&](int number, Index until) {
      const Stage& stage = stages[number];
      until = std::min(until, stage.count);
      while (done[number] < until) {
        Index end = std::min(done[number] + tile, stage.count);
        if (stage.before) advance(number - 1, (*stage.before)[done[number] / tile]);
        if (stage.own) advance(0, end);
        stage.work(done[number], end, hand);
        done[number] = end;
      }
    };
    // The last stage first: it asks for what it needs; then what none has asked for.
    for (int number = stages.size() - 1; number >= 0; --number) advance(number, stages[number].count);
  }

  template <bool back>
  Stage activation(const Step& s, const A* x, Book& k) const {
    return {s.own, nullptr, false,
            [&s, x, &k, this](Index begin, Index end, Hand& hand) { activate_tile<back>(s, begin, end, x, k, hand); }};
  }

  Stage updating(const Step& s, const A* x, const Lender<A, S>& lender, const A* mask, A* next, Book& k) const {
    return {s.targets, &s.ahead, false, [&s, x, &lender, mask, next, &k, this](Index begin, Index end, Hand& hand) {
              update_tile(s, begin, end, x, lender, mask, next, k, hand);
            }};
  }

  Rows<S> gates(const Step& s, const Book& k, const Lender<A, S>& lender) const {
    return {k.v.data(), lender.record ? lender.record->v.data() : nullptr, s.lender, s.own, hidden};
  }

  Rows<S> inner(const Step& s, const Book& k, const Lender<A, S>& lender) const {
    return {k.u.data(), lender.record ? lender.record->u.data() : nullptr, s.lender, s.own, hidden};
  }

  Rows<A> states(const Step& s, const A* x, const Lender<A, S>& lender) const {
    return {x, lender.x, s.lender, s.own, channels};
  }

  // h = Norm(x + p);  u, v = split(GELU(W_in h + b));  v = Norm(v)
  template <bool backward>
  void activate_tile(const Step& s, Index begin, Index end, const A* x, Book& k, Hand& hand) const {
    S* h = hand.rows.data();
    for (Index i = begin; i < end; ++i) {
      V row[most_c];
      const A* place = p[position] + s.source[i] * channels;
      for (int c = 0; c < nc(); ++c) row[c] = load<A>(x + i * channels + c * L) + load<A>(place + c * L);
      normalise<NC>(row, nc());
      for (int c = 0; c < nc(); ++c)
        store(h + (i - begin) * channels + c * L,
              row[c] * load<A>(p[norm_weight] + c * L) + load<A>(p[norm_bias] + c * L));
    }
    A* y = hand.products.data();
    if (end > s.centres) {
      w_u.multiply(h, channels, end - begin, y);
      for (Index i = begin; i < end; ++i) {
        V row[most_h];
        activate_half<backward>(i, 0, y + (i - begin) * hidden, row, k);
        for (int c = 0; c < nh(); ++c) store(k.u.data() + i * hidden + c * L, row[c]);
      }
    }
    w_v.multiply(h, channels, end - begin, y);
    for (Index i = begin; i < end; ++i) {
      V row[most_h];
      activate_half<backward>(i, 1, y + (i - begin) * hidden, row, k);
      A rstd = normalise<NH>(row, nh());
      if constexpr (backward) k.rstd.data()[i] = rstd;
      for (int c = 0; c < nh(); ++c) {
        if constexpr (backward) store(k.hat.data() + i * hidden + c * L, row[c]);
        store(k.v.data() + i * hidden + c * L,
              row[c] * load<A>(p[gate_norm_weight] + c * L) + load<A>(p[gate_norm_bias] + c * L));
      }
    }
  }

  template <bool backward>
  CELLGRAPH_INLINE void activate_half(Index i, int half, const A* y, V* row, Book& k) const {
    for (int c = 0; c < nh();)
      c += nh() - c < 4 ? gelu<1, backward>(i, half, c, y, row, k) : gelu<4, backward>(i, half, c, y, row, k);
  }

  // GELU of W vectors of a half of y, and for backward its slope.
  template <int W, bool backward>
  CELLGRAPH_INLINE int gelu(Index i, int half, int c, const A* y, V* row, Book& k) const {
    V z[W], cumulative[W], density[W];
    Index at = half * hidden + c * L;
    for (int w = 0; w < W; ++w) z[w] = load<A>(y + (c + w) * L) + load<A>(p[in_bias] + at + w * L);
    normal<!std::is_same_v<A, S>, W>(z, cumulative, density);
    for (int w = 0; w < W; ++w) {
      row[c + w] = z[w] * cumulative[w];
      if constexpr (backward) store(k.slope.data() + i * 2 * hidden + at + w * L, cumulative[w] + z[w] * density[w]);
    }
    return W;
  }

  // sum_k w_k row(i + o_k), the centre included, added to `sum`.
  template <int M, class T>
  CELLGRAPH_INLINE void gather(const Step& s, Index i, const Rows<T>& rows, const A* weight, V* sum) const {
    const int vectors = M ? M : rows.width / L;
    for (Index d = 0; d <= s.directions; ++d, weight += rows.width) {
      Index j = s.from[d * s.targets + i];
      if (j < 0) continue;
      const T* row = rows[j];
      for (int c = 0; c < vectors; ++c) sum[c] += load<A>(weight + c * L) * load<A>(row + c * L);
    }
  }

  // Its backward: sum_k w_k scale_j grad(i - o_k), added to `sum`; the weights' gradient goes to `grad_weight`.
  template <int M, class T, class F>
  CELLGRAPH_INLINE void scatter(const Step& s, Index i, const V* row, const T* grad, const F& scale, Index width,
                                const A* weight, A* grad_weight, V* sum) const {
    const int vectors = M ? M : width / L;
    for (Index d = 0; d <= s.directions; ++d, weight += width, grad_weight += width) {
      Index j = s.to[d * (s.own + s.lent) + i];
      if (j < 0) continue;
      for (int c = 0; c < vectors; ++c) {
        V g = load<A>(grad + j * width + c * L) * scale(j);
        sum[c] += load<A>(weight + c * L) * g;
        add(grad_weight + c * L, row[c] * g);
      }
    }
  }

  Index centre_of(const Step& s, Index i) const { return s.from[s.directions * s.targets + i]; }
  Index centred_on(const Step& s, Index i) const { return s.to[s.directions * (s.own + s.lent) + i]; }
  A taken(const Step& s, const A* mask, Index i) const { return mask ? mask[s.target[i]] : share; }

  // s = b + sum_k w_k v_{i + o_k}
  CELLGRAPH_INLINE void gate_of(const Step& s, Index i, const Rows<S>& v, V* gate) const {
    for (int c = 0; c < nh(); ++c) gate[c] = load<A>(p[gate_bias] + c * L);
    gather<NH>(s, i, v, p[gate_weight], gate);
  }

  // x' = x + m (sum_k a_k x_{i + o_k} + W_out (u * s) + b)
  void update_tile(const Step& s, Index begin, Index end, const A* x, const Lender<A, S>& lender, const A* mask,
                   A* next, Book& k, Hand& hand) const {
    S* gated = hand.rows.data();
    Rows<S> v = gates(s, k, lender), u = inner(s, k, lender);
    Rows<A> state = states(s, x, lender);
    for (Index i = begin; i < end; ++i) {
      V gate[most_h];
      gate_of(s, i, v, gate);
      const S* inside = u[centre_of(s, i)];
      for (int c = 0; c < nh(); ++c)
        store(gated + (i - begin) * hidden + c * L, load<A>(inside + c * L) * gate[c]);
    }
    w_out.multiply(gated, hidden, end - begin, hand.products.data());
    for (Index i = begin; i < end; ++i) {
      V sum[most_c];
      for (int c = 0; c < nc(); ++c)
        sum[c] = load<A>(hand.products.data() + (i - begin) * channels + c * L) + load<A>(p[out_bias] + c * L);
      gather<NC>(s, i, state, p[transport], sum);
      A m = taken(s, mask, i);
      const A* here = state[centre_of(s, i)];
      for (int c = 0; c < nc(); ++c) store(next + i * channels + c * L, load<A>(here + c * L) + m * sum[c]);
    }
  }

  // Through W_out, the product u * s and u's activation; the gate's gradient is left for the sources to gather.
  void gate_backward(const Step& s, Index begin, Index end, const Lender<A, S>& lender, const A* mask, const A* grad,
                     Book& k, Hand& hand, const Lent<A>* lent) const {
    S *pushed = hand.rows.data(), *gated = hand.gated.data(), *grad_gate = gate_grads(s, k);
    for (Index i = begin; i < end; ++i) {
      A m = taken(s, mask, i);
      for (int c = 0; c < nc(); ++c) {
        V g = load<A>(grad + i * channels + c * L) * m;
        store(pushed + (i - begin) * channels + c * L, g);
        add(hand.grads[out_bias].data() + c * L, g);
      }
    }
    w_out_back.multiply(pushed, channels, end - begin, hand.products.data());
    Rows<S> v = gates(s, k, lender), u = inner(s, k, lender);
    for (Index i = begin; i < end; ++i) {
      V gate[most_h];
      gate_of(s, i, v, gate);
      Index j = centre_of(s, i);
      const S* inside = u[j];
      const A* more = lent && j < s.own && lent->row[j] >= 0 ? lent->grads->u.data() + lent->row[j] * hidden : nullptr;
      for (int c = 0; c < nh(); ++c) {
        V g = load<A>(hand.products.data() + (i - begin) * hidden + c * L), held = load<A>(inside + c * L);
        store(gated + (i - begin) * hidden + c * L, held * gate[c]);
        store(grad_gate + i * hidden + c * L, held * g);
        add(hand.grads[gate_bias].data() + c * L, held * g);
        V grad_u = gate[c] * g;
        if (j >= s.own) {
          add(hand.lent.u.data() + (j - s.own) * hidden + c * L, grad_u);
        } else {
          if (more) grad_u += load<A>(more + c * L);
          keep_grad_u(j, c, grad_u, k, hand);
        }
      }
    }
    hand.out.add(pushed, channels, gated, hidden, end - begin, hand.grads[out_weight].data());
  }

  static S* gate_grads(const Step& s, Book& k) { return s.in_place ? k.u.data() : k.grad_gate.data(); }

  CELLGRAPH_INLINE void keep_grad_u(Index i, int c, V grad_u, Book& k, Hand& hand) const {
    S* at = k.slope.data() + i * 2 * hidden + c * L;
    grad_u *= load<A>(at);
    store(at, grad_u);
    add(hand.grads[in_bias].data() + c * L, grad_u);
  }

  // Through the gate's neighbour sum, v's norm and activation, W_in, the first norm and the transport.
  void input_backward(const Step& s, Index begin, Index end, const A* x, const A* mask, const A* grad, A* grad_x,
                      Book& k, Hand& hand, const Lent<A>* lent) const {
    S *grad_y = k.slope.data(), *h = hand.rows.data();
    auto& g = hand.grads;
    for (Index i = begin; i < end; ++i) {
      V row[most_h], sum[most_h];
      Index more = lent ? lent->row[i] : -1;
      for (int c = 0; c < nh(); ++c) {
        row[c] = load<A>(k.v.data() + i * hidden + c * L);
        sum[c] = more < 0 ? V{} : load<A>(lent->grads->v.data() + more * hidden + c * L);
      }
      scatter<NH>(
          s, i, row, gate_grads(s, k), [](Index) { return A(1); }, hidden, p[gate_weight], g[gate_weight].data(),
          sum);
      for (int c = 0; c < nh(); ++c) row[c] = load<A>(k.hat.data() + i * hidden + c * L);
      normalise_backward<NH>(row, nh(), k.rstd.data()[i], p[gate_norm_weight], g[gate_norm_weight].data(),
                             g[gate_norm_bias].data(), sum);
      for (int c = 0; c < nh(); ++c) {
        Index at = hidden + c * L;
        V grad_v = sum[c] * load<A>(grad_y + i * 2 * hidden + at);
        store(grad_y + i * 2 * hidden + at, grad_v);
        add(g[in_bias].data() + at, grad_v);
      }
      if (end > s.centres && centred_on(s, i) < 0)  // no target has written the gradient of its u
        for (int c = 0; c < nh(); ++c) {
          if (more < 0)
            store(grad_y + i * 2 * hidden + c * L, V{});
          else
            keep_grad_u(i, c, load<A>(lent->grads->u.data() + more * hidden + c * L), k, hand);
        }
    }
    if (end > s.centres)
      w_in_back.multiply(grad_y + begin * 2 * hidden, 2 * hidden, end - begin, hand.products.data());
    else
      w_v_back.multiply(grad_y + begin * 2 * hidden + hidden, 2 * hidden, end - begin, hand.products.data());
    for (Index i = begin; i < end; ++i) {
      V row[most_c], xi[most_c], sum[most_c];
      A* place = g[position].data() + s.source[i] * channels;
      for (int c = 0; c < nc(); ++c) {
        xi[c] = load<A>(x + i * channels + c * L);
        row[c] = xi[c] + load<A>(p[position] + s.source[i] * channels + c * L);
        sum[c] = load<A>(hand.products.data() + (i - begin) * channels + c * L);
      }
      A rstd = normalise<NC>(row, nc());
      for (int c = 0; c < nc(); ++c)
        store(h + (i - begin) * channels + c * L,
              row[c] * load<A>(p[norm_weight] + c * L) + load<A>(p[norm_bias] + c * L));
      normalise_backward<NC>(row, nc(), rstd, p[norm_weight], g[norm_weight].data(), g[norm_bias].data(), sum);
      for (int c = 0; c < nc(); ++c) add(place + c * L, sum[c]);
      if (lent && lent->row[i] >= 0)
        for (int c = 0; c < nc(); ++c) sum[c] += load<A>(lent->grads->x.data() + lent->row[i] * channels + c * L);
      pull_state(s, i, xi, mask, grad, hand, sum);
      for (int c = 0; c < nc(); ++c) store(grad_x + i * channels + c * L, sum[c]);
    }
    const S* from = grad_y + begin * 2 * hidden;
    if (end > s.centres)
      hand.in.add(from, 2 * hidden, h, channels, end - begin, g[in_weight].data());
    else
      hand.in.add(from + hidden, hidden, h, channels, end - begin, g[in_weight].data() + hidden * channels, 2 * hidden);
  }

  // The gradients of what is lent; the walker that lends it takes them through the activations, for all at once.
  void lent_backward(const Step& s, Index begin, Index end, const Lender<A, S>& lender, const A* mask, const A* grad,
                     Book& k, Hand& hand) const {
    Rows<S> v = gates(s, k, lender);
    Rows<A> state = states(s, nullptr, lender);
    for (Index i = begin; i < end; ++i) {
      V row[most_h], sum[most_h], xi[most_c], pulled[most_c];
      for (int c = 0; c < nh(); ++c) row[c] = load<A>(v[i] + c * L), sum[c] = V{};
      scatter<NH>(
          s, i, row, gate_grads(s, k), [](Index) { return A(1); }, hidden, p[gate_weight],
          hand.grads[gate_weight].data(), sum);
      for (int c = 0; c < nh(); ++c) add(hand.lent.v.data() + (i - s.own) * hidden + c * L, sum[c]);
      for (int c = 0; c < nc(); ++c) xi[c] = load<A>(state[i] + c * L), pulled[c] = V{};
      pull_state(s, i, xi, mask, grad, hand, pulled);
      for (int c = 0; c < nc(); ++c) add(hand.lent.x.data() + (i - s.own) * channels + c * L, pulled[c]);
    }
  }

  // Adds the gradient of a source's state, handed on as it is and by the transport.
  CELLGRAPH_INLINE void pull_state(const Step& s, Index i, const V* xi, const A* mask, const A* grad, Hand& hand,
                                   V* sum) const {
    if (Index j = centred_on(s, i); j >= 0)
      for (int c = 0; c < nc(); ++c) sum[c] += load<A>(grad + j * channels + c * L);
    scatter<NC>(
        s, i, xi, grad, [&](Index j) { return taken(s, mask, j); }, channels, p[transport],
        hand.grads[transport].data(), sum);
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
