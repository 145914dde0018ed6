"""States: the cells of a network step by step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cellgraph.generators import own_generators
from cellgraph.model import CellGraph
from cellgraph.nn.kinds import built_cell
from cellgraph.nn.memory import memory_of, with_memory
from cellgraph.unroll import rollout

#: Values of the states that take a step together, those of two samples of the default cube: more do not fit a CPU's
#: cache.
CHUNK_VALUES = 2 * 2475 * 64


def initial_state(model: CellGraph, question: Tensor, memory: Tensor | None = None) -> Tensor:
    """State that the questions are injected as, beside what the turns before left behind.

    Shapes:
        - **question:** ``[batch, in_features]``
        - **memory:** ``[batch, num_nodes, memory_channels]``; empty by default, as at a first turn
        - **output:** ``[batch, num_nodes, channels]``
    """
    return with_memory(model.input_surface.inject(model.encode(question), num_channels=model.cell.channels), memory)


def together(model: CellGraph) -> int:
    """How many questions take a step together: the more, the smaller the lattice."""
    return max(2, CHUNK_VALUES // (model.lattice.num_nodes * model.cell.channels))


def advance(model: CellGraph, x: Tensor, step: int = 0, *, injected: Tensor | None = None) -> Tensor:
    """State of the cells one step later, the input surface clamped where the model clamps it.

    Where cells update at random, which of them do goes by the number of the step: at a step all that is compared, a
    network and the same without a part, or a state and its derivative, is of the same draw.

    Args:
        model: The network.
        x: The state.
        step: Number of the step, from 0 on.
        injected: State that the question was injected as, where the input surface does not hold it any more.

    Shapes:
        - **x**, **injected**, **output:** ``[batch, num_nodes, channels]``
    """
    cell = model.cell
    clamped = model.input_surface if model.injection == "clamped" else None
    draws = torch.Generator(x.device).manual_seed(step) if cell.updates_at_random else None
    memory = memory_of(x, cell.memory_channels)
    after = rollout(cell, x, memory, num_steps=1, clamped=clamped, generator=draws).x
    return after if clamped is None or injected is None else clamped.clamp(after, injected)


@torch.no_grad()
def walk(model: CellGraph, question: Tensor, *, num_steps: int | None = None) -> Iterator[Tensor]:
    """States before the first step and after each, one at a time: a whole trajectory may not fit the memory.

    Every question is a first turn: of a network that remembers, no turn before it is heard.

    Args:
        model: The network, in evaluation mode.
        question: Question embeddings, ``[batch, in_features]``.
        num_steps: Number of steps; the model's own by default, and any number may be asked for.

    Shapes:
        - **each state:** ``[batch, num_nodes, channels]``
    """
    x = initial_state(model, question)
    yield x
    for step in range(model.num_steps[1] if num_steps is None else num_steps):
        x = torch.cat([advance(model, part, step) for part in x.split(together(model))])
        yield x


def new_network(model: CellGraph, *, backend: str | None = None, seed: int = 0) -> CellGraph:
    """The network as it would start, between the adapters that it has, in evaluation mode.

    Args:
        model: The network.
        backend: Backend of the new cell, that of the old one by default.
        seed: Seed of the new cell's weights.
    """
    config = model.config()
    for name in ("lattice", "share"):
        del config[name]
    cell = config.pop("cell")
    if backend is not None:
        cell["backend"] = backend
    with own_generators(seed):
        fresh = CellGraph(built_cell(model.lattice, cell), **config)
    fresh.to(model.cell.dtype)
    for name in ("question_adapter", "answer_adapter", "path"):
        part = getattr(model, name)
        if part is not None:
            getattr(fresh, name).load_state_dict(part.state_dict())
    return fresh.eval()


def activity(x: Tensor) -> Tensor:
    """Root mean square of each cell's state over its channels, ``[..., num_nodes]``."""
    return x.square().mean(-1).sqrt()
