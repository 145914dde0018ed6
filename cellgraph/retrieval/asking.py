"""Asking: a network is asked many questions, each by itself or as the turns of dialogues."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from cellgraph.numbers import at_least, integer


def ask(
    model: Any,
    question: Callable[[Tensor], Tensor],
    num_questions: int,
    *,
    dialogues: Sequence[Sequence[int]] | None = None,
    batch_size: int = 64,
    num_steps: int | None = None,
) -> Iterator[tuple[Tensor, Any]]:
    """What a network answers, batch by batch: the numbers of the questions, and its output.

    Args:
        model: The network.
        question: Gives questions by their numbers.
        num_questions: How many there are.
        dialogues: Numbers of the questions that are the turns of each dialogue: a network that remembers is asked them
            one after another, with its memory. Without these each is a first turn.
        batch_size: Questions, or dialogues, at a time.
        num_steps: Steps of the rollout, if not the model's own.

    Raises:
        ValueError: If the dialogues do not name each question exactly once, or the batch size is no positive integer.
    """
    at_least(1, batch_size=(batch_size := integer("batch_size", batch_size)))
    if dialogues is not None:
        named = sorted(integer("the number of a turn", row) for turns in dialogues for row in turns)
        if named != list(range(num_questions)):
            there = len({*named} & {*range(num_questions)})
            raise ValueError(
                f"dialogues must name each of {num_questions} questions exactly once, "
                f"got {len(named)} numbers, of {there} questions"
            )
    if dialogues is None or not model.remembers:
        for rows in torch.arange(num_questions).split(batch_size):
            yield rows, model(question(rows), num_steps=num_steps)
        return
    # The longest of a batch come first: those that go on are the first rows of the memory.
    ordered = sorted(dialogues, key=len, reverse=True)
    for first in range(0, len(ordered), batch_size):
        batch, memory = ordered[first : first + batch_size], None
        for turn in range(len(batch[0])):
            rows = torch.tensor([turns[turn] for turns in batch if turn < len(turns)])
            output = model(question(rows), None if memory is None else memory[: len(rows)], num_steps=num_steps)
            memory = output.memory
            yield rows, output
