"""The portrait of a set: all its metrics, and the values behind them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks.coherence import Coherence, judge_coherence
from ..pairs import QAPair, normalise_text
from .balance import Balance
from .diversity import spectrum, vendi_score
from .questions import QUESTION_TYPES, question_type
from .wording import distinct_ngrams, grade, words_of

__all__ = ["Portrait", "draw_portrait"]

#: Words of answers among which distinct ones are counted.
DISTINCT_WORDS = 20_000


@dataclass(frozen=True)
class Portrait:
    """What is measured of a set of pairs.

    Args:
        name: What the set is called.
        numbers: The metrics, as plain types.
        questions: Embeddings of the questions, of unit length or zero.
        answers: The same of the answers.
        categories: The category of each pair.
        values: What the metrics summarise, by name: a value for each pair.
        coherence: Similarities of questions with their answers and those of others.
        spectra: The spectrum of the embeddings, of ``questions`` and ``answers``.
    """

    name: str
    numbers: dict[str, Any]
    questions: np.ndarray
    answers: np.ndarray
    categories: list[str]
    values: dict[str, np.ndarray]
    coherence: Coherence
    spectra: dict[str, np.ndarray]


def draw_portrait(
    name: str,
    pairs: Sequence[QAPair],
    questions: np.ndarray,
    answers: np.ndarray,
    *,
    equal_pairs: int | None = None,
    equal_words: int = DISTINCT_WORDS,
    seed: int = 0,
) -> Portrait:
    """Measures a set of pairs.

    Args:
        name: What it is called.
        pairs: The pairs.
        questions: Embeddings of the questions; their length does not count.
        answers: The same of the answers.
        equal_pairs: Number of pairs, drawn at random, by which diversity is compared with that of another set.
        equal_words: Number of words, of answers in random order, by which distinct words are compared.
        seed: Seed of what is drawn.

    Shapes:
        - ``questions``, ``answers``: ``[num_pairs, width]``

    Raises:
        ValueError: If there is no pair, or not an embedding for each, or the package textstat is missing.
    """
    if not pairs:
        raise ValueError("expected at least one pair, got none")
    for part, vectors in (("questions", questions), ("answers", answers)):
        if np.ndim(vectors) != 2 or len(vectors) != len(pairs):
            raise ValueError(f"expected {part} of shape [{len(pairs)}, width], got {list(np.shape(vectors))}")
    questions, answers = _unit(questions), _unit(answers)
    order = np.random.default_rng(seed).permutation(len(pairs))
    asked, told = [words_of(pair.question) for pair in pairs], [words_of(pair.answer) for pair in pairs]
    values = {
        "question_words": np.array([len(words) for words in asked]),
        "question_grade": grade(pair.question for pair in pairs),
        "answer_words": np.array([len(words) for words in told]),
        "answer_grade": grade(pair.answer for pair in pairs),
        "answer_new": np.array([_new(*both) for both in zip(asked, told, strict=True)]),
    }
    judged = judge_coherence(questions, answers, np.arange(len(pairs)), seed=seed)
    some = order[: equal_pairs or len(pairs)]
    words = _first([told[i] for i in order], equal_words)
    normal = [normalise_text(pair.answer) for pair in pairs]
    numbers = {
        "pairs": len(pairs),
        "dialogues": len({pair.dialogue for pair in pairs if pair.dialogue}),
        "diversity": {
            "width": int(questions.shape[1]),
            "equal_pairs": len(some),
            **{
                part: {"vendi": vendi_score(vectors), "vendi_of_equal_pairs": vendi_score(vectors[some])}
                for part, vectors in (("questions", questions), ("answers", answers))
            },
        },
        "questions": {
            "distinct": len({normalise_text(pair.question) for pair in pairs}) / len(pairs),
            "types": _types(pairs),
            "words": _summary(values["question_words"]),
            "grade": _summary(values["question_grade"]),
        },
        "answers": {
            "distinct": len(set(normal)) / len(pairs),
            "words": _summary(values["answer_words"]),
            "grade": _summary(values["answer_grade"]),
            "new_words": _summary(values["answer_new"]),
            "of_words": sum(map(len, words)),
            "distinct_1": distinct_ngrams(words, 1),
            "distinct_2": distinct_ngrams(words, 2),
        },
        "coherence": judged.to_dict() | {"not_judged": len(pairs) - len(judged.rows)},
        "balance": {
            column: Balance.of(getattr(pair, column) for pair in pairs).to_dict() for column in ("category", "topic")
        },
    }
    return Portrait(
        name,
        numbers,
        questions,
        answers,
        [pair.category for pair in pairs],
        values,
        judged,
        {"questions": spectrum(questions), "answers": spectrum(answers)},
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def _new(asked: list[str], told: list[str]) -> float:
    """The share of an answer's words that are not in its question."""
    known = set(asked)
    return sum(word not in known for word in told) / len(told) if told else 0.0


def _types(pairs: Sequence[QAPair]) -> dict[str, float]:
    counts = Counter(question_type(pair.question) for pair in pairs)
    return {name: counts[name] / len(pairs) for name in QUESTION_TYPES}


def _summary(values: np.ndarray) -> dict[str, float]:
    """A distribution in a few numbers."""
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    quantiles = {f"{share:g}": float(value) for share, value in zip(shares, np.quantile(values, shares), strict=True)}
    return {"mean": float(np.mean(values)), **quantiles}


def _first(texts: list[list[str]], count: int) -> list[list[str]]:
    """The first so many words of texts, the last of them cut."""
    found, left = [], count
    for words in texts:
        if left <= 0:
            break
        found.append(words[:left])
        left -= len(found[-1])
    return found
