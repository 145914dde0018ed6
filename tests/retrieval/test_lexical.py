"""BM25 beside its formula."""

from __future__ import annotations

import math

import pytest
import torch

from cellgraph.retrieval.lexical import BM25

CORPUS = [
    "The heron sleeps by the river",
    "An otter and another otter swim, the heron looks on",
    "Badgers dig; badgers sleep",
    "the of and",
    "",
]
#: The same without the English stop words that are in it.
WORDS = [
    ["heron", "sleeps", "river"],
    ["otter", "another", "otter", "swim", "heron", "looks"],
    ["badgers", "dig", "badgers", "sleep"],
    [],
    [],
]


def by_formula(question: list[str], k1: float = 1.5, b: float = 0.75) -> list[float]:
    """Robertson and Zaragoza 2009, equation 3.15, without the constant factor k1 + 1, as Lucene leaves it out."""
    mean = sum(map(len, WORDS)) / len(WORDS)
    scores = []
    for words in WORDS:
        score = 0.0
        for word in question:
            containing = sum(word in other for other in WORDS)
            idf = math.log(1 + (len(WORDS) - containing + 0.5) / (containing + 0.5))
            count = words.count(word)
            score += idf * count / (count + k1 * (1 - b + b * len(words) / mean))
        scores.append(score)
    return scores


def test_the_scores_are_those_of_the_formula() -> None:
    found = BM25(CORPUS).scores(["Where does the HERON sleep?", "otter otter", "a zebra", "the", ""])
    wanted = [by_formula(question) for question in (["heron", "sleep"], ["otter", "otter"], [], [], [])]
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("corpus", [["the", ""], []])
def test_where_there_are_no_words_nothing_is_found(corpus: list[str]) -> None:
    assert torch.equal(BM25(corpus).scores(["a heron"]), torch.zeros(1, len(corpus)))
    assert BM25(corpus).scores([]).shape == (0, len(corpus))


def test_words_of_all_scripts() -> None:
    found = BM25(["यह दिन अच्छा है", "दान करना अच्छा है", "plain words"]).scores(["दिन?", "दान", "plain"])
    assert torch.equal(found > 0, torch.eye(3, dtype=torch.bool))
