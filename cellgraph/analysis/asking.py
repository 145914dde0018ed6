"""Asking: what of a network's output is compared with what of the answers, and where the true one ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from cellgraph.model import CellGraph, CellGraphOutput
from cellgraph.retrieval.asking import ask
from cellgraph.retrieval.metrics import ranks, reciprocal_ranks

#: Whatever answers questions ``[batch, in_features]``, and takes the memory that the turns before left, if any: a
#: network, a part of one, or one that lacks a part.
Asked = Callable[..., CellGraphOutput]


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
def said(
    asked: Asked, question: Tensor, *, batch_size: int, dialogues: Sequence[Sequence[int]] | None = None
) -> CellGraphOutput:
    """Answers to all of the questions, ``[num_questions, in_features]``, some at a time.

    Args:
        asked: Answers them.
        question: The questions.
        batch_size: Questions, or dialogues, at a time.
        dialogues: Numbers of the questions that are the turns of each dialogue: they are asked one after another, with
            the memory. Without these each is a first turn.
    """
    if dialogues is None:
        return joined(asked(part) for part in question.split(batch_size))
    turns = ask(_Talking(asked), question.__getitem__, len(question), dialogues=dialogues, batch_size=batch_size)
    # Once the next turn has heard it, nobody wants the memory.
    found = [(rows, replace(output, memory=None)) for rows, output in turns]
    whole, back = joined(output for _, output in found), torch.cat([rows for rows, _ in found]).argsort()
    return replace(whole, embedding=whole.embedding[back], surface=whole.surface[back], query=whole.query[back])


@dataclass(frozen=True)
class _Talking:
    """What is asked dialogues, as :func:`~cellgraph.retrieval.asking.ask` wants it."""

    asked: Asked
    remembers: bool = True

    def __call__(self, question: Tensor, memory: Tensor | None = None, *, num_steps: None = None) -> CellGraphOutput:
        return self.asked(question, memory)


def joined(outputs: Iterable[CellGraphOutput]) -> CellGraphOutput:
    """The outputs of several batches as one."""
    parts = list(outputs)
    together = {
        field.name: torch.cat([getattr(part, field.name) for part in parts])
        for field in fields(CellGraphOutput)
        if isinstance(getattr(parts[0], field.name), Tensor)
    }
    return CellGraphOutput(**together, num_steps=parts[0].num_steps)
