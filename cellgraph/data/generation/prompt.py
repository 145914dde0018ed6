"""The prompt: what a language model is asked for, and the form that its reply must have."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..pairs import QAPair
from .plan import Topic

__all__ = ["SCHEMA", "Prompt", "write_prompt"]

#: The form of a reply, as a JSON schema.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "pairs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
                "required": ["question", "answer"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["pairs"],
    "additionalProperties": False,
}
#: Number of earlier questions that the model is shown, the newest ones: enough to keep it from repeating itself.
_SHOWN_QUESTIONS = 60
_SYSTEM = """\
You write question-answer pairs from which a small model learns to answer. Every question must make sense by itself, \
and its answer must answer that very question, correctly, in one to four plain sentences without markup. Vary form and \
length: what, why, how, which, comparisons, yes-or-no questions, requests, situations. No two questions may ask for \
the same thing, and none may be another one with a name or number exchanged. Reply with one JSON object and nothing \
else, of this form: {"pairs": [{"question": "...", "answer": "..."}, ...]}"""


@dataclass(frozen=True)
class Prompt:
    """What is sent to a model.

    Args:
        system: What it is to do.
        user: What it is to do it for.
    """

    system: str
    user: str

    @property
    def tokens(self) -> int:
        """About how many tokens it has, rather too many: most tokenizers make one of some four letters of English."""
        return len((self.system + self.user).encode()) // 3 + 100

    def after_a_fault(self, fault: str) -> Prompt:
        """The prompt for a second try, after a reply that could not be used."""
        return Prompt(
            self.system, f"{self.user}\n\nYour last reply could not be used: {fault}. Reply in the form above."
        )


def write_prompt(
    topic: Topic, count: int, *, asked: Sequence[str] = (), examples: Sequence[QAPair] = (), shots: int = 3
) -> Prompt:
    """Asks for pairs of a topic, in the style of examples, that are not there yet.

    The same arguments make the same prompt: which examples are shown depends on the topic and the number of questions
    that have been asked. Those of the same category come first.

    Args:
        topic: The topic.
        count: Number of pairs.
        asked: Questions that are there.
        examples: Pairs to choose examples from.
        shots: Number of examples.

    Example:
        >>> prompt = write_prompt(Topic("science", "tides", 10), 5, asked=["Why are there two tides a day?"])
        >>> print(prompt.user)
        Write 5 question-answer pairs.
        Category: science
        Topic: tides
        <BLANKLINE>
        These questions are there already; ask for other things:
        - Why are there two tides a day?
    """
    lines = [f"Write {count} question-answer pairs.", f"Category: {topic.category}", f"Topic: {topic.name}"]
    if topic.note:
        lines.append(f"Style: {topic.note}")
    if shown := _chosen(topic, examples, shots, len(asked)):
        pairs = [{"question": pair.question, "answer": pair.answer} for pair in shown]
        lines += [
            "",
            "Examples of the style wanted, not of the topic:",
            json.dumps({"pairs": pairs}, ensure_ascii=False),
        ]
    if asked:
        lines += ["", "These questions are there already; ask for other things:"]
        lines += [f"- {question}" for question in asked[-_SHOWN_QUESTIONS:]]
    return Prompt(_SYSTEM, "\n".join(lines))


def _chosen(topic: Topic, examples: Sequence[QAPair], shots: int, turn: int) -> list[QAPair]:
    def place(pair: QAPair) -> tuple[bool, int]:
        # Not Python's own hash, which is another in every process.
        return pair.category != topic.category, zlib.crc32(f"{turn} {topic.name} {pair.question}".encode())

    return sorted(examples, key=place)[:shots]
