"""Twins: the networks that a network is compared with, made of its own parts or of copies of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from cellgraph.model import CellGraph
from cellgraph.nn import AutoencoderAdapter
from cellgraph.retrieval.controls import AdaptersAlone, Control, LinearMLP, PathAlone
from cellgraph.sequence import SequenceGraph


def alone(model: CellGraph | SequenceGraph) -> Control:
    """A network without its lattice: what is left has the same parts, not copies of them."""
    if model.path is not None:
        return PathAlone(model.path, model.answer_adapter)
    assert isinstance(model, CellGraph)
    return AdaptersAlone(model.question_adapter, model.answer_adapter)


def with_perceptron(model: CellGraph | SequenceGraph, **options: Any) -> Control:
    """A network with a perceptron in its lattice's place, on copies of the same parts.

    Args:
        model: The network.
        options: Of the perceptron; by default it has one layer, of as many parameters as the lattice.
    """
    counts, adapter = model.parameter_counts(), copy.deepcopy(model.answer_adapter)
    if model.path is not None:
        lattice = sum(count for name, count in counts.items() if name not in model.path.parts())
        hidden = LinearMLP.hidden_for(lattice, model.in_features)
        return PathAlone(copy.deepcopy(model.path), adapter, **{"hidden": hidden, **options})
    assert isinstance(model, CellGraph)
    hidden = LinearMLP.hidden_for(sum(counts.values()) - counts["adapters"], model.input_surface.width)
    return LinearMLP(copy.deepcopy(model.question_adapter), adapter, **{"hidden": hidden, **options})


def with_chain(model: CellGraph | SequenceGraph, chain: Any) -> SequenceGraph:
    """A new network that is a chain of blocks, with copies of a network's path.

    It is over tokens if that is, else over turns.

    Args:
        model: The network.
        chain: The blocks, see :class:`~cellgraph.sequence.SequenceGraph`; or a mapping with these as ``blocks``, and
            their ``width``.

    Raises:
        ValueError: If a block is unknown, or the network has no path, or an adapter that is no matrix.
    """
    given = chain if isinstance(chain, Mapping) else {"blocks": chain}
    if "blocks" not in given or given.keys() - {"blocks", "width"}:
        raise ValueError(f"a chain is a list of blocks, or a mapping with blocks and width; got {chain!r}")
    if isinstance(model, SequenceGraph):
        return model.with_blocks(**given)
    if model.path is None:
        raise ValueError("a chain of blocks stands beside a linear path, and the network has model.path=none")
    if isinstance(model.answer_adapter, AutoencoderAdapter):
        raise ValueError("a chain of blocks has a linear adapter, and the network has model.adapter=autoencoder")
    surface = model.answer_adapter.out_features
    features = model.in_features
    twin = SequenceGraph(in_features=features, over="turns", key=model.key_kind, surface_width=surface, **given)
    twin.path.load_state_dict(model.path.state_dict())
    twin.answer_adapter.load_state_dict(model.answer_adapter.state_dict())
    twin.token_mean.copy_(model.path.question_mean)
    twin.token_scale.copy_(model.path.question_scale)
    return twin


def with_frozen_cell(model: CellGraph) -> CellGraph:
    """A copy of a new network whose cell stays as it is, random: what it is worth that the cell is learned.

    What starts at zero, and would leave the cell without effect, is drawn from a normal distribution instead, as wide
    as a linear layer's.
    """
    twin = copy.deepcopy(model)
    for parameter in twin.cell.parameters():
        if not parameter.any() and parameter.dim() > 1:
            nn.init.normal_(parameter, std=parameter.size(-1) ** -0.5)
    twin.cell.requires_grad_(False)
    return twin


def without_lateral_messages(model: CellGraph) -> CellGraph:
    """A copy of a new network whose cells hear those before and behind them alone: what it is worth that they mix.

    Before and behind is along the way from the input to the output surface.

    Raises:
        ValueError: If no shift leads from the one to the other.
    """
    direction, lattice = model.conveyor.direction, model.lattice
    if direction is None or not model.conveyor.hops:
        raise ValueError("no one direction leads from the input to the output surface: all messages are lateral")
    ahead = lattice.offsets[direction]
    behind = tuple(-step for step in ahead)
    config = model.config()
    config["lattice"] = {**config["lattice"], "neighbourhood": [list(ahead), list(behind)]}
    twin = CellGraph.from_config(config)
    for name in ("question_adapter", "answer_adapter", "path"):
        part = getattr(model, name)
        if part is not None:
            getattr(twin, name).load_state_dict(part.state_dict())
    return twin.to(model.cell.dtype)
