"""Metrics against closed forms and counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cellgraph.data import QAPair
from cellgraph.data.metrics import (
    QUESTION_TYPES,
    Balance,
    distinct_ngrams,
    draw_portrait,
    grade,
    question_type,
    spectrum,
    vendi_score,
)

pytest.importorskip("textstat")


@pytest.mark.parametrize(("n", "width"), [(1, 1), (3, 7), (7, 7)])
def test_vendi_of_orthogonal_texts_is_their_number(n: int, width: int) -> None:
    assert vendi_score(np.eye(n, width) * 4) == pytest.approx(n)


def test_vendi_of_equal_texts_is_one() -> None:
    assert vendi_score(np.tile([[0.3, -2.0, 5.0]], (50, 1))) == pytest.approx(1)
    assert np.isnan(vendi_score(np.zeros((3, 2))))


@pytest.mark.parametrize("cosine", [0.0, 0.2, 0.9, -1.0])
def test_vendi_of_two_texts_in_closed_form(cosine: float) -> None:
    # The matrix [[1, c], [c, 1]] / 2 has the eigenvalues (1 + c) / 2 and (1 - c) / 2.
    shares = [share for share in ((1 + cosine) / 2, (1 - cosine) / 2) if share > 0]
    wanted = np.exp(-sum(share * np.log(share) for share in shares))
    vectors = np.array([[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]])
    assert vendi_score(vectors) == pytest.approx(wanted)


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_spectrum_is_that_of_the_large_matrix(shape: tuple[int, int]) -> None:
    vectors = np.random.default_rng(0).normal(size=shape)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    wanted = np.sort(np.linalg.eigvalsh(unit @ unit.T / shape[0]))[::-1]
    found = spectrum(vectors)
    assert len(found) == 6
    np.testing.assert_allclose(found, wanted[:6], atol=1e-12)
    assert found.sum() == pytest.approx(1)
    shares = wanted[wanted > 1e-12]
    assert vendi_score(vectors) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("What's the time?", "what"),
        ("In which year did it happen?", "which"),
        ("WHOSE coat is this?", "who"),
        ("Why?", "why"),
        ("And how would you do it?", "how"),
        ("How much is it?", "how many"),
        ("Don\u2019t you agree?", "yes or no"),
        ("do you like it", "yes or no"),
        ("Do the dishes", "statement"),
        ("Please explain gravity.", "instruction"),
        ("If it rains, where do birds sleep?", "where"),
        ("I have two dogs. Can they eat rice?", "yes or no"),
        ("Who is at risk? ?", "who"),
        ("Which U.S. state is the smallest?", "which"),
        ("Tea or coffee?", "other question"),
        ("I like rain.", "statement"),
        ("", "statement"),
        ("¿?", "other question"),
    ],
)
def test_types_of_questions(text: str, wanted: str) -> None:
    assert question_type(text) == wanted
    assert wanted in QUESTION_TYPES


def test_grade_is_the_index_of_coleman_and_liau() -> None:
    text = "The quick brown fox jumps over the lazy dog. It was not amused, and it ran away! Who would not run?"
    letters, words, sentences = 75, 21, 3
    assert sum(map(str.isalpha, text)) == letters
    assert len(text.split()) == words
    wanted = 0.0588 * 100 * letters / words - 0.296 * 100 * sentences / words - 15.8
    assert grade([text, ""]) == pytest.approx([wanted, 0])


def test_distinct_runs_of_words() -> None:
    texts = [["a", "b", "a", "b"], ["b", "c"], ["a"]]
    assert distinct_ngrams(texts, 1) == 3 / 7
    assert distinct_ngrams(texts, 2) == 3 / 4  # ab ba ab | bc
    assert np.isnan(distinct_ngrams(texts, 5))


def test_balance() -> None:
    even = Balance.of("abcd" * 5)
    assert (even.effective, even.evenness, even.largest) == (pytest.approx(4), pytest.approx(1), 0.25)
    skewed = Balance.of(["a"] * 3 + ["b"] + [""] * 2)
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert skewed.counts == {"a": 3, "b": 1}
    assert (skewed.entropy, skewed.evenness) == (pytest.approx(entropy), pytest.approx(entropy / np.log(2)))
    assert (skewed.without, skewed.largest) == (2, 0.75)
    nothing = Balance.of(["", ""])
    assert (nothing.effective, nothing.largest, nothing.without) == (0, 0, 2)
    assert (Balance.of("aa").effective, Balance.of("aa").evenness) == (1, 1)


PAIRS = [
    QAPair("What is red?", "A rose is red.", topic="rose", category="plants"),
    QAPair("What is red?", "A rose is red.", topic="rose", category="plants"),
    QAPair("Name a tree.", "An oak, or a tree of paradise.", topic="oak", category="plants"),
    QAPair("Hello there", "Good day", category="talk", dialogue="a"),
]


def test_portrait() -> None:
    questions = np.array([[2.0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 1]])
    answers = np.array([[1.0, 0, 0], [1, 0, 0], [0, 5, 0], [0, 0, 0]])
    portrait = draw_portrait("some", PAIRS, questions, answers, equal_pairs=2)
    told = portrait.numbers
    assert (told["pairs"], told["dialogues"]) == (4, 1)
    # Shares of 1/2, 1/4, 1/4.
    assert told["diversity"]["questions"]["vendi"] == pytest.approx(2**1.5)
    assert told["diversity"]["questions"]["vendi_of_equal_pairs"] in (pytest.approx(1), pytest.approx(2))
    assert told["questions"]["distinct"] == told["answers"]["distinct"] == 0.75
    types = {name: share for name, share in told["questions"]["types"].items() if share}
    assert types == {"what": 0.5, "instruction": 0.25, "statement": 0.25}
    assert list(portrait.values["question_words"]) == [3, 3, 3, 2]
    assert list(portrait.values["answer_words"]) == [4, 4, 7, 2]
    # a rose | is red; an oak or of paradise | a tree; good day.
    assert portrait.values["answer_new"] == pytest.approx([0.5, 0.5, 5 / 7, 1])
    assert told["answers"]["of_words"] == 17
    # a rose is red an oak or tree of paradise good day; a-rose rose-is is-red, six of the oak's, good-day.
    assert told["answers"]["distinct_1"] == pytest.approx(12 / 17)
    assert told["answers"]["distinct_2"] == pytest.approx(10 / 13)
    assert (told["coherence"]["judged"], told["coherence"]["not_judged"]) == (3, 1)
    assert told["balance"]["category"]["counts"] == {"plants": 3, "talk": 1}
    assert told["balance"]["topic"]["without"] == 1


def test_what_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="expected at least one pair, got none"):
        draw_portrait("none", [], np.zeros((0, 2)), np.zeros((0, 2)))
    with pytest.raises(ValueError, match=r"expected answers of shape \[4, width\], got \[3, 2\]"):
        draw_portrait("some", PAIRS, np.zeros((4, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"expected vectors of shape \[num_texts, width\], got \[4\]"):
        spectrum(np.zeros(4))
