"""Categories of questions: what a run's training questions have prepared it for, by a documented rule."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SIMILAR, EVERYDAY, TECHNICAL, GENERAL = "similar to training", "everyday", "hard technical", "general"
#: A term in fewer than this share of the training questions is a rare one.
RARE = 0.01
#: Rare terms in a hard technical question.
RARE_TERMS = 2
RULES = (
    f"{SIMILAR}: the nearest training question has at least the cosine that a quarter of the validation questions "
    f"reach; else {EVERYDAY}: speaks of I, you or we and names nothing spelt like code; else {TECHNICAL}: at least "
    f"{RARE_TERMS} terms that fewer than {RARE:.0%} of the training questions have; else {GENERAL}"
)
#: Also before an apostrophe, as in I've and you'll.
_PERSONS = frozenset(("i", "me", "my", "mine", "you", "your", "yours", "we", "us", "our", "ours"))
#: Underscores, dots, digits or capitals inside a word, as in max_norm, np.fft, conv2d and DataLoader.
_CODE = re.compile(r"\w*_\w*|\w+(?:\.\w+)+|[a-z]+\d\w*|\w*[a-z][A-Z]\w*|\w+\(\)")
_EDGES = "?!.,;:'\"()[]{}`"


def similarity_threshold(validation: Tensor, train: Tensor) -> float:
    """The cosine with their nearest training question that a quarter of the validation questions reach."""
    return float(nearest_cosine(validation, train).double().quantile(0.75))


def nearest_cosine(questions: Tensor, train: Tensor) -> Tensor:
    """Cosine of each question with the nearest training question, ``[num_questions]``."""
    unit = F.normalize(train, dim=1).T
    return torch.cat([(F.normalize(rows, dim=1) @ unit).amax(1) for rows in questions.split(1024)])


def categorise(
    questions: Sequence[str], nearest: Tensor, train_questions: Sequence[str], *, threshold: float
) -> list[str]:
    """A category for each question, by :data:`RULES`.

    Args:
        questions: The questions.
        nearest: From :func:`nearest_cosine`.
        train_questions: The training questions, for the terms that are common in them.
        threshold: From :func:`similarity_threshold`.

    Example:
        >>> asked = ["How are you?", "What does zeta_reg of kappa do?", "What is it?"]
        >>> categorise(asked, torch.zeros(3), ["What does it do?", "What is that of?"], threshold=0.9)
        ['everyday', 'hard technical', 'general']
    """
    seen = Counter(term for question in train_questions for term in set(_terms(question)))
    return [
        SIMILAR
        if cosine >= threshold
        else EVERYDAY
        if _speaks_of_persons(question) and not any(_CODE.fullmatch(word) for word in _words(question))
        else TECHNICAL
        if sum(seen[term] < RARE * len(train_questions) for term in set(_terms(question))) >= RARE_TERMS
        else GENERAL
        for question, cosine in zip(questions, nearest.tolist(), strict=True)
    ]


def _speaks_of_persons(question: str) -> bool:
    return any(term.partition("'")[0] in _PERSONS for term in _terms(question))


def order(category: str) -> tuple[int, str]:
    """Key by which categories are sorted: the known ones first, others by name."""
    known = (SIMILAR, GENERAL, TECHNICAL, EVERYDAY)
    return (known.index(category) if category in known else len(known), category)


def _words(question: str) -> list[str]:
    return [word.strip(_EDGES).removesuffix("'s") for word in question.replace("\u2019", "'").split()]


def _terms(question: str) -> list[str]:
    return [word.casefold() for word in _words(question) if word]
