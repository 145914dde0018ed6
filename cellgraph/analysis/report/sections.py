"""Sections of a study: each measures one thing and gives its figures as plain types beside what is to be drawn."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from cellgraph.analysis.ablation import AblationCost, ablation_costs, block_regions, layer_regions
from cellgraph.analysis.embeddings import (
    CosineMatrix,
    Projection,
    cosine_matrix,
    has_umap,
    participation_ratio,
    project,
)
from cellgraph.analysis.influence import (
    Spread,
    colouring,
    direction_influence,
    distances,
    influence,
    lateral_distances,
    receptive_radius,
    spread,
)
from cellgraph.analysis.labels import frequent, question_types, topics
from cellgraph.analysis.metrics import ranks, reciprocal_ranks
from cellgraph.analysis.patterns import (
    Clusters,
    Comparison,
    against_shuffled,
    cluster_cells,
    oscillation,
    relative_changes,
    statistics,
    wave,
)
from cellgraph.analysis.specialisation import Specialisation, folds, probe, specialisation
from cellgraph.analysis.states import activity, new_network, walk
from cellgraph.data import QAPair
from cellgraph.model import CellGraph

#: Figures by name, nested, as plain types.
Figures = dict[str, Any]

EVERYTHING, ALL_BUT_TRANSPORT = "all weights shuffled", "all weights but the transport shuffled"


@dataclass(frozen=True)
class Effort:
    """How much a study measures.

    Attributes:
        projected: Pairs that are laid out on a plane.
        probed: Questions whose states are probed.
        min_count: Questions that a label needs to be probed for.
        controls: Shuffles of the labels.
        ablated: Questions asked of each ablated network.
        kinds: Ways of ablation.
        tangents: Largest number of derivatives for the influence; fewer input cells are looked at where more would be
            needed.
        sources: Input cells whose spread is followed through the lattice.
        shuffles: Networks with shuffled weights, of each kind.
        beyond: Steps for which cells are watched after a rollout.
    """

    projected: int = 200
    probed: int = 250
    min_count: int = 20
    controls: int = 5
    ablated: int = 16
    kinds: tuple[str, ...] = ("silent", "passive")
    tangents: int = 128
    sources: int = 3
    shuffles: int = 99
    beyond: int = 24


QUICK = Effort(
    projected=60,
    probed=60,
    min_count=8,
    controls=2,
    ablated=3,
    kinds=("silent",),
    tangents=16,
    sources=1,
    shuffles=19,
    beyond=12,
)


def evenly(total: int, count: int) -> Tensor:
    """``count`` of ``total`` indices, or all of them, evenly spaced: pairs lie in the order of their groups."""
    return torch.arange(min(count, total)) * total // min(count, total)


def network_section(model: CellGraph, num_pairs: int) -> Figures:
    """What the network is."""
    lattice = model.lattice
    return {
        "shape": list(lattice.shape),
        "neighbourhood": lattice.neighbourhood,
        "cells": lattice.num_nodes,
        "edges": lattice.num_edges,
        "channels": model.cell.channels,
        "surface_channels": model.input_surface.channels,
        "num_steps": model.num_steps[1],
        "parameters": model.parameter_counts(),
        "held_out_pairs": num_pairs,
    }


@torch.no_grad()
def embeddings_section(
    model: CellGraph, question: Tensor, answer: Tensor, *, seed: int
) -> tuple[Figures, list[Projection], dict[str, CosineMatrix]]:
    """Cosines before and after the lattice, and all embeddings on a plane."""
    adapters = model.answer_adapter.decode(model.question_adapter.encode(question))
    predicted = torch.cat([model(part).embedding for part in question.split(2)])
    systems = {"question": question, "adapters": adapters, "lattice": predicted}
    cosines = {name: cosine_matrix(x, answer) for name, x in systems.items()}
    target = torch.arange(len(answer))
    methods = ("pca", "tsne", "umap") if has_umap() else ("pca", "tsne")
    projections = [project(torch.cat([question, predicted, answer]), method, seed=seed) for method in methods]
    figures = {
        "pairs": len(answer),
        "pca_explained": list(projections[0].explained or ()),
        "cosines": {
            name: {
                "own": matrix.own,
                "other": matrix.other,
                "contrast": matrix.contrast,
                "mrr": float(reciprocal_ranks(ranks(systems[name], answer, target)).mean()),
                "dimensions": float(participation_ratio(systems[name])),
            }
            for name, matrix in cosines.items()
        },
        "answer_dimensions": float(participation_ratio(answer)),
        "adapters_to_lattice": float(torch.nn.functional.cosine_similarity(adapters, predicted).mean()),
    }
    return figures, projections, cosines


def specialisation_section(
    model: CellGraph, pairs: Sequence[QAPair], question: Tensor, *, effort: Effort, seed: int
) -> tuple[Figures, Specialisation | None]:
    """What layers and cells encode; ``None`` where no label has two frequent classes."""
    both = {"topic": topics(pairs, min_count=effort.min_count), "question type": question_types(pairs)}
    numbered = {name: frequent(own, min_count=effort.min_count) for name, own in both.items()}
    labels = {name: numbers for name, (numbers, classes) in numbered.items() if len(classes) > 1}
    figures: Figures = {"questions": len(pairs), "labels": {}}
    if not labels:
        return figures, None
    groups = [pair.topic for pair in pairs]
    states = walk(model, question)
    found = specialisation(states, model.lattice, labels, groups=groups, num_controls=effort.controls, seed=seed)
    for name, own in labels.items():
        rows = own >= 0
        held_out = folds(own[rows], [groups[i] for i in rows.nonzero()], seed=seed)
        before = probe(question[rows], own[rows], held_out, num_controls=effort.controls, seed=seed)
        layers, cells = found.layers[name], found.cells[name]
        step, layer = divmod(int(layers.accuracy.argmax()), layers.accuracy.size(1))
        figures["labels"][name] = {
            "classes": numbered[name][1],
            "questions": int(rows.sum()),
            "chance": 1 / before.num_classes,
            "embedding": float(before.accuracy),
            "layers": layers.accuracy.tolist(),
            "best": {"accuracy": float(layers.accuracy.max()), "step": step, "layer": layer},
            "control_mean": float(layers.control.mean()),
            "control_largest": float(layers.control.max()),
            "cells_mean": float(cells.accuracy.mean()),
            "cells_best": float(cells.accuracy.max()),
            "cells_control_mean": float(cells.control.mean()),
            "cells_selectivity": _range(cells.selectivity),
            "class_selectivity": _range(found.class_selectivity[name]),
        }
    figures["layer_dimensions"] = found.layer_dimensions.tolist()
    figures["cell_dimensions"] = _range(found.cell_dimensions)
    return figures, found


def ablation_section(
    model: CellGraph,
    question: Tensor,
    answer: Tensor,
    *,
    effort: Effort,
    progress: Callable[[float], None],
) -> tuple[Figures, list[AblationCost]]:
    """What it costs to take out each layer and each of the blocks through all layers."""
    regions = layer_regions(model.lattice)
    if model.lattice.dim > 1 and min(model.lattice.shape[1:]) >= 3:
        regions |= block_regions(model.lattice)
    asked = evenly(len(answer), effort.ablated)
    others = torch.ones(len(answer), dtype=torch.bool)
    others[asked] = False
    bank = torch.cat([answer[asked], answer[others]])
    costs = []
    for name, region in regions.items():
        costs += ablation_costs(model, question[asked], answer[asked], {name: region}, effort.kinds, candidates=bank)
        progress(1 / len(regions))
    return {"questions": len(asked), "candidates": len(bank), "costs": [asdict(cost) for cost in costs]}, costs


@dataclass(frozen=True)
class Flow:
    """Who hears whom.

    Attributes:
        inputs: Nodes of the input surface.
        sources: Those of them looked at in ``influence``.
        influence: ``[num_sources, num_output_cells]``.
        spread: How some input cells are felt in all others.
        directions: Influence by step and direction, ``[num_steps, num_directions + 1]``.
    """

    inputs: Tensor
    sources: Tensor
    influence: Tensor
    spread: Spread
    directions: Tensor


def influence_section(model: CellGraph, question: Tensor, *, effort: Effort, seed: int) -> tuple[Figures, Flow]:
    """Influence from input to output, its way through the lattice, and who is heard at each step."""
    inputs, outputs, num_steps = model.input_surface.index, model.output_surface.index, model.num_steps[1]
    everywhere = distances(model.lattice, inputs)
    apart = everywhere[:, outputs]
    reached = (apart >= 0) & (apart <= num_steps)
    count = len(inputs)
    while count > 1 and _num_tangents(model, reached[evenly(len(inputs), count)]) > effort.tangents:
        count = max(1, count * 2 // 3)
    chosen = evenly(len(inputs), count)
    felt = influence(model, question, inputs[chosen])
    followed = chosen[evenly(len(chosen), effort.sources)] if effort.sources > 1 else torch.tensor([len(inputs) // 2])
    # Off the straight way float32 would round to nothing what is felt a little.
    follow = spread(copy.deepcopy(model).double(), question.double(), inputs[followed])
    directions = direction_influence(model, question, probes=1, generator=torch.Generator().manual_seed(seed))
    hops = everywhere[followed]
    arrived = follow.arrival()
    in_time = (hops >= 0) & (hops <= num_steps)
    radius = receptive_radius(felt, lateral_distances(model)[chosen])
    heard = ~radius.isnan()
    figures = {
        "input_cells": len(inputs),
        "output_cells": len(outputs),
        "input_cells_looked_at": len(chosen),
        "pairs_in_reach": int(reached.sum()),
        "pairs": reached.numel(),
        "inputs_heard_by_an_output": _range(reached.sum(0).double()),
        "influence_in_reach": float(felt[reached[chosen]].mean()) if reached[chosen].any() else math.nan,
        "largest": float(felt.max()),
        "receptive_radius": float(radius[heard].mean()) if heard.any() else math.nan,
        "cells_followed": len(followed),
        "arrivals": int((arrived >= 0).sum()),
        "arrivals_at_graph_distance": int(((arrived == hops) & in_time).sum()),
        "cells_in_time": int(in_time.sum()),
        "arrivals_out_of_reach": int(((arrived >= 0) & ~in_time).sum()),
        "directions": directions.tolist(),
    }
    return figures, Flow(inputs, inputs[chosen], felt, follow, directions)


def _num_tangents(model: CellGraph, reached: Tensor) -> int:
    return (int(colouring(reached).max()) + 1) * model.input_surface.channels


@dataclass(frozen=True)
class Patterns:
    """What the cells do together.

    Attributes:
        clusters: Cells by their activity.
        late: States of the question after the rollout, ``[beyond + 1, num_nodes, channels]``.
        changes: Of the trained and of a new network, the relative change of each step.
        comparisons: By kind of shuffling.
        new: The statistics of a new network.
    """

    clusters: Clusters
    late: Tensor
    changes: dict[str, Tensor]
    comparisons: dict[str, Comparison]
    new: dict[str, float]


def patterns_section(
    model: CellGraph, question: Tensor, *, effort: Effort, seed: int, progress: Callable[[float], None]
) -> tuple[Figures, Patterns]:
    """Clusters, waves, fixed points and oscillations, beside shuffled and new networks."""
    num_steps = model.num_steps[1]
    fresh = new_network(model, seed=seed)
    measure = functools.partial(statistics, question=question[None], beyond=effort.beyond)
    walked = torch.stack([x[0] for x in walk(model, question[None], num_steps=num_steps + effort.beyond)])
    anew = walk(fresh, question[None], num_steps=num_steps + effort.beyond)
    changes = {"trained": relative_changes(iter(walked)), "new": relative_changes(anew)}
    curves, late = activity(walked[: num_steps + 1]).T, walked[num_steps:]
    clusters = cluster_cells(curves, seed=seed)
    correlation, speed = wave(curves, model.lattice.hops(model.input_surface.mask))
    comparisons = {
        name: against_shuffled(
            measure,
            model,
            num_shuffles=effort.shuffles,
            keep=keep,
            seed=seed,
            progress=lambda: progress(0.5 / effort.shuffles),
        )
        for name, keep in ((EVERYTHING, ()), (ALL_BUT_TRANSPORT, ("transport",)))
    }
    new = measure(fresh)
    figures = {
        "clusters": {
            "count": len(clusters.centres),
            "cells": torch.bincount(clusters.labels).tolist(),
            "silhouette": clusters.silhouette,
        },
        "wave": {"correlation": correlation, "cells_per_step": speed},
        "relative_change": {name: change.tolist() for name, change in changes.items()},
        "oscillating_cells": int((oscillation(late)[0] > 0.5).sum()),
        "shuffles": effort.shuffles,
        "observed": comparisons[EVERYTHING].observed,
        "new": new,
        "against": {name: _comparison(comparison) for name, comparison in comparisons.items()},
    }
    return figures, Patterns(clusters, late, changes, comparisons, new)


def _comparison(comparison: Comparison) -> dict[str, dict[str, float | None]]:
    rows: dict[str, dict[str, float | None]] = {}
    for name, null in comparison.null.items():
        finite = null[torch.isfinite(null)]
        rows[name] = {
            "p": comparison.p[name],
            "q": comparison.q[name],
            "mean": float(finite.mean()) if len(finite) else None,
            "std": float(finite.std()) if len(finite) > 1 else None,
            "diverged": int((~torch.isfinite(null)).sum()),
        }
    return rows


def _range(values: Tensor) -> dict[str, float]:
    return {"mean": float(values.mean()), "least": float(values.min()), "most": float(values.max())}
