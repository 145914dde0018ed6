"""Splits of question-answer pairs in which nothing crosses from training to the held-out parts."""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellgraph.numbers import integer, number

from .pairs import QAPair, normalise_text

__all__ = ["Split", "group_numbers", "group_pairs", "split_pairs", "train_on_more"]


@dataclass(frozen=True)
class Split:
    """The three parts of a set of pairs.

    Args:
        train: Pairs to learn from.
        validation: Pairs to choose by: early stopping, checkpoints, settings.
        test: Pairs to judge by, once.
    """

    train: list[QAPair]
    validation: list[QAPair]
    test: list[QAPair]


def group_pairs(pairs: Sequence[QAPair]) -> list[list[int]]:
    """Groups pairs that must not be parted: the connected components over equal question, answer, topic, dialogue.

    Texts are compared by :func:`normalise_text`; an empty topic or dialogue connects nothing, nor does the question of
    a later turn of a dialogue, such as "Why?". The first turn is that of the lowest number.

    Args:
        pairs: The pairs.

    Returns:
        The indices of the pairs of each group, both in ascending order.

    Example:
        >>> group_pairs([QAPair("Who?", "I"), QAPair("Why?", "So", topic="a"), QAPair("who", "You", topic="A")])
        [[0, 1, 2]]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first: dict[tuple[str, str], int] = {}
    rows, columns = [], []
    for index, (pair, asked) in enumerate(zip(pairs, _asked_first(pairs), strict=True)):
        for field, text in (
            ("question", asked),
            ("answer", normalise_text(pair.answer)),
            ("topic", normalise_text(pair.topic)),
            ("dialogue", pair.dialogue),
        ):
            if text:
                rows.append(first.setdefault((field, text), index))
                columns.append(index)
    links = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(len(pairs), len(pairs)))
    groups: dict[int, list[int]] = defaultdict(list)
    if pairs:
        for index, label in enumerate(connected_components(links, directed=False)[1].tolist()):
            groups[label].append(index)
    return sorted(groups.values())


def group_numbers(pairs: Sequence[QAPair]) -> np.ndarray:
    """The number of each pair's group (:func:`group_pairs`), ``[num_pairs]``.

    Args:
        pairs: The pairs.

    Example:
        >>> group_numbers([QAPair("Who?", "I"), QAPair("Why?", "So"), QAPair("who", "You")]).tolist()
        [0, 1, 0]
    """
    numbers = np.empty(len(pairs), dtype=np.int64)
    for place, members in enumerate(group_pairs(pairs)):
        numbers[members] = place
    return numbers


def split_pairs(
    pairs: Sequence[QAPair],
    *,
    test: int | float,
    validation: int | float,
    seed: int,
    train: int | float | None = None,
) -> Split:
    """Splits pairs into training, validation and test by group, so that nothing in one part is known from another.

    Pairs with an equal question, answer, topic or dialogue stay together (:func:`group_pairs`). Groups are drawn in an
    order that depends on the seed and their texts alone, not on the order of the pairs; where the drawn ones do not
    add up to the number wanted, the closest sum that groups can make is taken. The test part is drawn first: it stays
    the same when the size of the validation part changes.

    Args:
        pairs: The pairs.
        test: Number of pairs wanted for the test (int), or their fraction of all (float).
        validation: The same for validation.
        seed: Seed of the draw.
        train: The most pairs to train on, or their share of what the other parts leave; all when absent. A smaller
            number takes groups of what a larger one takes, and both leave the other parts as they are.

    Raises:
        ValueError: If a size is no number or negative, they leave nothing to train on, or they cannot be had from the
            groups to within one half (a group is too large); or the seed is no integer.

    Example:
        >>> pairs = [QAPair(f"What is {i}?", f"It is {i}.", topic=f"topic {i // 2}") for i in range(10)]
        >>> split = split_pairs(pairs, test=4, validation=0.2, seed=0)
        >>> len(split.train), len(split.validation), len(split.test)
        (4, 2, 4)
    """
    seed = integer("seed", seed)
    wanted = {"test": _count(test, len(pairs), "test"), "validation": _count(validation, len(pairs), "validation")}
    if sum(wanted.values()) >= len(pairs):
        raise ValueError(
            f"{len(pairs)} pairs cannot give {wanted['test']} for test and {wanted['validation']} for validation "
            "and leave some for training"
        )
    asked = _asked_first(pairs)
    groups = sorted(group_pairs(pairs), key=lambda group: _draw(seed, [asked[i] for i in group]))
    largest = max(map(len, groups))
    parts: dict[str, list[QAPair]] = {}
    for name, size in wanted.items():
        chosen = _choose([len(group) for group in groups], size)
        indices = sorted(i for position in chosen for i in groups[position])
        groups = [group for position, group in enumerate(groups) if position not in chosen]
        if abs(len(indices) - size) > size / 2 or not groups:
            raise ValueError(
                f"cannot hold out {size} of {len(pairs)} pairs for {name}: pairs that share a question, answer, "
                f"topic or dialogue stay together; the largest group has {largest}, the closest sum is {len(indices)}"
            )
        parts[name] = [pairs[i] for i in indices]
    if train is not None:
        groups = _at_most(train, groups)
    learned = [pairs[i] for i in sorted(i for group in groups for i in group)]
    return Split(train=learned, validation=parts["validation"], test=parts["test"])


def train_on_more(split: Split, more: Sequence[QAPair], *, left_out: Sequence[QAPair] = ()) -> Split:
    """The split with more pairs to train on, of which those that a held-out part knows are left out.

    A dialogue that bears the name of one in training is another one, and gets a name of its own.

    Args:
        split: The parts.
        more: Pairs of any source: what shares a question, answer, topic or dialogue with a held-out pair, or with what
            does (:func:`group_pairs`), is not taken.
        left_out: Pairs that are not trained on, though they are in no other part: what shares something with them is
            not taken either.

    Example:
        >>> split = Split([QAPair("a", "1")], [], [QAPair("b", "2", topic="t")])
        >>> [pair.question for pair in train_on_more(split, [QAPair("c", "3"), QAPair("d", "4", topic="T")]).train]
        ['a', 'c']
    """
    held = [*split.validation, *split.test, *left_out]
    free = [i - len(held) for group in group_pairs([*held, *more]) if group[0] >= len(held) for i in group]
    taken = {pair.dialogue for pair in split.train} - {""}
    renamed: dict[str, str] = {}
    for name in sorted({pair.dialogue for pair in more}):
        own = name
        while own in taken:
            own = f"{own} (more)"
        renamed[name] = own
        taken.add(own)
    added = (more[i] for i in sorted(free))
    return replace(split, train=[*split.train, *(replace(pair, dialogue=renamed[pair.dialogue]) for pair in added)])


def _at_most(size: int | float, groups: list[list[int]]) -> list[list[int]]:
    """The first groups that have no more than so many pairs together."""
    total = sum(map(len, groups))
    most = _count(size, total, "train")
    if most > total:
        raise ValueError(f"train={size} is more than the {total} pairs that the other parts leave")
    sums = list(itertools.accumulate(map(len, groups)))
    kept = groups[: bisect.bisect_right(sums, most)]
    if not kept:
        raise ValueError(f"train={size} leaves nothing to train on: the first group has {sums[0]} of {total} pairs")
    return kept


def _count(size: int | float, total: int, name: str) -> int:
    try:
        wanted = integer(name, size)
    except ValueError:
        return _part(size, total, name)
    if wanted < 0:
        raise ValueError(f"{name} must not be negative, got {size}")
    return wanted


def _part(size: float, total: int, name: str) -> int:
    try:
        share = number(name, size)
    except ValueError:
        raise ValueError(f"{name} must be a number of pairs or a fraction of them, got {size!r}") from None
    if not 0 <= share < 1:
        raise ValueError(f"{name} as a fraction must be at least 0 and below 1, got {size}")
    return round(share * total)


def _asked_first(pairs: Sequence[QAPair]) -> list[str]:
    """Returns the words of each question, none of a later turn: what that asks is known from those before it alone."""
    first: dict[str, int] = {}
    for pair in pairs:
        first[pair.dialogue] = min(pair.turn, first.get(pair.dialogue, pair.turn))
    return [
        "" if pair.dialogue and pair.turn > first[pair.dialogue] else normalise_text(pair.question) for pair in pairs
    ]


def _draw(seed: int, asked: Sequence[str]) -> bytes:
    """Returns the place of a group in the draw: a hash, which unlike a generator is the same in every version."""
    # No other group has this question. One that many dialogues have, as those of later turns, would draw them together.
    name = min(filter(None, asked), default="")
    return hashlib.sha256(f"{seed}\n{name}".encode()).digest()


def _choose(sizes: Sequence[int], wanted: int) -> set[int]:
    """Returns positions of groups whose sizes sum as close to the wanted number as possible, earlier ones first."""
    chosen, left = set(), wanted
    for position, size in enumerate(sizes):
        if size <= left:
            chosen.add(position)
            left -= size
    if left == 0:
        return chosen

    # Subset sum: bit s of `reachable` says that the groups so far can add up to s, and `by` at which of them they first
    # could. Sizes above twice the number wanted are worse than none.
    cut = (1 << (2 * wanted + 1)) - 1
    reachable, by = 1, {0: -1}
    for position, size in enumerate(sizes):
        if reachable >> wanted & 1:
            break
        new = reachable << size & cut & ~reachable if size <= 2 * wanted else 0
        reachable |= new
        while new:
            total = new.bit_length() - 1
            by[total] = position
            new ^= 1 << total
    nearest = (total for distance in range(wanted + 1) for total in (wanted - distance, wanted + distance))
    total = next(total for total in nearest if total in by)
    chosen = set()
    while total:
        chosen.add(by[total])
        total -= sizes[by[total]]
    return chosen
