"""Specialisation: what layers and cells encode, read by linear probes beside shuffled-label controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from torch import Tensor

from cellgraph.analysis.embeddings import participation_ratio
from cellgraph.analysis.states import activity
from cellgraph.lattice import Lattice

#: Penalty of the probes, as a share of the mean variance of a feature times the number of examples.
PENALTY = 0.1

#: Share of the power below which a deviation is rounding error: float32 has 1e-7 in amplitude, 1e-14 in power.
RELATIVE_EPS = 1e-10


@dataclass(frozen=True)
class Probe:
    """How well a linear classifier reads a label off some features of questions it was not fitted to.

    Attributes:
        accuracy: Balanced accuracy (mean recall of the classes) over all folds, ``[...]``.
        control: The same with the labels shuffled, once a control, ``[num_controls, ...]``.
        num_classes: Number of classes; one over it is chance.
    """

    accuracy: Tensor
    control: Tensor
    num_classes: int

    @property
    def selectivity(self) -> Tensor:
        """Accuracy less the mean of the controls (Hewitt and Liang 2019, arXiv 1909.03368, section 2), ``[...]``."""
        return self.accuracy - self.control.mean(0)


def folds(labels: Tensor, groups: Sequence[str] | None = None, *, num_folds: int = 5, seed: int = 0) -> list[Tensor]:
    """Held-out rows of each fold, classes in equal shares, all of a group in one fold.

    Of :func:`thin_classes`, which could not be both learned and tested in every fold, the examples are dealt out one by
    one, whatever their group.

    Raises:
        ValueError: If a class has fewer examples than there are folds.
    """
    fewest = int(torch.bincount(labels).min())
    if fewest < num_folds:
        raise ValueError(f"every class needs at least {num_folds} examples, one a fold, got one of {fewest}")
    rows = np.zeros((len(labels), 1))
    thin = thin_classes(labels, groups, num_folds=num_folds)
    if groups is not None and len(thin) <= int(labels.max()):
        # By their names, whose order the folds go by: no text of a group begins with a null.
        names = [f"\0{row}" if own in thin else groups[row] for row, own in enumerate(labels.tolist())]
        grouped = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
        parts = grouped.split(rows, labels.numpy(), names)
        return [torch.from_numpy(test) for _, test in parts]
    plain = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    return [torch.from_numpy(test) for _, test in plain.split(rows, labels.numpy())]


def thin_classes(labels: Tensor, groups: Sequence[str] | None, *, num_folds: int = 5) -> list[int]:
    """Classes that have fewer groups than there are folds; none without groups.

    Example:
        >>> thin_classes(torch.tensor([0, 0, 1, 1]), ["a", "b", "c", "c"], num_folds=2)
        [1]
    """
    if groups is None:
        return []
    spans = Counter(own for own, _ in set(zip(labels.tolist(), groups, strict=True)))
    return sorted(own for own, span in spans.items() if span < num_folds)


def probe(
    x: Tensor,
    labels: Tensor,
    held_out: Sequence[Tensor],
    *,
    num_controls: int = 5,
    penalty: float = PENALTY,
    seed: int = 0,
) -> Probe:
    """Fit ridge classifiers to labels and to shuffled labels, cross-validated, many sets of features at once.

    The classifier is ridge regression to one-hot labels with an intercept; the largest output is the answer.

    Args:
        x: Features.
        labels: Classes from 0 on.
        held_out: Held-out rows of each fold, from :func:`folds`.
        num_controls: How often to shuffle the labels.
        penalty: Share of ``trace(X'X) / width``, of the centred training features, that is added to the diagonal:
            the probe is indifferent to the scale of the features.
        seed: Seed of the shuffling.

    Shapes:
        - **x:** ``[..., num_examples, width]``
        - **labels:** ``[num_examples]``
    """
    num_classes, batch = int(labels.max()) + 1, x.shape[:-2]
    generator = torch.Generator().manual_seed(seed)
    shuffled = [labels[torch.randperm(len(labels), generator=generator)] for _ in range(num_controls)]
    classes = torch.stack([labels, *shuffled])
    targets = torch.nn.functional.one_hot(classes, num_classes).permute(1, 0, 2).flatten(1).to(x.dtype)
    predicted = torch.zeros(*batch, len(labels), len(classes), dtype=torch.long)
    for test in held_out:
        train = torch.ones(len(labels), dtype=torch.bool)
        train[test] = False
        mean = x[..., train, :].mean(-2, keepdim=True)
        apart, offset = x[..., train, :] - mean, targets[train].mean(0)
        gram = apart.mT @ apart
        trace = gram.diagonal(dim1=-2, dim2=-1).mean(-1)
        # Features that do not vary at all leave the offset alone: the most frequent class.
        ridge = (penalty * trace).clamp(min=torch.finfo(x.dtype).tiny ** 0.5)
        gram = gram + ridge[..., None, None] * torch.eye(x.size(-1), dtype=x.dtype)
        weights = torch.cholesky_solve(apart.mT @ (targets[train] - offset), torch.linalg.cholesky(gram))
        scores = (x[..., test, :] - mean) @ weights + offset
        predicted[..., test, :] = scores.unflatten(-1, (-1, num_classes)).argmax(-1)
    right = predicted == classes.T
    recalls = [
        torch.stack([right[..., own == c, k].double().mean(-1) for c in range(num_classes)]).mean(0)
        for k, own in enumerate(classes)
    ]
    return Probe(recalls[0], torch.stack(recalls[1:]), num_classes)


def layer_features(x: Tensor, lattice: Lattice) -> Tensor:
    """States of whole layers as features, rotated into as few dimensions as there are examples.

    Distances and products between examples are those of all the values of a layer, so ridge regression gives the same.

    Shapes:
        - **x:** ``[num_examples, num_nodes, channels]``
        - **output:** ``[num_layers, num_examples, num_examples]``
    """
    features = []
    for layer in range(lattice.shape[0]):
        flat = centred(x[:, lattice.layer == layer].flatten(1)).double()
        values, vectors = torch.linalg.eigh(flat @ flat.T)
        # Directions of rounding errors would be as long as they are arbitrary, and in the order of the examples.
        kept = values > RELATIVE_EPS * values[-1]
        features.append((vectors * torch.where(kept, values, 0.0).sqrt()).to(x.dtype))
    return torch.stack(features)


def centred(x: Tensor) -> Tensor:
    """Features less their mean; zero where all examples agree but for rounding.

    A cell that the question has not reached yet is the same for all questions, but the last bit of its state depends on
    its place in the batch: a probe, indifferent to scale, would read that.

    Shapes:
        - **x**, **output:** ``[..., num_examples, width]``
    """
    apart = x - x.mean(-2, keepdim=True)
    negligible = apart.square().sum((-2, -1)) <= RELATIVE_EPS * x.square().sum((-2, -1))
    return apart.masked_fill(negligible[..., None, None], 0.0)


@dataclass(frozen=True)
class Specialisation:
    """What layers and cells encode.

    Attributes:
        layers: By label, the probe of each step and layer, ``[num_steps + 1, num_layers]``.
        cells: By label, the probe of each cell, ``[num_nodes]``, at the cell's own step.
        step: The step at which each cell's state varies most between questions, ``[num_nodes]``.
        layer_dimensions: Participation ratio of each step and layer, ``[num_steps + 1, num_layers]``.
        cell_dimensions: Participation ratio of each cell at its own step, ``[num_nodes]``.
        class_selectivity: By label, :func:`class_selectivity` of each cell's activity at its own step, ``[num_nodes]``.
    """

    layers: dict[str, Probe]
    cells: dict[str, Probe]
    step: Tensor
    layer_dimensions: Tensor
    cell_dimensions: Tensor
    class_selectivity: dict[str, Tensor]


def specialisation(
    states: Iterator[Tensor],
    lattice: Lattice,
    labels: dict[str, Tensor],
    *,
    groups: Sequence[str] | None = None,
    num_controls: int = 5,
    seed: int = 0,
) -> Specialisation:
    """Probe every layer at every step, and every cell at the step at which its state varies most.

    Args:
        states: States step by step, from :func:`~cellgraph.analysis.states.walk`.
        lattice: The lattice.
        labels: By name, the class of each question, -1 for questions that have none.
        groups: Group of each question; no group is both learned from and tested on, but for :func:`thin_classes`.
        num_controls: How often labels are shuffled.
        seed: Seed of folds and shuffling.

    Shapes:
        - **each state:** ``[num_questions, num_nodes, channels]``
        - **each label:** ``[num_questions]``
    """
    kept = {name: own >= 0 for name, own in labels.items()}
    held_out = {}
    for name, rows in kept.items():
        own = None if groups is None else [group for group, keep in zip(groups, rows.tolist(), strict=True) if keep]
        held_out[name] = folds(labels[name][rows], own, seed=seed)
    by_step: dict[str, list[Probe]] = {name: [] for name in labels}
    dimensions: list[Tensor] = []
    varies, best, step_of = torch.zeros(()), torch.empty(0), torch.empty(0)
    for step, x in enumerate(states):
        features = layer_features(x, lattice)
        dimensions.append(participation_ratio(features))
        for name, rows in kept.items():
            found = probe(features[:, rows], labels[name][rows], held_out[name], num_controls=num_controls, seed=seed)
            by_step[name].append(found)
        variance = x.var(0).sum(-1)
        if step == 0:
            varies, best, step_of = variance, x.clone(), torch.zeros(x.size(1), dtype=torch.long)
            continue
        more = variance > varies
        varies = torch.where(more, variance, varies)
        best[:, more], step_of[more] = x[:, more], step
    by_cell = centred(best.transpose(0, 1))
    cells = {
        name: probe(by_cell[:, rows], labels[name][rows], held_out[name], num_controls=num_controls, seed=seed)
        for name, rows in kept.items()
    }
    layers = {
        name: Probe(
            torch.stack([found.accuracy for found in steps]),
            torch.stack([found.control for found in steps], dim=1),
            steps[0].num_classes,
        )
        for name, steps in by_step.items()
    }
    active = activity(best)
    selective = {name: class_selectivity(active[rows], labels[name][rows]) for name, rows in kept.items()}
    return Specialisation(layers, cells, step_of, torch.stack(dimensions), participation_ratio(by_cell), selective)


def class_selectivity(activity: Tensor, labels: Tensor) -> Tensor:
    r"""How much more active each cell is for its favourite class (Morcos et al. 2018, arXiv 1803.06959, section 2.3).

    .. math:: \frac{\mu_{\max} - \mu_{-\max}}{\mu_{\max} + \mu_{-\max}}

    with the mean activity for the favourite class and the mean of the other classes' means: 0 for a cell that treats
    all alike, 1 for one that is active for one class alone.

    Shapes:
        - **activity:** ``[num_examples, num_nodes]``, not negative
        - **labels:** ``[num_examples]``
        - **output:** ``[num_nodes]``; 0 for a cell that is never active
    """
    means = torch.stack([activity[labels == c].mean(0) for c in range(int(labels.max()) + 1)])
    largest = means.amax(0)
    others = (means.sum(0) - largest) / (len(means) - 1)
    return torch.where(largest > 0, (largest - others) / (largest + others), 0.0)
