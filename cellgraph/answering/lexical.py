"""The words that a question and an answer share, beside what the network finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from cellgraph.answering.bank import AnswerBank, Candidate
from cellgraph.retrieval.blend import Blend
from cellgraph.retrieval.lexical import BM25


@dataclass(frozen=True)
class BlendedCandidate(Candidate):
    """An answer that was found by two scores.

    Attributes:
        text: The answer.
        score: The :class:`~cellgraph.retrieval.blend.Blend` of both, by which answers are ranked.
        rank: 1 for the first.
        cosine: Cosine of its embedding with the one that was searched for.
        bm25: BM25 of its words for those of the question.
    """

    cosine: float
    bm25: float

    @property
    def shown(self) -> str:
        """The scores in words."""
        return f"{self.score:.3f} (cosine {self.cosine:.3f}, BM25 {self.bm25:.2f})"


class Lexical:
    """BM25 over the answers of a bank, and how much it counts beside the network.

    Args:
        bank: The bank; its words are counted once, here.
        blend: The weighted sum.
    """

    def __init__(self, bank: AnswerBank, blend: Blend) -> None:
        self.blend, self.words = blend, BM25(bank.texts)

    def scores(self, questions: Sequence[str], cosines: Tensor) -> Tensor:
        """The blended scores.

        Shapes:
            - **cosines**, **output:** ``[num_questions, num_answers]``
        """
        return self.blend(cosines, self.words.scores(questions))

    def nearest(self, question: str, cosines: Tensor, bank: AnswerBank, *, k: int) -> list[Candidate]:
        """The best answers to a question, in words.

        Args:
            question: The question.
            cosines: Its prediction's with all the answers, ``[1, num_answers]``.
            bank: The bank.
            k: How many; fewer where the bank is smaller.
        """
        words = self.words.scores([question])
        best = self.blend(cosines, words)[0].topk(min(k, len(bank)))
        return [
            BlendedCandidate(bank.texts[i], score, rank, float(cosines[0, i]), float(words[0, i]))
            for rank, (score, i) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True), 1)
        ]
