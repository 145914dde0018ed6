"""Thresholds of the checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cellgraph.numbers import settle_numbers

from .finding import ACTIONS, CHECKS, KINDS

__all__ = ["CheckSettings"]

_LENGTHS = ("question", "answer")
_SHARES = ("near", "neighbour", "coherence", "language_confidence")


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """What is a fault, and what then happens.

    Args:
        min_question_chars: Shortest question, in characters.
        max_question_chars: Longest question.
        min_answer_chars: Shortest answer.
        max_answer_chars: Longest answer.
        near: Smallest likeness of near duplicates, of their questions and of their answers: the Jaccard index of their
            runs of five letters.
        neighbour: Smallest cosine of neighbours, of their questions and of their answers.
        coherence: The share of shuffled pairs that a pair's similarity must reach.
        language: Code of the language expected (``"en"``); by default the one that most rows are in.
        language_confidence: Smallest probability of another language.
        min_language_chars: Shortest text whose language is told, in characters.
        test: Number or share of the pairs that training would hold out to judge by, where the file has no split.
        validation: The same to validate by.
        seed: Seed of that split and of the shuffled pairs.
        without: Checks that are left out.
        actions: What happens to findings of a kind, where it is not what :data:`~cellgraph.data.checks.KINDS` says.

    Raises:
        ValueError: If a number is out of range, or there is no such check, kind or action.
    """

    min_question_chars: int = 2
    max_question_chars: int = 1000
    min_answer_chars: int = 1
    max_answer_chars: int = 20_000
    near: float = 0.8
    neighbour: float = 0.95
    coherence: float = 0.5
    language: str | None = None
    language_confidence: float = 0.95
    min_language_chars: int = 40
    test: int | float = 0.2
    validation: int | float = 0.08
    seed: int = 0
    without: tuple[str, ...] = ()
    actions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settle_numbers(self)
        for name in _LENGTHS:
            smallest, largest = (getattr(self, f"{end}_{name}_chars") for end in ("min", "max"))
            if smallest > largest:
                raise ValueError(f"min_{name}_chars must not exceed max_{name}_chars, got {smallest} and {largest}")
        for name in _SHARES:
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}")
        # What is read from the file cannot be left unread.
        _known("without", self.without, [check for check in CHECKS if check != "rows"])
        _known("a kind", self.actions, KINDS)
        _known("an action", self.actions.values(), ACTIONS)
        for kind, action in self.actions.items():
            if action == "repair" and KINDS[kind].action != "repair":
                raise ValueError(f"{kind} cannot be repaired, expected one of remove, note")
            if kind in ("unreadable", "dialogue") and action != "remove":
                raise ValueError(f"{kind} can only be removed, got {action}")

    def action(self, kind: str) -> str:
        """What happens to findings of a kind."""
        return self.actions.get(kind, KINDS[kind].action)


def _known(what: str, given: object, there: object) -> None:
    unknown = [name for name in given if name not in there]  # type: ignore[attr-defined, operator]
    if unknown:
        raise ValueError(f"{what} must be one of {', '.join(there)}, got {unknown[0]!r}")  # type: ignore[arg-type]
