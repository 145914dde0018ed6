"""Faults of length: pairs that nothing can be learned from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..pairs import QAPair, normalise_text
from .finding import Finding
from .settings import CheckSettings

__all__ = ["length_faults"]


def length_faults(pairs: Iterable[tuple[int, QAPair]], settings: CheckSettings) -> Iterator[Finding]:
    """Yields questions and answers that are too short or too long, and answers that only repeat their question.

    White space counts as :func:`~cellgraph.data.clean_pairs` counts it, as one space and not at the ends. As there, the
    turns of a dialogue may be short and repeat each other.

    Args:
        pairs: Pairs with their rows.
        settings: Smallest and largest lengths.
    """
    for row, pair in pairs:
        for field in ("question", "answer"):
            chars = len(" ".join(getattr(pair, field).split()))
            least, most = (getattr(settings, f"{end}_{field}_chars") for end in ("min", "max"))
            least = 1 if pair.dialogue else least
            if not least <= chars <= most:
                bound = f"fewer than {least:,}" if chars < least else f"more than {most:,}"
                yield Finding(row, "length", f"the {field} has {chars:,} characters, {bound}", value=chars)
        if not pair.dialogue and normalise_text(pair.question) == normalise_text(pair.answer):
            yield Finding(row, "echo", "the answer says no more than the question")
