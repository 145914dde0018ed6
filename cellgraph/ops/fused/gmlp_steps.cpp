// Several steps of the gMLP cell as one operator, forward and backward.
//
// Each sample is a walker with the cells that may differ from sample to sample; one more walker, which lends to all of
// them, has the cells that are alike in all samples. Without such cells each worker walks a sample of its own through
// all the steps, and with them all take a step before any takes the next. Where samples are fewer than workers, the
// workers share out each walker's cells. Kept for backward are the samples' states at every so many steps, and the
// lender's.

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "cell.h"

namespace cellgraph {
namespace {

// The tables of a step as they are handed over, those of the samples and those of the lender.
enum { own_target, own_source, own_from, own_to, lender_row, lent_target, lent_source, lent_from, lent_to, lent_row };
constexpr Index tables = lent_row + 1;

// All the steps: what the samples and the lender compute in each.
class Plan {
  std::vector<Step> own_, lent_;
  std::vector<const int32_t*> rows_;
  std::vector<Index> order_;
  Index first_own_, first_lent_;

 public:
  Index most_own = 0, most_lent = 0, most_borrowed = 0;  // the most rows of a walker before or after a step
  bool lends = false, apart = false;  // whether cells are lent; whether in some step targets are not the sources

  // `centres`: by step those of the samples and of the lender, see :struct:`Step`.
  Plan(TensorList t, at::IntArrayRef centres, at::IntArrayRef order) : order_(order.begin(), order.end()) {
    auto table = [](const Tensor& x) { return x.const_data_ptr<int32_t>(); };
    for (size_t i = 0; i < t.size() / tables; ++i) {
      TensorList s = t.slice(i * tables, tables);
      Index directions = s[own_from].size(0) - 1;
      own_.push_back({s[own_target].numel(), s[own_source].numel(), s[lender_row].numel(), directions, centres[2 * i],
                      table(s[own_target]), table(s[own_source]), table(s[own_from]), table(s[own_to]),
                      table(s[lender_row]), false, {}, {}});
      lent_.push_back({s[lent_target].numel(), s[lent_source].numel(), 0, directions, centres[2 * i + 1],
                       table(s[lent_target]), table(s[lent_source]), table(s[lent_from]), table(s[lent_to]), nullptr,
                       false, {}, {}});
      rows_.push_back(table(s[lent_row]));
      for (Step* step : {&own_.back(), &lent_.back()}) step->order(tile);
      most_own = std::max({most_own, own_.back().targets, own_.back().own});
      most_lent = std::max({most_lent, lent_.back().targets, lent_.back().own});
      most_borrowed = std::max(most_borrowed, own_.back().lent);
      lends = lends || lent_.back().own > 0;
      apart = apart || !own_.back().in_place;
    }
    first_own_ = own_[order_[0]].own, first_lent_ = lent_[order_[0]].own;
  }

  Index steps() const { return order_.size(); }
  const Step& own(Index step) const { return own_[order_[step]]; }
  const Step& lent(Index step) const { return lent_[order_[step]]; }
  const int32_t* lent_rows(Index step) const { return rows_[order_[step]]; }
  // How many cells the walkers have after so many steps.
  Index own_after(Index steps) const { return steps ? own(steps - 1).targets : first_own_; }
  Index lent_after(Index steps) const { return steps ? lent(steps - 1).targets : first_lent_; }
};

// What a walk is given.
struct Walk {
  Tensor own, lent, masks;
  double share;
  const Plan& plan;
  TensorList parameters;
  Index every;

