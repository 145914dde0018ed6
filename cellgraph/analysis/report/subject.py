"""The subject of a report: a trained network, the held-out pairs it is studied on, and how much is measured."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from cellgraph.data import QAPair, group_numbers
from cellgraph.model import CellGraph
from cellgraph.numbers import settle_numbers
from cellgraph.retrieval.embedded import dialogues_of

#: The numbers of a section by name, nested, as plain types: what ``report.json`` holds.
Numbers = dict[str, Any]


#: Least of an effort where it is not 1: a plane and a regression take three points, five folds five of a class, and a
#: spectrum three steps.
LEAST = {"projected": 3, "probed": 3, "min_count": 5, "fitted": 3, "beyond": 3}


@dataclass(frozen=True)
class Effort:
    """How much a study measures.

    Raises:
        ValueError: If one is less than can be measured with.

    Attributes:
        projected: Pairs that are laid out on a plane.
        probed: Questions whose states are probed.
        min_count: Questions that a label needs to be probed for.
        controls: Shuffles of the labels.
        ablated: Questions asked of each ablated network, at least.
        updates: Cell updates that the questions asked of networks without a part may take, all of them together, as
            may those a regression is fitted to: the smaller the cube, the more questions are asked.
        fitted: Training questions that a regression is fitted to.
        tangents: Largest number of derivatives of the default cube for the influence, in proportion more of a smaller
            one; fewer input cells are looked at where more would be needed.
        sources: Input cells whose spread is followed through the lattice.
        shuffles: Networks with shuffled weights, of each kind: enough for one pattern of five to be told, more or less.
        patterned: Questions that these are compared on, at most.
        beyond: Steps for which cells are watched after a rollout.
    """

    projected: int = 200
    probed: int = 250
    min_count: int = 20
    controls: int = 5
    ablated: int = 40
    updates: int = 60_000_000
    fitted: int = 3000
    tangents: int = 128
    sources: int = 3
    shuffles: int = 199
    patterned: int = 4
    beyond: int = 24

    def __post_init__(self) -> None:
        settle_numbers(self)
        for field in fields(self):
            least = LEAST.get(field.name, 1)
            if getattr(self, field.name) < least:
                raise ValueError(f"{field.name} must be at least {least}, got {getattr(self, field.name)}")


QUICK = Effort(
    projected=60,
    probed=60,
    min_count=8,
    controls=2,
    ablated=6,
    updates=6_000_000,
    fitted=1000,
    tangents=16,
    sources=1,
    shuffles=19,
    patterned=1,
    beyond=12,
)


@dataclass(frozen=True)
class Subject:
    """What is studied.

    Attributes:
        model: The network, in evaluation mode.
        pairs: The held-out pairs.
        question: Their question embeddings, ``[num_pairs, in_features]``.
        answer: Their answer embeddings, ``[num_pairs, in_features]``.
        effort: How much to measure.
        seed: Seed of everything random.
        training: Question embeddings of training pairs, ``[num_training_pairs, in_features]``; ``None`` where there are
            none to be had.
        lead: The network's lead in mean reciprocal rank over the adapters alone, trained as it was: ``mrr``,
            ``mrr_low``, ``mrr_high`` and ``mrr_p``; ``None`` where that was not measured.

    Raises:
        ValueError: If there are fewer than three pairs.
    """

    model: CellGraph
    pairs: Sequence[QAPair]
    question: Tensor
    answer: Tensor
    effort: Effort
    seed: int
    training: Tensor | None = None
    lead: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if len(self.pairs) < 3:
            raise ValueError(f"a report needs at least 3 held-out pairs, got {len(self.pairs)}")

    @functools.cached_property
    def groups(self) -> Tensor:
        """Number of each pair's group, see :func:`~cellgraph.data.group_pairs`."""
        return torch.from_numpy(group_numbers(self.pairs))

    @property
    def shown(self) -> int:
        """The pair whose question is followed through the lattice."""
        return len(self.pairs) // 2

    def asked(self, count: int) -> tuple[Tensor, list[list[int]] | None]:
        """About ``count`` of the pairs, and the numbers among them of those that are the turns of each dialogue.

        A network that remembers is asked whole dialogues; of any other a question is as good as alone, and there are no
        dialogues.
        """
        if not self.model.remembers:
            return self.some(count), None
        whole = dialogues_of(self.pairs)
        chosen = [whole[i] for i in evenly(len(whole), math.ceil(count * len(whole) / len(self.pairs)))]
        ends = itertools.accumulate(map(len, chosen))
        dialogues = [list(range(end - len(rows), end)) for rows, end in zip(chosen, ends, strict=True)]
        return torch.tensor(list(itertools.chain(*chosen))), dialogues

    def some(self, count: int) -> Tensor:
        """``count`` of the pairs, or all of them, evenly spaced: pairs lie in the order of their groups."""
        return evenly(len(self.pairs), count)


def evenly(total: int, count: int) -> Tensor:
    """``count`` of ``total`` indices, or all of them, evenly spaced."""
    return torch.arange(min(count, total)) * total // min(count, total)


def extremes(values: Tensor) -> dict[str, float]:
    """Mean, smallest and largest."""
    return {"mean": float(values.mean()), "least": float(values.min()), "most": float(values.max())}
