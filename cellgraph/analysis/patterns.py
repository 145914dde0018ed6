"""Patterns: clusters, waves, fixed points and oscillations of the cells, against networks with shuffled weights."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import false_discovery_control
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from torch import Tensor

from cellgraph.analysis.states import activity, walk
from cellgraph.lattice import Lattice
from cellgraph.model import CellGraph

#: Statistics of a network by name, and whether more of it is more of a pattern.
STATISTICS = {
    "clusters": "silhouette of the best clustering of the cells' activity over time",
    "wave": "correlation of the step of a cell's largest change with its distance from the input",
    "settling": "minus the logarithm (base 10) of the relative change in the last step",
    "oscillation": "share of the power in the strongest frequency, after the transient",
    "smoothness": "Moran's I of the final activity: are neighbours alike?",
}


@dataclass(frozen=True)
class Clusters:
    """Cells grouped by what they do over time.

    Attributes:
        labels: Cluster of each cell, ``[num_nodes]``, the largest cluster first.
        centres: Mean activity of each cluster over the steps, ``[num_clusters, num_steps + 1]``.
        silhouette: Mean silhouette (Rousseeuw 1987), from -1 to 1: how much nearer cells are to their own cluster than
            to the next.
    """

    labels: Tensor
    centres: Tensor
    silhouette: float


def cluster_cells(curves: Tensor, *, most: int = 6, sample: int = 500, seed: int = 0) -> Clusters:
    """Group cells by their activity over time with k-means, the number of groups by the silhouette.

    Args:
        curves: Activity of each cell at each step, ``[num_nodes, num_steps + 1]``.
        most: Largest number of groups tried.
        sample: Cells that the silhouette is measured on.
        seed: Seed of k-means and of the sample.
    """
    x = curves.double().numpy()
    distinct = len(np.unique(x, axis=0))
    best, labels = 0.0, np.zeros(len(x), dtype=int)
    for k in range(2, min(most, distinct - 1) + 1):
        found = KMeans(k, n_init=1, random_state=seed).fit_predict(x)
        size = min(sample, len(x))
        rows = np.random.default_rng(seed).permutation(len(x))[:size]
        if 1 < len(np.unique(found[rows])) < size:
            score = float(silhouette_score(x[rows], found[rows]))
            if score > best:
                best, labels = score, found
    order = np.argsort(-np.bincount(labels), kind="stable")
    ranked = torch.from_numpy(np.argsort(order)[labels])
    centres = torch.stack([curves[ranked == c].mean(0) for c in range(len(order))])
    return Clusters(ranked, centres, best)


def wave(curves: Tensor, distance: Tensor) -> tuple[float, float]:
    """Whether activity travels outwards: does what is further away change later?

    Args:
        curves: Activity of each cell at each step, ``[num_nodes, num_steps + 1]``.
        distance: Graph distance of each cell from the input, ``[num_nodes]``, -1 for cells out of reach.

    Returns:
        The correlation of the step of a cell's largest change with its distance, over the cells that change at all,
        and the speed of the wave in cells a step (least squares of distance on step). Both 0 where all cells change
        at one step or lie at one distance.
    """
    change = curves.diff(dim=1).abs()
    moved = (change.amax(1) > 0) & (distance >= 0)
    step, far = change.argmax(1)[moved].double(), distance[moved].double()
    if len(step) < 2 or step.var() == 0 or far.var() == 0:
        return 0.0, 0.0
    covariance = ((step - step.mean()) * (far - far.mean())).mean()
    correlation = covariance / (step.var(correction=0) * far.var(correction=0)).sqrt()
    return float(correlation), float(covariance / step.var(correction=0))


def relative_changes(states: Iterator[Tensor]) -> Tensor:
    """Size of each step relative to the state before it: ``[num_steps]``; falling to 0 is a fixed point."""
    before = next(states)
    changes = []
    for x in states:
        changes.append((x - before).norm() / before.norm().clamp(min=torch.finfo(x.dtype).tiny))
        before = x
    return torch.stack(changes)


def spectrum(series: Tensor) -> tuple[Tensor, Tensor]:
    """Power of time series by frequency, their linear trend taken out, under a Hann window.

    Shapes:
        - **series:** ``[num_steps, ...]``
        - **output:** frequencies ``[num_steps // 2 + 1]``, in cycles a step; power ``[num_steps // 2 + 1, ...]``
    """
    steps = len(series)
    x = series
    time = torch.arange(steps, dtype=x.dtype) - (steps - 1) / 2
    time = time.reshape(-1, *[1] * (x.dim() - 1))
    x = x - x.mean(0) - time * (time * x).sum(0) / time.square().sum()
    window = torch.hann_window(steps, dtype=x.dtype).reshape(time.shape)
    return torch.fft.rfftfreq(steps), torch.fft.rfft(x * window, dim=0).abs().square()


def oscillation(series: Tensor) -> tuple[Tensor, Tensor]:
    """Whether cells oscillate: the share of the power in the strongest frequency, and its period.

    A frequency is a peak where neither neighbour has more power, and it counts with these two, over which the window
    spreads a pure tone. Fewer than two cycles are drift: they count to the whole, but are no peak; nor is a spectrum
    that only falls, as that of a decay does.

    Shapes:
        - **series:** ``[num_steps, num_nodes, channels]``, the powers of the channels added up
        - **output:** share ``[num_nodes]``, 0 for a cell without a peak; period ``[num_nodes]``, in steps
    """
    frequency, power = spectrum(series)
    power = power.sum(-1)
    total = power[1:].sum(0)
    # A state that only drifts on a line leaves rounding errors, which are no oscillation.
    still = total <= 1e-10 * series.square().sum((0, 2))
    below, here, above = power[1:-1], power[2:], torch.nn.functional.pad(power[3:], (0, 0, 0, 1))
    if not len(here):
        return torch.zeros_like(total), torch.full_like(total, torch.nan)
    peaks = torch.where((here >= below) & (here >= above) & ~still, below + here + above, 0.0)
    share, best = peaks.max(0)
    return torch.where(share > 0, share / total, 0.0), 1 / frequency[best + 2]


def morans_i(values: Tensor, lattice: Lattice) -> float:
    r"""Moran's I (Moran 1950): the correlation of neighbouring cells, 0 where values do not vary.

    .. math::
        I = \frac{N}{|E|} \frac{\sum_{(i,j) \in E} z_i z_j}{\sum_i z_i^2}, \qquad z = v - \bar v

    Shapes:
        - **values:** ``[num_nodes]``
    """
    z = values.double() - values.double().mean()
    source, target = lattice.edge_index
    power = float(z.square().sum())
    if power <= 1e-18 * float(values.double().square().sum()) or not lattice.num_edges:
        return 0.0
    return len(z) / lattice.num_edges * float((z[source] * z[target]).sum()) / power


def statistics(model: CellGraph, question: Tensor, *, beyond: int = 24) -> dict[str, float]:
    """The figures of :data:`STATISTICS` for a network; more of each is more of a pattern.

    Activity within a rollout gives the clusters and the wave, its final state the smoothness; the steps beyond it show
    whether the cells settle or oscillate. A network that diverges has settled least of all (minus infinity) and
    oscillates by NaN.

    Args:
        model: The network, in evaluation mode.
        question: Question embeddings, ``[batch, in_features]``; curves are means over them.
        beyond: Steps to walk on after a rollout.
    """
    num_steps = model.num_steps[1]
    curves, late = [], []
    for step, x in enumerate(walk(model, question, num_steps=num_steps + beyond)):
        if step <= num_steps:
            curves.append(activity(x).mean(0))
        if step >= num_steps:
            late.append(x)
        if not bool(torch.isfinite(activity(x)).all()):
            break
    curve = torch.stack(curves, dim=1)
    found = dict.fromkeys(STATISTICS, math.nan)
    if bool(torch.isfinite(curve).all()):
        found["clusters"] = cluster_cells(curve).silhouette
        found["wave"] = wave(curve, model.lattice.hops(model.input_surface.mask))[0]
        found["smoothness"] = morans_i(curve[:, -1], model.lattice) if len(curves) > num_steps else math.nan
    found["settling"] = -math.inf
    if step == num_steps + beyond and bool(torch.isfinite(activity(x)).all()):
        change = float(relative_changes(iter(late[-2:])))
        found["settling"] = -math.log10(max(change, torch.finfo(x.dtype).eps))
        # Each question's by itself: oscillations out of step would cancel.
        found["oscillation"] = float(oscillation(torch.stack(late).flatten(1, 2))[0].mean())
    return found


def shuffled(model: CellGraph, *, keep: Sequence[str] = (), generator: torch.Generator | None = None) -> CellGraph:
    """A copy of a network with the entries of each weight tensor of its cell permuted.

    Args:
        model: The network.
        keep: Names of the cell's parameters that stay as they are, such as ``"transport"``.
        generator: Source of the permutations.
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in model.cell.named_parameters():
            if name not in keep:
                weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=generator)].view_as(weight))
    return model


