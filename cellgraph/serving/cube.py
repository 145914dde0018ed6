"""The cube: what the cells of a network do with a question, step by step, as numbers to draw."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cellgraph.analysis.states import activity
from cellgraph.answering import Session
from cellgraph.integrations.onnx_network import OnnxNetwork
from cellgraph.model import CellGraph

#: Most values of a picture, cells times steps: what a page draws and a request carries without trouble.
MOST_VALUES = 250_000
#: Digits of a value: more than there are colours.
_DIGITS = 4


def cube_of(session: Session) -> CellGraph | None:
    """The network whose cells can be shown; ``None`` for one that is no single lattice, and for too large ones."""
    model = session.model.model if isinstance(session.model, OnnxNetwork) else session.model
    if not isinstance(model, CellGraph):
        return None
    return model if model.lattice.mask.numel() * (steps_of(session) + 1) <= MOST_VALUES else None


def steps_of(session: Session) -> int:
    """Steps that the network of :func:`cube_of` takes for an answer: of an exported one those of its file."""
    model: Any = session.model
    return int(model.inference.num_steps if isinstance(model, OnnxNetwork) else model.num_steps[1])


def shape_of(model: CellGraph) -> list[int]:
    """Layers, rows and columns of a lattice of any dimension."""
    shape = model.lattice.shape
    return [1] * (3 - len(shape)) + list(shape)


@torch.no_grad()
def picture(model: CellGraph, question: Tensor, memory: Tensor | None, *, num_steps: int) -> dict[str, Any]:
    """How active each cell is before the first step and after each: the root mean square of its state.

    Args:
        model: The network.
        question: What it is given of the question, ``[1, in_features]``.
        memory: What the turn before left behind.
        num_steps: Steps that it takes for an answer.

    Returns:
        ``shape``, layers, rows and columns; ``steps``, for each the activity of the cells in C order, ``None`` where
        there is no cell; ``question_layers`` and ``answer_layers``, those that take the one and give the other.
    """
    parameter = next(model.parameters())
    given = question.to(parameter.device, parameter.dtype)
    before = memory if model.remembers else None
    trajectory = model(given, before, num_steps=num_steps, trajectory=True).trajectory
    assert trajectory is not None
    found = activity(trajectory[:, 0].float()).cpu()
    lattice, shape = model.lattice, shape_of(model)
    place = lattice.grid_index.cpu()
    steps = []
    for step in found.tolist():
        cells: list[float | None] = [None] * lattice.mask.numel()
        for cell, value in zip(place.tolist(), step, strict=True):
            # JSON has no infinity.
            cells[cell] = float(f"{value:.{_DIGITS}g}") if abs(value) < float("inf") else None
        steps.append(cells)
    layer = place // (shape[1] * shape[2])
    layers = {
        f"{name}_layers": sorted(set(layer[surface.mask.cpu()].tolist()))
        for name, surface in (("question", model.input_surface), ("answer", model.output_surface))
    }
    return {"shape": shape, "steps": steps, **layers}
