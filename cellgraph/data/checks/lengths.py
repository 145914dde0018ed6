"""Faults of length: pairs that nothing can be learned from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..pairs import QAPair, normalise_text
from .finding import Finding
from .settings import CheckSettings

__all__ = ["length_faults"]


def length_faults(pairs: Iterable[tuple[int, QAPair]], settings: CheckSettings) -> Iterator[Finding]:
    """Yields questions and answers that are too short or too long, and answers that only repeat their question.

    White space counts as :func:`~cellgraph.data.clean_pairs` counts it: runs as one space, none at the ends.

    Args:
        pairs: Pairs with their rows.
        settings: Smallest and largest lengths.
    """
    for row, pair in pairs:
        for field in ("question", "answer"):
            chars = len(" ".join(getattr(pair, field).split()))
            least, most = (getattr(settings, f"{end}_{field}_chars") for end in ("min", "max"))
            if not least <= chars <= most:
                bound = f"fewer than {least:,}" if chars < least else f"more than {most:,}"
                yield Finding(row, "length", f"the {field} has {chars:,} characters, {bound}", value=chars)
        if normalise_text(pair.question) == normalise_text(pair.answer):
            yield Finding(row, "echo", "the answer says no more than the question")
