"""A session: question text in, answers with a confidence out, one turn after another."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cellgraph.answering.bank import AnswerBank, Candidate
from cellgraph.answering.confidence import Confidence, score_features
from cellgraph.answering.lexical import Lexical
from cellgraph.model import CellGraph, CellGraphOutput
from cellgraph.numbers import at_least
from cellgraph.retrieval.prediction import keys
from cellgraph.sequence import SequenceGraph
from cellgraph.teacher import Teacher, TokenReader
from cellgraph.texts import well_formed

if TYPE_CHECKING:
    from cellgraph.answering.generator import GenerativeDecoder


@dataclass(frozen=True)
class Answer:
    """What was answered to a question.

    Attributes:
        question: The question.
        answers: Answers of the bank that the network finds, nearest first; with a
            :class:`~cellgraph.answering.Lexical` the best by both scores,
            :class:`~cellgraph.answering.lexical.BlendedCandidate`.
        confidence: Probability that the first of them is a relevant answer.
        known: Whether that is enough, or "I do not know".
        generated: Text of the generative decoder, where there is one.
        teacher_answers: What the teacher alone would give: answers nearest to the question itself.
        num_steps: Steps the lattice took.
        seconds: Time of the ``teacher``, the ``lattice`` and in ``total``.
    """

    question: str
    answers: list[Candidate]
    confidence: float
    known: bool
    generated: str | None
    teacher_answers: list[Candidate]
    num_steps: int
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as ``cellgraph ask --json`` prints them."""
        return asdict(self)


