"""Coherence: answers beside those of other questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .finding import Finding

__all__ = ["Coherence", "judge_coherence"]

#: Strangers that each question is compared with.
NUM_SHUFFLES = 10


@dataclass(frozen=True)
class Coherence:
    """Similarities of questions with their answers and with those of others.

    Args:
        rows: The rows that were judged: those of which the teacher knows something.
        own: Cosine of each question with its answer.
        shuffled: Cosines with the answers of others.
        threshold: The similarity that is expected of a pair.
    """

    rows: np.ndarray
    own: np.ndarray
    shuffled: np.ndarray
    threshold: float

    @property
    def chance(self) -> float:
        """The probability that a question is nearer to its own answer than to a stranger's (ties count half)."""
        if not len(self.own):
            return float("nan")
        order = np.sort(self.shuffled)
        below, upto = (np.searchsorted(order, self.own, side=side) for side in ("left", "right"))
        return float((below + upto).mean() / 2 / len(order))

    def findings(self) -> list[Finding]:
        """The pairs that are less similar than expected."""
        reason = "the answer is as far from its question as a stranger's: similarity {:.3f}, expected {:.3f}"
        return [
            Finding(row, "incoherent", reason.format(own, self.threshold), None, own)
            for row, own in zip(self.rows.tolist(), self.own.tolist(), strict=True)
            if own < self.threshold
        ]

    def to_dict(self) -> dict[str, Any]:
        """The distributions in a few numbers."""
        shares = (0.05, 0.25, 0.5, 0.75, 0.95)
        return {
            "judged": len(self.own),
            "threshold": self.threshold,
            "own_before_stranger": self.chance if len(self.own) else None,
            **{
                name: {
                    f"{share:g}": float(value) for share, value in zip(shares, np.quantile(part, shares), strict=True)
                }
                for name, part in (("own", self.own), ("shuffled", self.shuffled))
                if len(part)
            },
        }


def judge_coherence(
    questions: np.ndarray, answers: np.ndarray, rows: np.ndarray, *, share: float = 0.5, seed: int = 0
) -> Coherence:
    """Compares questions with their answers and with those of ten others, drawn at random.

    A pair is expected to be at least as similar as the ``share`` of all these shuffled pairs: the threshold is taken
    from the set and the teacher themselves. Where a text has no embedding (of length zero) nothing can be said.

    Args:
        questions: Embeddings of the questions, of unit length or zero.
        answers: The same of the answers.
        rows: The row of each.
        share: The share of shuffled pairs.
        seed: Seed of the draw.

    Shapes:
        - ``questions``, ``answers``: ``[num_pairs, width]``
        - ``rows``: ``[num_pairs]``

    Example:
        >>> both = judge_coherence(np.eye(4), np.eye(4), np.arange(4))
        >>> both.chance, both.findings()
        (1.0, [])
    """
    known = (np.abs(questions).sum(1) > 0) & (np.abs(answers).sum(1) > 0)
    questions, answers, rows = questions[known], answers[known], rows[known]
    if len(rows) < 2:
        return Coherence(rows[:0], np.zeros(0), np.zeros(0), 0.0)
    own = np.einsum("nd,nd->n", questions, answers, dtype=np.float64)
    # Round a circle in random order: nobody meets the own answer, and all answers are met equally often.
    order = np.random.default_rng(seed).permutation(len(rows))
    steps = np.unique(np.linspace(1, len(rows) - 1, min(NUM_SHUFFLES, len(rows) - 1)).round().astype(int))
    shuffled = np.concatenate(
        [np.einsum("nd,nd->n", questions[order], answers[np.roll(order, step)], dtype=np.float64) for step in steps]
    )
    return Coherence(rows, own, shuffled, float(np.quantile(shuffled, share)))
