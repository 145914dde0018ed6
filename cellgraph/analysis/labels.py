"""Labels: what a question is about and how it asks, for probes and colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from cellgraph.data import QAPair

#: Rarer labels are left out: five folds leave four examples of such a class to learn from.
MIN_COUNT = 20


def question_types(pairs: Sequence[QAPair]) -> list[str]:
    """First word of each question, in lower case: what, how, why, can, ...

    Example:
        >>> question_types([QAPair("How far?", "Ten hops.")])
        ['how']
    """
    return [(pair.question.split() or [""])[0].strip("\"'([¿¡?.,:").casefold() for pair in pairs]


def topics(pairs: Sequence[QAPair], *, min_count: int = MIN_COUNT) -> list[str]:
    """Topic of each pair, a dotted one (``numpy.linalg``) by its first part; the category where topics are all rare.

    Example:
        >>> topics([QAPair("Why?", "So.", topic="numpy.linalg")] * 2, min_count=1)
        ['numpy', 'numpy']
    """
    heads = [pair.topic.split(".")[0] for pair in pairs]
    common = [label for label, count in Counter(heads).items() if count >= min_count and label]
    return heads if len(common) > 1 else [pair.category or head for pair, head in zip(pairs, heads, strict=True)]


def frequent(labels: Sequence[str], *, min_count: int = MIN_COUNT) -> tuple[Tensor, list[str]]:
    """Number of each label among those that are frequent, the most frequent first.

    Returns:
        ``[len(labels)]``, -1 for a rare or empty label; and the names of the numbers.

    Example:
        >>> frequent(["a", "b", "b", "c"], min_count=1)[0].tolist()
        [1, 0, 0, 2]
    """
    names = [name for name, count in Counter(labels).most_common() if count >= min_count and name]
    number = {name: index for index, name in enumerate(names)}
    return torch.tensor([number.get(label, -1) for label in labels], dtype=torch.long), names
