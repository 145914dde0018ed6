"""A session: question text in, answers with a confidence out, one turn after another."""

from __future__ import annotations

import functools
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cellgraph.answering.bank import AnswerBank, Candidate
from cellgraph.answering.confidence import Confidence, score_features
from cellgraph.answering.lexical import Lexical
from cellgraph.model import CellGraph
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
        if self.top < 1:
            raise ValueError(f"at least one answer must be asked for, got top = {self.top}")
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

    @torch.no_grad()
    def ask(self, question: str) -> Answer:
        """Answer a question as the next turn.

        Raises:
            ValueError: If the question is blank.
        """
        question = well_formed(question.strip())
        if not question:
            raise ValueError("expected a question, got a blank text")
        begin = time.perf_counter()
        # Not through the cache, which would get a file for every question.
        asked = self.teacher.encode([question])
        read = asked if self.reader is None else self.reader.encode([question])
        encoded = time.perf_counter()
        parameter = next(self.model.parameters())
        output = self.model(read.to(parameter.device, parameter.dtype), self._memory if self.remembers else None)
        embedding = output.embedding.float().cpu()
        predicted = time.perf_counter()
        if self.remembers:
            self._memory = None if output.memory is None else output.memory.detach()
        # The lead over the second answer is a feature of the confidence, whatever is shown.
        k = max(self.top, 2)
        if self.lexical is None:
            found = self._keyed.nearest(output.query, k=k)[0]
        else:
            found = self.lexical.nearest(question, self._keyed.scores(output.query), self.bank, k=k)
        scores = torch.tensor([[candidate.score for candidate in found[:2]]])
        probability = self.confidence.probability(score_features(scores))
        answer = Answer(
            question=question,
            answers=found[: self.top],
            confidence=float(probability),
            known=bool(self.confidence.known(probability)),
            generated=None if self.decoder is None else self.decoder.generate(embedding)[0],
            teacher_answers=self.bank.nearest(asked, k=self.top)[0],
            num_steps=output.num_steps,
            seconds={
                "teacher": encoded - begin,
                "lattice": predicted - encoded,
                "total": time.perf_counter() - begin,
            },
        )
        self.history.append(answer)
        return answer
