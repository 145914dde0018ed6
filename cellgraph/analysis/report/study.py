"""The study behind a report: everything that is measured of a trained network, before it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from cellgraph.analysis.ablation import AblationCost
from cellgraph.analysis.dynamics import Stencil, courses, stencil_weights
from cellgraph.analysis.embeddings import CosineMatrix, Projection
from cellgraph.analysis.plots import Curve
from cellgraph.analysis.report.sections import (
    Effort,
    Flow,
    Patterns,
    ablation_section,
    embeddings_section,
    evenly,
    influence_section,
    network_section,
    patterns_section,
    specialisation_section,
)
from cellgraph.analysis.specialisation import Specialisation
from cellgraph.analysis.states import walk
from cellgraph.data import QAPair
from cellgraph.model import CellGraph

#: Stages of a study as its progress is told, and their share of the time.
STAGES = {"embeddings": 20, "cube": 3, "specialisation": 35, "ablation": 35, "influence": 20, "shuffled weights": 65}


@dataclass(frozen=True)
class Study:
    """All that was measured.

    Attributes:
        summary: Every figure of the report as plain types, what ``report.json`` holds.
        projections: Embeddings on a plane: the questions, then what the lattice predicts, then the answers.
        projected: The pairs of these, by their place among the held-out ones.
        cosines: Cosines with the answers of the raw questions, of what the adapters say without the cube, and of what
            the lattice says.
        shown: The pair whose question is followed.
        trajectory: States of that question, ``[num_steps + 1, num_nodes, channels]``.
        varying: Standard deviation of each cell's state between questions at each step (root mean square over the
            channels), ``[num_steps + 1, num_nodes]``.
        specialisation: What layers and cells encode; ``None`` where there was no label to probe for.
        costs: Ablations.
        flow: Influence.
        patterns: Patterns.
        curves: What training logged.
        stencil: Weights of the neighbour sums.
    """

    summary: dict[str, Any]
    projections: list[Projection]
    projected: Tensor
    cosines: dict[str, CosineMatrix]
    shown: QAPair
    trajectory: Tensor
    varying: Tensor
    specialisation: Specialisation | None
    costs: list[AblationCost]
    flow: Flow
    patterns: Patterns
    curves: Mapping[str, Curve]
    stencil: Stencil


def study(
    model: CellGraph,
    pairs: Sequence[QAPair],
    question: Tensor,
    answer: Tensor,
    curves: Mapping[str, Curve],
    *,
    effort: Effort | None = None,
    seed: int = 0,
    progress: Callable[[str, float], None] = lambda stage, share: None,
) -> Study:
    """Measure a trained network on held-out pairs.

    Args:
        model: The network, in evaluation mode.
        pairs: The held-out pairs.
        question: Their question embeddings, ``[num_pairs, teacher_width]``.
        answer: Their answer embeddings, ``[num_pairs, teacher_width]``.
        curves: What training logged, from :func:`~cellgraph.analysis.plots.read_metrics`.
        effort: How much to measure; the default is a full report.
        seed: Seed of everything random.
        progress: Called with the stage and the share of it that was done.

    Raises:
        ValueError: If there are fewer than three pairs.
    """
    if len(pairs) < 3:
        raise ValueError(f"a report needs at least 3 held-out pairs, got {len(pairs)}")
    effort = effort or Effort()

    projected = evenly(len(pairs), effort.projected)
    embeddings, projections, cosines = embeddings_section(model, question[projected], answer[projected], seed=seed)
    progress("embeddings", 1.0)

    shown = len(pairs) // 2
    trajectory = torch.stack([x[0] for x in walk(model, question[shown : shown + 1])])
    between = evenly(len(pairs), min(effort.probed, 32))
    varying = torch.stack([x.std(0).square().mean(-1).sqrt() for x in walk(model, question[between])])
    progress("cube", 1.0)

    probed = evenly(len(pairs), effort.probed)
    encoded, specialised = specialisation_section(
        model, [pairs[i] for i in probed], question[probed], effort=effort, seed=seed
    )
    progress("specialisation", 1.0)

    ablation, costs = ablation_section(
        model, question, answer, effort=effort, progress=lambda share: progress("ablation", share)
    )
    influence, flow = influence_section(model, question[shown], effort=effort, seed=seed)
    progress("influence", 1.0)

    together, patterns = patterns_section(
        model,
        question[shown],
        effort=effort,
        seed=seed,
        progress=lambda share: progress("shuffled weights", share),
    )
    stencil = stencil_weights(model)
    summary = {
        "network": network_section(model, len(pairs)),
        "embeddings": embeddings,
        "specialisation": encoded,
        "ablation": ablation,
        "influence": influence,
        "patterns": together,
        "dynamics": {name: asdict(course) for name, course in courses(curves).items()},
        "stencil": {
            "offsets": stencil.offsets.tolist(),
            "transport": stencil.transport.tolist(),
            "transport_before": stencil.transport_before.tolist(),
            "gate": stencil.gate.tolist(),
        },
    }
    return Study(
        summary=summary,
        projections=projections,
        projected=projected,
        cosines=cosines,
        shown=pairs[shown],
        trajectory=trajectory,
        varying=varying,
        specialisation=specialised,
        costs=costs,
        flow=flow,
        patterns=patterns,
        curves=curves,
        stencil=stencil,
    )
