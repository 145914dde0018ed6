"""Asking: what of a network's output is compared with what of the answers, and where the true one ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields

import torch
from torch import Tensor

from cellgraph.model import CellGraph, CellGraphOutput
from cellgraph.retrieval.metrics import ranks, reciprocal_ranks

#: Whatever answers questions ``[batch, in_features]``: a network, a part of one, or one that lacks a part.
Asked = Callable[[Tensor], CellGraphOutput]


def compared(output: CellGraphOutput) -> Tensor:
    """What of an output is compared with the :func:`candidates`, ``[batch, width]``."""
    return output.query


def candidates(model: CellGraph, answer: Tensor) -> Tensor:
    """What of the answers outputs are compared with, ``[num_answers, width]``."""
    return model.key(answer)


@torch.no_grad()
def found(model: CellGraph, given: Tensor, answer: Tensor, target: Tensor) -> Tensor:
    """Reciprocal rank of each question's true answer.

    Args:
        model: The network whose candidates are compared.
        given: What is :func:`compared` with them, ``[num_questions, width]``.
        answer: Answers to retrieve from, ``[num_answers, in_features]``.
        target: The true one of each question, ``[num_questions]``.

    Shapes:
        - **output:** ``[num_questions]``
    """
    return reciprocal_ranks(ranks(given, candidates(model, answer), target))


@torch.no_grad()
def said(asked: Asked, question: Tensor, *, batch_size: int) -> CellGraphOutput:
    """Answers to all of the questions, ``[num_questions, in_features]``, some at a time."""
    return joined(asked(part) for part in question.split(batch_size))


def joined(outputs: Iterable[CellGraphOutput]) -> CellGraphOutput:
    """The outputs of several batches as one."""
    parts = list(outputs)
    together = {
        field.name: torch.cat([getattr(part, field.name) for part in parts])
        for field in fields(CellGraphOutput)
        if isinstance(getattr(parts[0], field.name), Tensor)
    }
    return CellGraphOutput(**together, num_steps=parts[0].num_steps)
