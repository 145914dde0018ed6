"""Limits: how much a server takes at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from cellgraph.numbers import settle_numbers


@dataclass(frozen=True)
class Limits:
    """How much a server takes at a time; what is beyond is refused, and nothing of it is kept.

    Attributes:
        batch: Questions answered together. The state of a few large cubes fits a processor's caches, that of many does
            not.
        queue: Questions that wait; further ones are refused until there is room.
        chars: Characters of a question.
        turns: Questions before it in a dialogue.
        body: Bytes of a request.
        memory: Bytes of the memories of dialogues that are kept, so that their turns are not heard again.
        grace: Seconds in which questions in flight are still answered when the server is to end.

    Raises:
        ValueError: If one is less than it can be.
    """

    batch: int = 8
    queue: int = 256
    chars: int = 2000
    turns: int = 32
    body: int = 2**18
    memory: int = 2**26
    grace: int = 30

    def __post_init__(self) -> None:
        settle_numbers(self)
        for field in fields(self):
            least = 0 if field.name in ("turns", "memory") else 1
            if getattr(self, field.name) < least:
                raise ValueError(f"{field.name} must be at least {least}, got {getattr(self, field.name)}")

    def check(self, question: str, dialogue: Sequence[str]) -> None:
        """Refuse a question, after those before it, that is blank or too long.

        Raises:
            ValueError: If it is.
        """
        if len(dialogue) > self.turns:
            raise ValueError(f"expected at most {self.turns} questions before, got {len(dialogue)}")
        for text in (question, *dialogue):
            if not text.strip():
                raise ValueError("expected a question, got a blank text")
            if len(text) > self.chars:
                raise ValueError(f"expected at most {self.chars} characters, got {len(text)}")