  Index batch() const { return own.size(0); }
  Index channels() const { return own.size(2); }
  template <class A>
  const A* mask(Index step, Index sample) const {
    if (!masks.numel()) return nullptr;
    return masks.const_data_ptr<A>() + (step * batch() + sample) * masks.size(2);
  }
  // Whether the state after so many steps is kept.
  bool keeps(Index steps) const { return steps % every == 0 || steps == plan.steps(); }
  // Where in the kept states those after so many steps begin.
  Index offset(Index steps) const {
    Index sum = 0;
    for (Index i = 1; i < steps; ++i) sum += keeps(i) ? batch() * plan.own_after(i) * channels() : 0;
    return sum;
  }
  Index lent_offset(Index steps) const {
    Index sum = 0;
    for (Index i = 1; i < steps; ++i) sum += plan.lent_after(i) * channels();
    return sum;
  }
};

template <class A, class S, class F>
void with_cell(const Walk& w, const F& use) {
  constexpr int L = lanes<A>;
  TensorList t = w.parameters;
  if constexpr (std::is_same_v<A, float>)
    if (t[position].size(1) == 64 && t[gate_bias].numel() == 128)
      return use(Cell<A, S, 64 / L, 128 / L>(t, w.share));
  use(Cell<A, S, 0, 0>(t, w.share));
}

// Calls `walk(sample, worker's book, alone)` for each sample.
template <class Book, class F>
void each_sample(Index batch, std::vector<Book>& books, const F& walk) {
  if (batch < at::get_num_threads())
    for (Index sample = 0; sample < batch; ++sample) walk(sample, books[0], false);
  else
    at::parallel_for(0, batch, 1, [&](Index begin, Index end) {
      for (Index sample = begin; sample < end; ++sample) walk(sample, books[at::get_thread_num()], true);
    });
}

// Memory in huge pages where there are any: the faults of small new pages cost a tenth of a training step.
Tensor empty_in_huge_pages(at::IntArrayRef shape, const at::TensorOptions& options) {
  Tensor tensor = at::empty(shape, options);
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t page = 4096;
  uintptr_t start = reinterpret_cast<uintptr_t>(tensor.mutable_data_ptr()), end = start + tensor.nbytes();
  start = (start + page - 1) / page * page;
  if (end > start + (4 << 20)) madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);  // only advice
#endif
  return tensor;
}

// The last state of the samples, [batch, cells, channels], and of the lender, [cells, channels]; and for backward the
// samples' kept states before it, one after the other, and those of the lender after each step but the last. The last
// ones are tensors of their own: who keeps them does not keep all the others, and may change them in place.
template <class A, class S>
std::vector<Tensor> forward(const Walk& w) {
  const Plan& plan = w.plan;
  Index channels = w.channels(), batch = w.batch(), steps = plan.steps(), room = plan.most_own * channels;
  Tensor last = empty_in_huge_pages({batch, plan.own_after(steps), channels}, w.own.options());
  Tensor states = empty_in_huge_pages({w.offset(steps)}, w.own.options());
  Tensor lent_last = at::empty({plan.lent_after(steps), channels}, w.own.options());
  Tensor lent_states = at::empty({w.lent_offset(steps)}, w.own.options());
  const A *start = w.own.const_data_ptr<A>(), *lent_start = w.lent.const_data_ptr<A>();
  A *kept = states.mutable_data_ptr<A>(), *lent_kept = lent_states.mutable_data_ptr<A>();
  A *end = last.mutable_data_ptr<A>(), *lent_end = lent_last.mutable_data_ptr<A>();
  bool shared = batch < at::get_num_threads();
  with_cell<A, S>(w, [&](const auto& cell) {
    auto hands = cell.workers(w.parameters, 0, false);
    std::vector<Record<A, S>> books;
    for (size_t i = 0; i < (shared ? 1 : hands.size()); ++i) books.push_back(cell.record(plan.most_own, false));
    Index spares = plan.lends ? batch : books.size();
    Buffer<A> spare(w.every > 1 ? 2 * spares * room : 0);
    auto state = [&](Index done, Index sample, Index place) {
      Index size = plan.own_after(done) * channels;
      if (done == steps) return end + sample * size;
      if (w.keeps(done)) return kept + w.offset(done) + sample * size;
      return spare.data() + (2 * place + done % 2) * room;
    };
    auto before = [&](Index step, Index sample, Index place) -> const A* {
      return step ? state(step, sample, place) : start + sample * plan.own_after(0) * channels;
    };
    if (!plan.lends) {
      each_sample(batch, books, [&](Index b, auto& book, bool alone) {
        Index place = &book - books.data();
        for (Index step = 0; step < steps; ++step)
          cell.forward(plan.own(step), before(step, b, place), {}, w.mask<A>(step, b), state(step + 1, b, place), book,
                       hands, alone);
      });
      return;
    }
    bool alone = hands.size() == 1;
    auto record = cell.record(plan.most_lent, false);
    for (Index step = 0; step < steps; ++step) {
      Lender<A, S> lender{step ? lent_kept + w.lent_offset(step) : lent_start, &record};
      cell.template activate<false>(plan.lent(step), lender.x, record, hands, alone);
      each_sample(batch, books, [&](Index b, auto& book, bool alone) {
        cell.forward(plan.own(step), before(step, b, b), lender, w.mask<A>(step, b), state(step + 1, b, b), book, hands,
                     alone);
      });
      A* next = step + 1 == steps ? lent_end : lent_kept + w.lent_offset(step + 1);
      cell.update(plan.lent(step), lender.x, {}, nullptr, next, record, hands, alone);
    }
  });
  return {last, lent_last, states, lent_states};
}

// The workers' sums of the first `count` of each of their buffers, in the first one's; the others' are set back to zero.
template <class A>
void add_up(std::vector<Buffer<A>*> buffers, Index count) {
  A* sum = buffers[0]->data();
  for (size_t worker = 1; worker < buffers.size(); ++worker) {
    A* more = buffers[worker]->data();
    for (Index i = 0; i < count; ++i) sum[i] += more[i], more[i] = 0;
  }
}

// The gradients of the two first states and of each of the parameters.
template <class A, class S>
std::vector<Tensor> backward(const Walk& w, const Tensor& grad, const Tensor& lent_grad, const Tensor& states,
                             const Tensor& lent_states) {
  const Plan& plan = w.plan;
  Index channels = w.channels(), batch = w.batch(), steps = plan.steps(), room = plan.most_own * channels;
  std::vector<Tensor> grads{at::empty_like(w.own), at::empty_like(w.lent)};
  const A *start = w.own.const_data_ptr<A>(), *lent_start = w.lent.const_data_ptr<A>();
  const A *kept = states.const_data_ptr<A>(), *lent_kept = lent_states.const_data_ptr<A>();
  const A *last = grad.const_data_ptr<A>(), *lent_last = lent_grad.const_data_ptr<A>();
  A *to = grads[0].mutable_data_ptr<A>(), *lent_to_first = grads[1].mutable_data_ptr<A>();
  bool shared = batch < at::get_num_threads();
  with_cell<A, S>(w, [&](const auto& cell) {
    auto hands = cell.workers(w.parameters, plan.most_borrowed, true);
    std::vector<Record<A, S>> books;
    for (size_t i = 0; i < (shared ? 1 : hands.size()); ++i) books.push_back(cell.record(plan.most_own, true, plan.apart));
    Index places = plan.lends ? batch : books.size();
    Buffer<A> passed(2 * places * room), again((w.every - 1) * places * room);
    // The states of a chunk of steps whose first one is kept, and the gradients on their way.
    auto state = [&](Index done, Index sample, Index place) -> const A* {
      Index size = plan.own_after(done) * channels;
      if (done == 0) return start + sample * size;
      if (w.keeps(done)) return kept + w.offset(done) + sample * size;
      return again.data() + (place * (w.every - 1) + done % w.every - 1) * room;
    };
    auto pulled = [&](Index done, Index sample, Index place) {
      if (done == 0) return to + sample * plan.own_after(0) * channels;
      return passed.data() + (2 * place + done % 2) * room;
    };
    auto pull = [&](Index done, Index sample, Index place) -> const A* {
      return done == steps ? last + sample * plan.own_after(steps) * channels : pulled(done, sample, place);
    };
    auto step_again = [&](Index step, Index b, Index place, const Lender<A, S>& lender, auto& book, bool alone) {
      cell.forward(plan.own(step), state(step, b, place), lender, w.mask<A>(step, b),
                   const_cast<A*>(state(step + 1, b, place)), book, hands, alone);
    };
    auto step_back = [&](Index step, Index b, Index place, const Lender<A, S>& lender, auto& book, bool alone) {
      cell.backward(plan.own(step), state(step, b, place), lender, w.mask<A>(step, b), pull(step + 1, b, place),
                    pulled(step, b, place), book, hands, alone);
    };
    Index chunks = (steps + w.every - 1) / w.every;
    auto end_of = [&](Index chunk) { return std::min((chunk + 1) * w.every, steps); };
    if (!plan.lends) {
      each_sample(batch, books, [&](Index b, auto& book, bool alone) {
        Index place = &book - books.data();
        for (Index chunk = chunks - 1; chunk >= 0; --chunk) {
          for (Index step = chunk * w.every; step < end_of(chunk) - 1; ++step)
            step_again(step, b, place, {}, book, alone);
          for (Index step = end_of(chunk) - 1; step >= chunk * w.every; --step)
            step_back(step, b, place, {}, book, alone);
        }
      });
    } else {
      bool alone = hands.size() == 1;
      auto record = cell.record(plan.most_lent, true, true);
      Buffer<A> lent_passed(2 * plan.most_lent * channels);
      auto lender_at = [&](Index step) -> Lender<A, S> {
        return {step ? lent_kept + w.lent_offset(step) : lent_start, &record};
      };
      auto lent_pulled = [&](Index done) {
        return done ? lent_passed.data() + done % 2 * plan.most_lent * channels : lent_to_first;
      };
      for (Index chunk = chunks - 1; chunk >= 0; --chunk) {
        for (Index step = chunk * w.every; step < end_of(chunk) - 1; ++step) {
          auto lender = lender_at(step);
          cell.template activate<false>(plan.lent(step), lender.x, record, hands, alone);
          each_sample(batch, books,
                      [&](Index b, auto& book, bool alone) { step_again(step, b, b, lender, book, alone); });
        }
        for (Index step = end_of(chunk) - 1; step >= chunk * w.every; --step) {
          auto lender = lender_at(step);
          cell.template activate<true>(plan.lent(step), lender.x, record, hands, alone);
          each_sample(batch, books,
                      [&](Index b, auto& book, bool alone) { step_back(step, b, b, lender, book, alone); });
          Index lent = plan.own(step).lent;
          std::vector<Buffer<A>*> x, u, v;
          for (auto& hand : hands) x.push_back(&hand.lent.x), u.push_back(&hand.lent.u), v.push_back(&hand.lent.v);
          Index hidden = w.parameters[gate_bias].numel();
          add_up(x, lent * channels), add_up(u, lent * hidden), add_up(v, lent * hidden);
          Lent<A> given{plan.lent_rows(step), &hands[0].lent};
          cell.backward(plan.lent(step), lender.x, {}, nullptr, step + 1 == steps ? lent_last : lent_pulled(step + 1),
                        lent_pulled(step), record, hands, alone, &given);
          std::fill_n(hands[0].lent.x.data(), lent * channels, A(0));
          std::fill_n(hands[0].lent.u.data(), lent * hidden, A(0));
          std::fill_n(hands[0].lent.v.data(), lent * hidden, A(0));
        }
      }
    }
    for (int i = 0; i < num_parameters; ++i) {
      std::vector<Buffer<A>*> parts;
      for (auto& hand : hands) parts.push_back(&hand.grads[i]);
      add_up(parts, w.parameters[i].numel());
      grads.push_back(at::empty_like(w.parameters[i]));
      std::copy_n(parts[0]->data(), w.parameters[i].numel(), grads.back().template mutable_data_ptr<A>());
    }
  });
  return grads;
}

// Calls `use` with the type that is computed in and the one that is stored.
template <class F>
std::vector<Tensor> with_types(const Tensor& x, bool narrow, const F& use) {
  if (x.scalar_type() == at::kDouble) return use(double{}, double{});
  return narrow ? use(float{}, Narrow{}) : use(float{}, float{});
}

std::vector<Tensor> steps_forward(const Tensor& own, const Tensor& lent, const Tensor& masks, double share,
                                  TensorList plan, at::IntArrayRef centres, at::IntArrayRef order,
                                  TensorList parameters, Index every, bool narrow) {
  Plan steps(plan, centres, order);
  Walk walk{own, lent, masks, share, steps, parameters, every};
  return with_types(own, narrow, [&](auto a, auto s) { return forward<decltype(a), decltype(s)>(walk); });
}

std::vector<Tensor> steps_backward(const Tensor& grad, const Tensor& lent_grad, const Tensor& own, const Tensor& lent,
                                   const Tensor& states, const Tensor& lent_states, const Tensor& masks, double share,
                                   TensorList plan, at::IntArrayRef centres, at::IntArrayRef order,
                                   TensorList parameters, Index every, bool narrow) {
  Plan steps(plan, centres, order);
  Walk walk{own, lent, masks, share, steps, parameters, every};
  return with_types(own, narrow, [&](auto a, auto s) {
    return backward<decltype(a), decltype(s)>(walk, grad, lent_grad, states, lent_states);
  });
}

}  // namespace
}  // namespace cellgraph

TORCH_LIBRARY_FRAGMENT(cellgraph, library) {
  library.def(
      "gmlp_steps(Tensor own, Tensor lent, Tensor masks, float share, Tensor[] plan, int[] centres, int[] order, "
      "Tensor[] parameters, int every, bool narrow) -> Tensor[]");
  library.def(
      "gmlp_steps_backward(Tensor grad, Tensor lent_grad, Tensor own, Tensor lent, Tensor states, Tensor lent_states, "
      "Tensor masks, float share, Tensor[] plan, int[] centres, int[] order, Tensor[] parameters, int every, "
      "bool narrow) -> Tensor[]");
}

TORCH_LIBRARY_IMPL(cellgraph, CPU, library) {
  library.impl("gmlp_steps", &cellgraph::steps_forward);
  library.impl("gmlp_steps_backward", &cellgraph::steps_backward);
}

// Called by themselves they have no derivative, and say so instead of giving zeros.
TORCH_LIBRARY_IMPL(cellgraph, Autograd, library) {
  library.impl("gmlp_steps", torch::autograd::autogradNotImplementedFallback());
  library.impl("gmlp_steps_backward", torch::autograd::autogradNotImplementedFallback());
}