class Probability(NamedTuple):
    """A probability by chance, and the same with the false discovery rate held."""

    p: float
    q: float


@dataclass(frozen=True)
class Comparison:
    """A network's statistics beside those of shuffled ones.

    Attributes:
        observed: By name, the statistic of the network.
        null: By name, those of the shuffled networks, ``[num_shuffles]``; NaN where one diverged.
        more: By name, :func:`permutation_p` of as much of it or more, and the same with the false discovery rate held
            over all the statistics and both sides (Benjamini and Hochberg 1995).
        less: The same of as little of it or less.
    """

    observed: dict[str, float]
    null: dict[str, Tensor]
    more: dict[str, Probability]
    less: dict[str, Probability]


def against_shuffled(
    statistic: Callable[[CellGraph], dict[str, float]],
    model: CellGraph,
    *,
    num_shuffles: int = 99,
    keep: Sequence[str] = (),
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Comparison:
    """Compare a network with copies whose weights are shuffled: is the pattern in the weights or in the lattice?

    Args:
        statistic: Gives the figures of a network.
        model: The network.
        num_shuffles: Number of copies; the smallest p there can be is one over it plus one.
        keep: See :func:`shuffled`.
        seed: Seed of the shuffling.
        progress: Called after each copy.

    Raises:
        ValueError: If there is not at least one shuffle.
    """
    if num_shuffles < 1:
        raise ValueError(f"a comparison needs at least 1 shuffle, got {num_shuffles}")
    generator = torch.Generator().manual_seed(seed)
    observed = statistic(model)
    rows = []
    for _ in range(num_shuffles):
        rows.append(statistic(shuffled(model, keep=keep, generator=generator)))
        progress()
    null = {name: torch.tensor([row[name] for row in rows], dtype=torch.double) for name in observed}
    more = [permutation_p(observed[name], null[name]) for name in observed]
    less = [permutation_p(-observed[name], -null[name]) for name in observed]
    both = map(Probability, more + less, map(float, false_discovery_control(more + less)))
    sides = [dict(zip(observed, itertools.islice(both, len(observed)), strict=True)) for _ in range(2)]
    return Comparison(observed, null, *sides)


def permutation_p(observed: float, null: Tensor) -> float:
    r"""Probability of a value as large by chance (Phipson and Smyth 2010, arXiv 1603.05766).

    .. math:: p = \frac{1 + \#\{\mathrm{null} \ge \mathrm{observed}\}}{1 + n}

    A null value that is not a number, of a network that diverged, counts as larger; so does all of it where the
    observed value is none.

    Example:
        >>> permutation_p(3.0, torch.tensor([1.0, 2.0, 3.0]))
        0.5
    """
    return (1 + int((~(null < observed)).sum())) / (1 + len(null))
