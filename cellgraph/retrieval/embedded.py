"""Embedded pairs: questions and answers as vectors, single or as the turns of dialogues."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cellgraph.data import QAPair
from cellgraph.nn.blocks import BLOCK, SOME, check_finite
from cellgraph.numbers import plain_numbers
from cellgraph.teacher import TokenStates


class EmbeddedPairs:
    """Question and answer embeddings, row by row, and the dialogues they are turns of.

    Args:
        question: Embedded questions, or the states of their tokens; or on the disk, as
            :class:`~cellgraph.teacher.StoredRows`.
        answer: Embedded answers, in memory or on the disk.
        dialogue: Name of each row's dialogue; an empty string is a dialogue of one turn. All single when absent.
        turn: Place of each row in its dialogue; the order of the rows when absent.

    Shapes:
        - **question:** ``[num_pairs, question_width]``, or as many sequences of such
        - **answer:** ``[num_pairs, answer_width]``

    Attributes:
        group: Number of each answer among the distinct ones, ``[num_pairs]``, equal for equal answers.
        dialogues: Row numbers of the turns of each dialogue, in the order in which dialogues first appear.

    Raises:
        ValueError: If shapes do not fit, there is no pair, or a value is not finite.

    Example:
        >>> pairs = EmbeddedPairs(torch.eye(3), torch.eye(3), dialogue=["a", "", "a"])
        >>> pairs.dialogues
        [[0, 2], [1]]
    """

    @plain_numbers
    def __init__(
        self,
        question: Any,
        answer: Any,
        *,
        dialogue: Sequence[str] | None = None,
        turn: Sequence[int] | None = None,
    ) -> None:
        vectors = {"answer": answer}
        if isinstance(question, TokenStates):
            check_finite("question", question)
        else:
            vectors = {"question": question, **vectors}
        for name, rows in vectors.items():
            if rows.ndim != 2 or not rows.is_floating_point():
                raise ValueError(f"{name} must be floating point [num_pairs, width], got {rows.dtype} {[*rows.shape]}")
            check_finite(name, rows)
        if len(question) != len(answer) or not len(question):
            raise ValueError(f"expected as many questions as answers, at least one, got {len(question)}, {len(answer)}")
        for name, column in (("dialogue", dialogue), ("turn", turn)):
            if column is not None and len(column) != len(question):
                raise ValueError(f"{name} must have {len(question)} entries, got {len(column)}")
        in_memory = isinstance(answer, Tensor)
        self.question = question.contiguous() if isinstance(question, Tensor) else question
        self.answer = answer.contiguous() if in_memory else answer
        self.group = torch.unique(answer, dim=0, return_inverse=True)[1] if in_memory else _equal_rows(answer)
        self.dialogues = _dialogues(len(question), dialogue, turn)

    def some(self) -> EmbeddedPairs:
        """Themselves in memory; of those on the disk as many as closed forms need, in whole dialogues."""
        if isinstance(self.answer, Tensor):
            return self
        order = torch.randperm(len(self.dialogues), generator=torch.Generator().manual_seed(0)).tolist()
        rows: list[int] = []
        names: list[str] = []
        for number in order:
            rows += self.dialogues[number]
            names += [str(number)] * len(self.dialogues[number])
            if len(rows) >= SOME:
                break
        drawn = torch.tensor(rows)
        return EmbeddedPairs(self.question[drawn], self.answer[drawn], dialogue=names)

    def __len__(self) -> int:
        return len(self.question)

    @property
    def pooled(self) -> Any:
        """One vector a question, ``[num_pairs, question_width]``: itself, or the mean of its tokens."""
        return self.question.pooled() if isinstance(self.question, TokenStates) else self.question

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} pairs, {len(self.dialogues)} dialogues)"


class Batch:
    """Some turns of some dialogues at once, padded at the end to the longest.

    Attributes:
        question: ``[dialogues, turns, question_width]``, of tokens ``[dialogues, turns, length, question_width]``
        answer: ``[dialogues, turns, answer_width]``
        index: Row of each turn in the :class:`EmbeddedPairs`, ``[dialogues, turns]``, -1 for padding.
        group: Number of each answer among the distinct ones, ``[dialogues, turns]``.
        mask: Which turns are real, ``[dialogues, turns]``; ``None`` when all are.
        starts: Whether these are the first turns of their dialogues; else they continue the batch before.
        epoch: Passes over the data so far, a fraction within one.
        first: Number of the first of these dialogues in the whole batch, which several processes may share.
        num_dialogues: How many the whole batch has.
    """

    # Lightning walks through and deep-copies dataclasses at every step; a plain class with `to` it leaves alone.
    __slots__ = ("answer", "epoch", "first", "group", "index", "mask", "num_dialogues", "question", "starts")

    def __init__(
        self,
        question: Tensor,
        answer: Tensor,
        index: Tensor,
        group: Tensor,
        mask: Tensor | None,
        *,
        starts: bool = True,
        epoch: float = 0.0,
        first: int = 0,
        num_dialogues: int | None = None,
    ) -> None:
        self.question, self.answer, self.index, self.group, self.mask = question, answer, index, group, mask
        self.starts, self.epoch = starts, epoch
        self.first, self.num_dialogues = first, len(index) if num_dialogues is None else num_dialogues

    @classmethod
    def gather(cls, pairs: EmbeddedPairs, index: Tensor, *, part: slice | None = None, **options: Any) -> Batch:
        """The rows ``index``, ``[dialogues, turns]``, -1 for padding.

        Args:
            pairs: The data.
            index: The rows.
            part: Of which dialogues; all by default.
            options: ``starts`` and ``epoch``.
        """
        whole = len(index)
        if part is not None:
            index = index[part]
        mask = None if index.size(1) == 1 and bool((index >= 0).all()) else index >= 0
        rows = index if mask is None else index.clamp(min=0)
        question, answer = pairs.question[rows], pairs.answer[rows]
        first = 0 if part is None else part.start
        return cls(question, answer, index, pairs.group[rows], mask, first=first, num_dialogues=whole, **options)

    def to(self, device: torch.device | str, **options: Any) -> Batch:
        """The batch on a device; itself when it is there."""
        device = torch.device(device)
        if self.question.device == device:
            return self
        there = {name: value.to(device, **options) for name, value in self._all().items() if isinstance(value, Tensor)}
        return Batch(**{**self._all(), **there})

    def asking(self, question: Tensor) -> Batch:
        """The batch with other question embeddings, of the same shape."""
        return Batch(**{**self._all(), "question": question})

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, on the CPU."""
        named = {"question": self.question, "answer": self.answer, "index": self.index, "mask": self.mask}
        return {name: x.detach().cpu().contiguous() for name, x in named.items() if x is not None}

    def _all(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __len__(self) -> int:
        return int(self.question.size(0) * self.question.size(1)) if self.mask is None else int(self.mask.sum())


def _equal_rows(rows: Any) -> Tensor:
    """Number of each row among the distinct ones, by a digest of what it holds."""
    # Adding 0 turns -0.0 into 0.0, whose bytes differ.
    digests = (
        hashlib.blake2b(row.tobytes(), digest_size=16).digest()
        for block in rows.split(BLOCK)
        for row in (block + 0.0).numpy()
    )
    return torch.from_numpy(np.unique(np.fromiter(digests, "V16", len(rows)).view("S16"), return_inverse=True)[1])


def dialogues_of(pairs: Sequence[QAPair]) -> list[list[int]]:
    """Numbers of the pairs that are the turns of each dialogue, in their order; a pair that stands alone is one."""
    return _dialogues(len(pairs), [pair.dialogue for pair in pairs], [pair.turn for pair in pairs])


def _dialogues(num_pairs: int, dialogue: Sequence[str] | None, turn: Sequence[int] | None) -> list[list[int]]:
    if dialogue is None:
        return [[row] for row in range(num_pairs)]
    named: dict[str, list[int]] = {}
    dialogues: list[list[int]] = []
    for row, name in enumerate(dialogue):
        if name and name in named:
            named[name].append(row)
        else:
            dialogues.append([row])
            if name:
                named[name] = dialogues[-1]
    if turn is not None:
        for rows in named.values():
            rows.sort(key=lambda row: turn[row])
    return dialogues
