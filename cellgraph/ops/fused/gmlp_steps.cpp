// Several steps of the gMLP cell as one operator, forward and backward.
//
// Each worker walks a sample of its own through all the steps; where samples are fewer than workers, the workers share
// out each sample's cells. Kept for backward is the state at every so many steps and nothing else.

#include <torch/library.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "cell.h"

namespace cellgraph {
namespace {

template <class A, class S, class F>
void with_cell(const Neighbours& n, TensorList t, double share, const F& use) {
  constexpr int L = lanes<A>;
  if (std::is_same_v<A, float> && t[position].size(1) == 64 && t[gate_bias].numel() == 128)
    use(Cell<A, S, 64 / L, 128 / L>(n, t, share));
  else
    use(Cell<A, S, 0, 0>(n, t, share));
}

// Calls `walk(cell, sample, record, workers)` for each sample.
template <class A, class S, class F>
auto each_sample(const Neighbours& n, TensorList t, double share, Index batch, Index every, bool backward,
                 const F& walk) {
  std::vector<Worker<A, S>> workers;
  with_cell<A, S>(n, t, share, [&](const auto& cell) {
    workers = cell.workers(t, backward);
    auto some = [&](Index begin, Index end) {
      auto record = cell.record(every, backward);
      for (Index sample = begin; sample < end; ++sample) walk(cell, sample, record, workers);
    };
    if (batch < at::get_num_threads())
      some(0, batch);
    else
      at::parallel_for(0, batch, 1, some);
  });
  return workers;
}

// Memory in huge pages where there are any: the faults of small new pages cost a tenth of a training step.
Tensor empty_in_huge_pages(at::IntArrayRef sizes, const at::TensorOptions& options) {
  Tensor tensor = at::empty(sizes, options);
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t page = 4096;
  uintptr_t start = reinterpret_cast<uintptr_t>(tensor.mutable_data_ptr()), end = start + tensor.nbytes();
  start = (start + page - 1) / page * page;
  if (end > start + (4 << 20)) madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);  // only advice
#endif
  return tensor;
}

// The state after every `every` steps and after the last, [(steps + every - 1) / every, batch, nodes, channels].
template <class A, class S>
Tensor forward(const Tensor& x, const Tensor& masks, double share, const Neighbours& n, TensorList t, Index steps,
               Index every) {
  Index batch = x.size(0), nodes = x.size(1), size = nodes * x.size(2);
  Tensor states = empty_in_huge_pages({(steps + every - 1) / every, batch, nodes, x.size(2)}, x.options());
  const A *start = x.const_data_ptr<A>(), *mask = masks.numel() ? masks.const_data_ptr<A>() : nullptr;
  A* to = states.mutable_data_ptr<A>();
  each_sample<A, S>(n, t, share, batch, every, false, [&](const auto& cell, Index b, auto& record, auto& workers) {
    const A* now = start + b * size;
    for (Index step = 0; step < steps; ++step) {
      // Back and forth between two buffers, so that the step whose state is kept writes it in its place.
      Index kept = step / every, last = std::min((kept + 1) * every, steps) - 1;
      A* next = (last - step) % 2 ? record.spare.data() : to + (kept * batch + b) * size;
      cell.forward(now, mask ? mask + (step * batch + b) * nodes : nullptr, next, record, workers);
      now = next;
    }
  });
  return states;
}

// The gradients of the first state and of each of the parameters.
template <class A, class S>
std::vector<Tensor> backward(const Tensor& grad, const Tensor& x, const Tensor& states, const Tensor& masks,
                             double share, const Neighbours& n, TensorList t, Index steps, Index every) {
  Index batch = x.size(0), nodes = x.size(1), size = nodes * x.size(2);
  Tensor grad_x = at::empty_like(x);
  const A *last = grad.const_data_ptr<A>(), *start = x.const_data_ptr<A>(), *kept = states.const_data_ptr<A>();
  const A* mask = masks.numel() ? masks.const_data_ptr<A>() : nullptr;
  A* to = grad_x.mutable_data_ptr<A>();
  auto walk = [&](const auto& cell, Index b, auto& record, auto& workers) {
    auto mask_of = [&](Index step) { return mask ? mask + (step * batch + b) * nodes : nullptr; };
    const A* now = last + b * size;
    for (Index chunk = states.size(0) - 1; chunk >= 0; --chunk) {
      Index first = chunk * every;
      const A* input = chunk ? kept + ((chunk - 1) * batch + b) * size : start + b * size;
      auto state = [&](Index step) { return step == first ? input : record.again.data() + (step - first - 1) * size; };
      Index end = std::min(first + every, steps);
      for (Index step = first; step < end - 1; ++step)
        cell.forward(state(step), mask_of(step), record.again.data() + (step - first) * size, record, workers);
      for (Index step = end - 1; step >= first; --step) {
        A* next = step % 2 ? record.spare.data() : to + b * size;
        cell.backward(state(step), mask_of(step), now, next, record, workers);
        now = next;
      }
    }
  };
  auto workers = each_sample<A, S>(n, t, share, batch, every, true, walk);
  std::vector<Tensor> grads{grad_x};
  for (int i = 0; i < num_parameters; ++i) {
    grads.push_back(at::zeros_like(t[i]));
    A* sum = grads.back().mutable_data_ptr<A>();
    for (const auto& worker : workers)
      for (Index j = 0; j < t[i].numel(); ++j) sum[j] += worker.grads[i].data()[j];
  }
  return grads;
}

Neighbours neighbours(const Tensor& from, const Tensor& to, Index reach) {
  return {from.size(1), from.size(0), from.const_data_ptr<int32_t>(), to.const_data_ptr<int32_t>(), reach};
}

Tensor steps_forward(const Tensor& x, const Tensor& masks, double share, const Tensor& from, const Tensor& to,
                     Index reach, TensorList t, Index steps, Index every, bool narrow) {
  Neighbours n = neighbours(from, to, reach);
  if (x.scalar_type() == at::kDouble) return forward<double, double>(x, masks, share, n, t, steps, every);
  if (narrow) return forward<float, at::BFloat16>(x, masks, share, n, t, steps, every);
  return forward<float, float>(x, masks, share, n, t, steps, every);
}

std::vector<Tensor> steps_backward(const Tensor& grad, const Tensor& x, const Tensor& states, const Tensor& masks,
                                   double share, const Tensor& from, const Tensor& to, Index reach, TensorList t,
                                   Index steps, Index every, bool narrow) {
  Neighbours n = neighbours(from, to, reach);
  if (x.scalar_type() == at::kDouble)
    return backward<double, double>(grad, x, states, masks, share, n, t, steps, every);
  if (narrow) return backward<float, at::BFloat16>(grad, x, states, masks, share, n, t, steps, every);
  return backward<float, float>(grad, x, states, masks, share, n, t, steps, every);
}

}  // namespace
}  // namespace cellgraph

TORCH_LIBRARY_FRAGMENT(cellgraph, library) {
  library.def(
      "gmlp_steps(Tensor x, Tensor masks, float share, Tensor source, Tensor target, int reach, Tensor[] parameters, "
      "int steps, int every, bool narrow) -> Tensor");
  library.def(
      "gmlp_steps_backward(Tensor grad, Tensor x, Tensor states, Tensor masks, float share, Tensor source, "
      "Tensor target, int reach, Tensor[] parameters, int steps, int every, bool narrow) -> Tensor[]");
}

TORCH_LIBRARY_IMPL(cellgraph, CPU, library) {
  library.impl("gmlp_steps", &cellgraph::steps_forward);
  library.impl("gmlp_steps_backward", &cellgraph::steps_backward);
}
