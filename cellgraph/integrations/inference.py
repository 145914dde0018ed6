"""Inference: a network, or the steps of an automaton, as a function of tensors alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cellgraph.automata import Automaton
from cellgraph.lattice import Lattice
from cellgraph.model import CellGraph, CellGraphOutput
from cellgraph.numbers import at_least, plain_numbers


class Inference(nn.Module):
    """A network as a function of tensors alone: question (and memory) to embedding, surface (, query, and memory).

    It is a copy in evaluation mode with a fixed number of steps, no early end, and the plain ``stencil``: kernels and
    custom operators that a network may run on here are unknown elsewhere.

    Args:
        model: The network; left as it is.
        num_steps: Steps of the rollout; the upper end of the network's own by default.

    Shapes:
        - **question:** ``[batch, in_features]``
        - **memory:** ``[batch, num_nodes, memory_channels]``, for networks with memory only
        - **output:** ``[batch, in_features]``, ``[batch, surface_width]``; of networks with a path the query,
          ``[batch, in_features]``; the memory of those that have one

    Raises:
        ValueError: If no signal can arrive in ``num_steps``, or cells update at random in evaluation, too.
    """

    @plain_numbers
    def __init__(self, model: CellGraph, *, num_steps: int | None = None) -> None:
        super().__init__()
        if model.cell.updates_at_random and model.cell.always_random:
            raise ValueError("a program draws nothing: set always_random=False, for the expected update, to export it")
        self.num_steps = model.num_steps[1] if num_steps is None else num_steps
        model.conveyor.check_reach(self.num_steps)
        # A copy leaves a compiled step behind.
        self.model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        self.model.tolerance, self.model.remat_every = 0.0, 0
        self.model.cell.backend = "stencil"
        self.has_memory, self.has_path = model.cell.memory_channels > 0, model.path is not None
        self.dtype = self.model.cell.dtype

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return ("question", "memory") if self.has_memory else ("question",)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        query, memory = ["query"] * self.has_path, ["next_memory"] * self.has_memory
        return ("embedding", "surface", *query, *memory)

    def forward(self, question: Tensor, memory: Tensor | None = None) -> tuple[Tensor, ...]:
        """Answer a batch of questions."""
        # Exporters write slices of the full grid better than the cone's lists of cells.
        out = self.model(question, memory, num_steps=self.num_steps, states=True)
        return self._told(out)

    def example(self, batch: int, *, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs, questions of unit length."""
        generator = torch.Generator().manual_seed(seed)
        cell = self.model.cell
        question = torch.randn(batch, self.model.in_features, generator=generator)
        inputs = [nn.functional.normalize(question, dim=1)]
        if self.has_memory:
            inputs.append(torch.randn(batch, cell.lattice.num_nodes, cell.memory_channels, generator=generator))
        return tuple(x.to(cell.dtype) for x in inputs)

    @property
    def batch_axes(self) -> tuple[int, ...]:
        """The axis of each input that counts the samples."""
        return (0,) * len(self.inputs)

    def expected(self, model: CellGraph, inputs: Sequence[Tensor], *, seed: int) -> tuple[Tensor, ...]:
        """What the network itself makes of :meth:`example`."""
        model.tolerance = 0.0
        out = model(*inputs, num_steps=self.num_steps)
        return self._told(out)

    def _told(self, out: CellGraphOutput) -> tuple[Tensor, ...]:
        given = {"embedding": out.embedding, "surface": out.surface, "query": out.query, "next_memory": out.memory}
        return tuple(given[name] for name in self.outputs)  # type: ignore[misc]


class Steps(nn.Module):
    """An automaton as a function of tensors alone: state (and context, and who updates when) to state.

    It is a copy of the cell in evaluation mode, see :class:`Inference`, with the task's clamped cells. Where cells
    update at random, who does is an input: a program draws nothing.

    Args:
        model: The automaton; left as it is.
        num_steps: Steps of the rollout.

    Shapes:
        - **state:** ``[batch, num_nodes, channels]``
        - **context:** ``[batch, 1 or num_nodes, context_channels]``, for cells that take one only
        - **update_masks:** ``[num_steps, batch, num_nodes, 1]``, for cells that update at random in evaluation only
        - **output:** ``[batch, num_nodes, channels]``

    Raises:
        ValueError: If no step is taken.
    """

    outputs = ("next_state",)

    @plain_numbers
    def __init__(self, model: Automaton, *, num_steps: int) -> None:
        super().__init__()
        at_least(1, num_steps=num_steps)
        self.num_steps = num_steps
        self.cell = copy.deepcopy(model.cell).cpu().eval().requires_grad_(False)
        self.cell.backend = "stencil" if isinstance(self.cell.lattice, Lattice) else "scatter"
        self.clamped = None if model.task.clamped is None else copy.deepcopy(model.task.clamped).cpu()
        self.dtype = self.cell.dtype
        # What the task is made of is none of the program's.
        self._sample = model.task.sample

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        given = {"state": True, "context": self.cell.context_channels, "update_masks": self.cell.updates_at_random}
        return tuple(name for name, there in given.items() if there)

    @property
    def batch_axes(self) -> tuple[int, ...]:
        """The axis of each input that counts the samples."""
        return tuple(1 if name == "update_masks" else 0 for name in self.inputs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor]:
        """Take the steps."""
        given = dict(zip(self.inputs, inputs, strict=True))
        x, context, masks = given["state"], given.get("context"), given.get("update_masks")
        for step in range(self.num_steps):
            x = self.cell(x, None if masks is None else masks[step], context)
            x = x if self.clamped is None else self.clamped.clamp(x, given["state"])
        return (x,)

    def example(self, batch: int, *, seed: int = 0) -> tuple[Tensor, ...]:
        """Samples of the task, and draws of who updates."""
        # A task may hand out what it has learned, on the device of the automaton.
        samples = self._sample(batch, torch.Generator().manual_seed(seed)).to("cpu")
        x = samples.x.to(self.dtype)
        masks = self.cell.dynamics.draw(x, x.size(1), self.num_steps, torch.Generator().manual_seed(seed))
        drawn: dict[str, Any] = {"state": x, "context": samples.context, "update_masks": masks}
        return tuple(drawn[name].to(self.dtype) for name in self.inputs)

    def expected(self, model: Automaton, inputs: Sequence[Tensor], *, seed: int) -> tuple[Tensor]:
        """What the automaton itself makes of :meth:`example`."""
        given = dict(zip(self.inputs, inputs, strict=True))
        draws = torch.Generator().manual_seed(seed)
        options: dict[str, Any] = {"context": given.get("context"), "clamped": self.clamped, "generator": draws}
        return (model(given["state"], num_steps=self.num_steps, **options).x,)
