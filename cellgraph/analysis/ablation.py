"""Ablation: what it costs to take a layer or a region out of the lattice."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cellgraph.analysis.states import CHUNK_SIZE, advance, initial_state
from cellgraph.lattice import Lattice
from cellgraph.model import CellGraph
from cellgraph.retrieval.metrics import cosine, ranks, reciprocal_ranks

#: ``silent``: the region's cells hold zero. ``passive``: they pass states on, but compute nothing.
KINDS = ("silent", "passive")


@dataclass(frozen=True)
class AblationCost:
    """What a region is worth.

    Attributes:
        name: The region.
        kind: One of :data:`KINDS`.
        num_cells: Number of cells taken out.
        loss: Rise of the mean cosine distance, 1 - cos, to the true answer, both centred on the mean of all answers.
        mrr: Fall of the mean reciprocal rank of the true answer among all answers given.
    """

    name: str
    kind: str
    num_cells: int
    loss: float
    mrr: float


def layer_regions(lattice: Lattice) -> dict[str, Tensor]:
    """The layers along the first axis, by name, as node masks."""
    return {f"layer {layer}": lattice.layer == layer for layer in range(lattice.shape[0])}


def block_regions(lattice: Lattice, parts: int = 3) -> dict[str, Tensor]:
    """Blocks through the whole depth, ``parts`` along each of the other axes, by their indices, as node masks.

    Raises:
        ValueError: If the lattice has one dimension only or an axis is shorter than ``parts``.
    """
    if lattice.dim < 2 or min(lattice.shape[1:]) < parts:
        raise ValueError(f"cannot cut the axes after the first of {lattice.shape} into {parts} parts")
    place = lattice.positions[:, 1:] * parts // torch.tensor(lattice.shape[1:])
    blocks = itertools.product(range(parts), repeat=lattice.dim - 1)
    masks = {f"block {', '.join(map(str, block))}": (place == torch.tensor(block)).all(1) for block in blocks}
    return {name: mask for name, mask in masks.items() if mask.any()}


@torch.no_grad()
def ablated(model: CellGraph, question: Tensor, region: Tensor, kind: str = "silent") -> Tensor:
    """Predicted answers of a network whose region is out of order.

    Args:
        model: The network, in evaluation mode.
        question: Question embeddings, ``[batch, in_features]``.
        region: Node mask, ``[num_nodes]``.
        kind: ``"silent"``: the state of the region's cells is zero at all steps, so that nothing passes through;
            ``"passive"``: they take part in the linear transport only, without the gated update.

    Raises:
        ValueError: If the kind is unknown or the mask does not fit the lattice.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    inside = model.lattice.node_mask(region, "region")[:, None]
    return torch.cat([_ablated(model, part, inside, kind) for part in question.split(CHUNK_SIZE)])


def ablation_costs(
    model: CellGraph,
    question: Tensor,
    answer: Tensor,
    regions: Mapping[str, Tensor],
    kinds: Sequence[str] = KINDS,
    *,
    candidates: Tensor | None = None,
) -> list[AblationCost]:
    """Loss and retrieval without each region, less those of the whole network.

    Args:
        model: The network, in evaluation mode.
        question: Question embeddings, ``[num_pairs, in_features]``.
        answer: Their true answers, ``[num_pairs, in_features]``.
        regions: Node masks by name.
        kinds: Ways to take a region out.
        candidates: Answers to retrieve from, the true ones first; the true ones alone by default.
    """
    bank = answer if candidates is None else candidates
    nowhere = torch.zeros(model.lattice.num_nodes, dtype=torch.bool)
    loss, mrr = _scores(ablated(model, question, nowhere), answer, bank)
    costs = []
    for kind, (name, region) in itertools.product(kinds, regions.items()):
        without_loss, without_mrr = _scores(ablated(model, question, region, kind), answer, bank)
        costs.append(AblationCost(name, kind, int(region.sum()), without_loss - loss, mrr - without_mrr))
    return costs


def _ablated(model: CellGraph, question: Tensor, region: Tensor, kind: str) -> Tensor:
    cell, num_steps = model.cell, model.num_steps[1]
    transport = cell.transport.index_select(1, cell.layer) if cell.sharing == "layer" else cell.transport
    x = initial_state(model, question)
    x = x.masked_fill(region, 0.0) if kind == "silent" else x
    for _ in range(num_steps):
        after = advance(model, x)
        if kind == "silent":
            x = after.masked_fill(region, 0.0)
        else:
            moved = x + cell.dynamics.share() * cell.neighbour_sum(x, transport)
            if model.injection == "clamped":
                moved = model.input_surface.clamp(moved, x)
            x = torch.where(region, moved.to(x.dtype), after)
    return model.decode(x.index_select(1, model.read_index), question, num_steps=num_steps)[0]


def _scores(prediction: Tensor, answer: Tensor, bank: Tensor) -> tuple[float, float]:
    loss = 1 - float(cosine(prediction, answer, mean=bank.mean(0)).mean())
    return loss, float(reciprocal_ranks(ranks(prediction, bank, torch.arange(len(answer)))).mean())
