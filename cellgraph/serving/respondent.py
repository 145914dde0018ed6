"""The respondent: answers the questions of many dialogues together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cellgraph.answering import Session
from cellgraph.serving.cube import cube_of, picture, steps_of
from cellgraph.serving.limits import Limits
from cellgraph.serving.memories import DialogueMemories


@dataclass(frozen=True)
class Asked:
    """What somebody wants to know.

    Attributes:
        question: The question.
        dialogue: The questions before it.
        cells: Whether what the cells do with it is wanted, and not its answer.
    """

    question: str
    dialogue: tuple[str, ...] = ()
    cells: bool = False


class Respondent:
    """Answers questions as a session would that has heard each one's dialogue.

    Args:
        session: The session.
        limits: What it takes.

    Attributes:
        cube: The network whose cells can be shown, see :func:`~cellgraph.serving.cube.cube_of`.
    """

    def __init__(self, session: Session, limits: Limits) -> None:
        self.session, self.limits = session, limits
        self.memories = DialogueMemories(limits.memory)
        self.cube = cube_of(session)

    @property
    def batch(self) -> int:
        """Most questions that are answered together."""
        return self.limits.batch if self.session.together else 1

    def check(self, asked: Asked) -> None:
        """Refuse what is not answered.

        Raises:
            ValueError: If it is blank, too long, or goes on with a dialogue where each question stands alone.
        """
        self.limits.check(asked.question, asked.dialogue)
        if asked.dialogue and not self.session.remembers:
            raise ValueError("each question stands alone here: expected no dialogue")
        if asked.cells and self.cube is None:
            raise ValueError("the cells of this network cannot be shown")

    def respond(self, batch: Sequence[Asked]) -> list[dict[str, Any]]:
        """What ``cellgraph ask --json`` prints of each question, or the picture of its cells."""
        memories = self._heard([asked.dialogue for asked in batch])
        found: list[dict[str, Any]] = [{}] * len(batch)
        rows = [row for row, asked in enumerate(batch) if not asked.cells]
        if rows:
            answers, left = self.session.answer([batch[row].question for row in rows], [memories[row] for row in rows])
            for row, answer, memory in zip(rows, answers, left, strict=True):
                found[row] = answer.to_dict()
                self._keep((*batch[row].dialogue, batch[row].question), memory)
        for row, asked in enumerate(batch):
            if asked.cells:
                assert self.cube is not None
                question, num_steps = self.session.read([asked.question]), steps_of(self.session)
                found[row] = picture(self.cube, question, memories[row], num_steps=num_steps)
        return found

    def _heard(self, dialogues: Sequence[Sequence[str]]) -> list[Tensor | None]:
        """What dialogues leave behind; their turns that are not known are heard, all dialogues' next turns together."""
        known = [self.memories.longest(dialogue) for dialogue in dialogues]
        heard, memories = [number for number, _ in known], [memory for _, memory in known]
        while rows := [row for row, dialogue in enumerate(dialogues) if heard[row] < len(dialogue)]:
            questions = [dialogues[row][heard[row]] for row in rows]
            left = self.session.hear(questions, [memories[row] for row in rows])
            for row, memory in zip(rows, left, strict=True):
                heard[row], memories[row] = heard[row] + 1, memory
                self._keep(dialogues[row][: heard[row]], memory)
        return memories

    def _keep(self, dialogue: Sequence[str], memory: Tensor | None) -> None:
        if memory is not None:
            self.memories.put(dialogue, memory)