@dataclass
class Session:
    """A conversation with a network.

    Attributes:
        model: The network. One whose cells have memory takes it from turn to turn.
        teacher: The teacher it was trained with.
        bank: Where answers are looked for.
        confidence: How far to trust them.
        lexical: Has the words that an answer shares with the question count, too.
        decoder: Puts the predicted embedding into words as well.
        top: Answers a question.
        use_memory: Whether to keep memory between turns.
        reader: Reads questions token by token, for a network that takes them so.
        history: The answers since the last :meth:`reset`.
    """

    model: CellGraph | SequenceGraph
    teacher: Teacher
    bank: AnswerBank
    confidence: Confidence
    lexical: Lexical | None = None
    decoder: GenerativeDecoder | None = None
    top: int = 5
    use_memory: bool = True
    reader: TokenReader | None = None
    history: list[Answer] = field(default_factory=list, init=False)
    _memory: Tensor | None = field(default=None, init=False, repr=False)
    _keyed: AnswerBank = field(init=False, repr=False)

    def __post_init__(self) -> None:
        at_least(1, top=self.top)
        self.model.eval()
        # Without a path answers are their own keys.
        self._keyed = self.bank if self.model.path is None else self.bank.by(functools.partial(keys, self.model))

    @property
    def remembers(self) -> bool:
        """Whether an answer depends on the turns before it."""
        return self.use_memory and self.model.remembers

    def reset(self) -> None:
        """Forget all turns."""
        self.history.clear()
        self._memory = None

    @property
    def together(self) -> bool:
        """Whether answers are the same together as alone; a lattice that ends at a fixed point ends for all at once."""
        return not any(getattr(part, "tolerance", 0.0) for part in self.model.modules())

    def ask(self, question: str) -> Answer:
        """Answer a question as the next turn.

        Raises:
            ValueError: If the question is blank.
        """
        [answer], [self._memory] = self.answer([question], [self._memory])
        self.history.append(answer)
        return answer

    @torch.no_grad()
    def answer(
        self, questions: Sequence[str], memories: Sequence[Tensor | None]
    ) -> tuple[list[Answer], list[Tensor | None]]:
        """Answer questions together, each a turn of a dialogue of its own; the session stays as it is.

        Args:
            questions: The questions.
            memories: What the turn before left behind in each dialogue; ``None`` before the first.

        Returns:
            The answers, the times in which are those of all together, and what their turns leave behind.

        Raises:
            ValueError: If a question is blank, or there are not as many memories.
        """
        if not questions:
            return [], []
        _check_memories(questions, memories)
        begin = time.perf_counter()
        questions = [checked_question(question) for question in questions]
        # Not through the cache, which would get a file for every question.
        asked = self.teacher.encode(questions)
        read = asked if self.reader is None else self.reader.encode(questions)
        encoded = time.perf_counter()
        outputs = self._said(read, memories)
        embedding = torch.cat([output.embedding for output in outputs]).float().cpu()
        predicted = time.perf_counter()
        found = self._found(questions, torch.cat([output.query for output in outputs]))
        scores = torch.tensor([[candidate.score for candidate in row[:2]] for row in found])
        probability = self.confidence.probability(score_features(scores))
        known = self.confidence.known(probability).tolist()
        generated = [None] * len(questions) if self.decoder is None else self.decoder.generate(embedding)
        alone = self.bank.nearest(asked, k=self.top)
        seconds = {"teacher": encoded - begin, "lattice": predicted - encoded, "total": time.perf_counter() - begin}
        answers = [
            Answer(
                question=question,
                answers=found[row][: self.top],
                confidence=float(probability[row]),
                known=known[row],
                generated=generated[row],
                teacher_answers=alone[row],
                num_steps=outputs[row].num_steps,
                seconds=dict(seconds),
            )
            for row, question in enumerate(questions)
        ]
        return answers, [output.memory for output in outputs]

    @torch.no_grad()
    def hear(self, questions: Sequence[str], memories: Sequence[Tensor | None]) -> list[Tensor | None]:
        """What turns leave behind, see :meth:`answer`, without looking for their answers."""
        _check_memories(questions, memories)
        return [output.memory for output in self._said(self.read(questions), memories)]

    def read(self, questions: Sequence[str]) -> Tensor:
        """What the network is given of questions: embeddings, or the states of their tokens."""
        return (self.teacher if self.reader is None else self.reader).encode(
            [checked_question(one) for one in questions]
        )

    def _said(self, read: Tensor, memories: Sequence[Tensor | None]) -> list[CellGraphOutput]:
        """What the network says to each question, those with memories of one shape together."""
        parameter = next(self.model.parameters())
        groups: dict[Any, list[int]] = {}
        for row, memory in enumerate(memories):
            alike = None if memory is None else memory.shape
            groups.setdefault(alike if self.together else row, []).append(row)
        said: dict[int, CellGraphOutput] = {}
        for rows in groups.values():
            before = [memory for row in rows if (memory := memories[row]) is not None]
            output = self.model(
                read[rows].to(parameter.device, parameter.dtype),
                torch.cat(before) if before and self.remembers else None,
            )
            for place, row in enumerate(rows):
                # A copy, so that what is kept of one does not keep all.
                after = output.memory[[place]] if self.remembers and output.memory is not None else None
                said[row] = CellGraphOutput(
                    embedding=output.embedding[[place]],
                    surface=output.surface[[place]],
                    query=output.query[[place]],
                    memory=after,
                    num_steps=output.num_steps,
                )
        return [said[row] for row in range(len(memories))]

    def _found(self, questions: Sequence[str], query: Tensor) -> list[list[Candidate]]:
        # The lead over the second answer is a feature of the confidence, whatever is shown.
        k = max(self.top, 2)
        if self.lexical is None:
            return self._keyed.nearest(query, k=k)
        cosines = self._keyed.scores(query)
        return [
            self.lexical.nearest(question, cosines[[row]], self.bank, k=k) for row, question in enumerate(questions)
        ]


def _check_memories(questions: Sequence[str], memories: Sequence[Tensor | None]) -> None:
    if len(memories) != len(questions):
        raise ValueError(f"expected a memory, or None, for each of {len(questions)} questions, got {len(memories)}")


def checked_question(question: str) -> str:
    """A question as it is asked, without white space around it.

    Raises:
        ValueError: If nothing is left of it.
    """
    question = well_formed(question.strip())
    if not question:
        raise ValueError("expected a question, got a blank text")
    return question
