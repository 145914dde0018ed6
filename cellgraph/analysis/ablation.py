"""Ablation: what it costs to take a layer or a region out of the lattice, or what its cells compute."""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cellgraph.analysis.asking import Asked, compared, found, joined, said
from cellgraph.analysis.states import advance, initial_state, together
from cellgraph.analysis.without import without_lateral_gate, without_update
from cellgraph.lattice import Lattice
from cellgraph.model import CellGraph, CellGraphOutput
from cellgraph.nn.memory import memory_of
from cellgraph.retrieval.metrics import cosine

#: ``silent``: the region's cells hold zero. ``passive``: they pass states on, but compute nothing. ``deaf``: their
#: gates hear no neighbour aside of the way from input to output.
KINDS = ("silent", "passive", "deaf")


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
def ablated(
    model: CellGraph,
    question: Tensor,
    region: Tensor,
    kind: str = "silent",
    *,
    steps: Container[int] | None = None,
    instead: Tensor | None = None,
    memory: Tensor | None = None,
) -> CellGraphOutput:
    """The output of a network whose region is out of order.

    Args:
        model: The network, in evaluation mode.
        question: Question embeddings, ``[batch, in_features]``.
        region: Node mask, ``[num_nodes]``.
        kind: ``"silent"``: the state of the region's cells is zero, so that nothing passes through; ``"passive"``: they
            take part in the linear transport only, without the gated update; ``"deaf"``: their gates do without
            lateral messages, see :func:`~cellgraph.analysis.without.without_lateral_gate`.
        steps: The steps, from 1 on, after which silent cells are zero or that the others take out of order; all of
            them by default, and then what is injected into silent cells is zero, too; else a clamped question is there
            again after the next step.
        instead: What passive cells add at each step in their update's place, ``[num_steps, num_nodes, channels]``, such
            as :func:`mean_updates`; nothing by default.
        memory: What the turns before left behind, ``[batch, num_nodes, memory_channels]``.

    Raises:
        ValueError: If the kind is unknown, the mask does not fit the lattice, or the cells have nothing of the kind to
            take out.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    inside = model.lattice.node_mask(region, "region")[:, None]
    whole = bool(inside.all())
    other = {"passive": without_update, "deaf": without_lateral_gate}[kind](model) if kind != "silent" else None
    outputs = []
    for rows in torch.arange(len(question)).split(together(model)):
        part = question[rows]
        x = initial_state(model, part, None if memory is None else memory[rows])
        x = x.masked_fill(inside, 0.0) if other is None and steps is None else x
        injected = x
        for step in range(1, model.num_steps[1] + 1):
            before, out = x, steps is None or step in steps
            if not (out and other is not None and whole):
                x = advance(model, before, step - 1, injected=injected)
            if out and other is None:
                x = x.masked_fill(inside, 0.0)
            elif out and other is not None:
                after = advance(other, before, step - 1)
                after = after if instead is None else after + instead[step - 1]
                x = after if whole else torch.where(inside, after, x)
        outputs.append(_output(model, x, part))
    return joined(outputs)


def without(model: CellGraph, region: Tensor, **how: Any) -> Asked:
    """A network whose region is out of order, see :func:`ablated`, to ask; in a dialogue it is so at every turn."""
    return lambda question, memory=None: ablated(model, question, region, memory=memory, **how)


@torch.no_grad()
def mean_updates(model: CellGraph, question: Tensor, *, dialogues: Sequence[Sequence[int]] | None = None) -> Tensor:
    """What the gated update of each cell adds at each step, mean over questions: the part that tells none from another.

    Args:
        model: The network.
        question: The questions.
        dialogues: Numbers of those that are the turns of each dialogue, which hear the turns before.

    Shapes:
        - **question:** ``[num_questions, in_features]``
        - **output:** ``[num_steps, num_nodes, channels]``
    """
    other, num_steps = without_update(model), model.num_steps[1]
    total = torch.zeros(num_steps, model.lattice.num_nodes, model.cell.channels, dtype=torch.double)

    def heard(question: Tensor, memory: Tensor | None = None) -> CellGraphOutput:
        x = initial_state(model, question, memory)
        for step in range(num_steps):
            after = advance(model, x, step)
            total[step] += (after - advance(other, x, step)).double().sum(0)
            x = after
        return _output(model, x, question)

    said(heard, question, batch_size=together(model), dialogues=dialogues)
    return (total / len(question)).to(model.cell.dtype)


def ablation_costs(
    model: CellGraph,
    question: Tensor,
    answer: Tensor,
    regions: Mapping[str, Tensor],
    kinds: Sequence[str] = ("silent", "passive"),
    *,
    candidates: Tensor | None = None,
    target: Tensor | None = None,
    dialogues: Sequence[Sequence[int]] | None = None,
) -> list[AblationCost]:
    """Loss and retrieval without each region, less those of the whole network.

    Args:
        model: The network, in evaluation mode.
        question: Question embeddings, ``[num_pairs, in_features]``.
        answer: Their true answers, ``[num_pairs, in_features]``.
        regions: Node masks by name.
        kinds: Ways to take a region out.
        candidates: Different answers to retrieve from; the true ones by default.
        target: Which of them is each question's, ``[num_pairs]``; by default the first is the first's, and so on.
        dialogues: Numbers of the questions that are the turns of each dialogue; by default each is a first turn.
    """
    bank = answer if candidates is None else candidates
    target = torch.arange(len(answer)) if target is None else target

    def scores(asked: Asked) -> tuple[float, float]:
        output = said(asked, question, batch_size=together(model), dialogues=dialogues)
        loss = 1 - float(cosine(output.embedding, answer, mean=bank.mean(0)).mean())
        return loss, float(found(model, compared(output), bank, target).mean())

    # By the same way of computing, so that what has no effect costs exactly nothing.
    nowhere = torch.zeros(model.lattice.num_nodes, dtype=torch.bool)
    loss, mrr = scores(without(model, nowhere))
    costs = []
    for kind, (name, region) in itertools.product(kinds, regions.items()):
        without_loss, without_mrr = scores(without(model, region, kind=kind))
        costs.append(AblationCost(name, kind, int(region.sum()), without_loss - loss, mrr - without_mrr))
    return costs


def _output(model: CellGraph, x: Tensor, question: Tensor) -> CellGraphOutput:
    """What the last states of all the cells stand for."""
    num_steps = model.num_steps[1]
    embedding, surface, query = model.decode(x.index_select(1, model.read_index), question, num_steps=num_steps)
    memory = memory_of(x, model.cell.memory_channels)
    return CellGraphOutput(embedding=embedding, surface=surface, query=query, memory=memory, num_steps=num_steps)
