"""The starter set: question-answer pairs that were written for this project and ship with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .pairs import QAPair
from .readers import read_pairs

__all__ = ["STARTER_CATEGORIES", "starter_pairs"]

#: What the pairs are about, in the order of the set; each category is a file.
STARTER_CATEGORIES = {
    "AI and machine learning": "ai",
    "science and technology": "science",
    "general knowledge": "general",
    "conversation": "conversation",
    "reasoning and logic": "reasoning",
}
_FOLDER = Path(__file__).with_name("starter_set")


def starter_pairs(categories: Sequence[str] | None = None) -> list[QAPair]:
    """Reads the starter set: some 130 pairs in each of five categories, 8 to 11 for each topic.

    The pairs are under the licence of this project. The same ones come in the same order every time, category by
    category and topic by topic.

    Args:
        categories: Names of categories among :data:`STARTER_CATEGORIES`, all by default.

    Raises:
        ValueError: If a category is unknown, or there is none.

    Example:
        >>> pairs = starter_pairs(["conversation"])
        >>> pairs[0].question, pairs[0].topic
        ('Good morning! How are you today?', 'greetings')
    """
    if isinstance(categories, str):
        raise ValueError(f"categories must be a list of names, got {categories!r}")
    wanted = set(STARTER_CATEGORIES if categories is None else categories)
    unknown = sorted(wanted - STARTER_CATEGORIES.keys())
    if unknown or not wanted:
        raise ValueError(f"categories must be among {list(STARTER_CATEGORIES)}, got {unknown or 'none'}")
    return [
        pair
        for category, file in STARTER_CATEGORIES.items()
        if category in wanted
        for pair in read_pairs(_FOLDER / f"{file}.jsonl")
    ]
