"""Likeness of texts, beside the comparison of each with each."""

from __future__ import annotations

import re

import pytest

from cellgraph.data import QAPair, starter_pairs
from cellgraph.data.likeness import KnownPairs, LikeTexts


def runs(text: str) -> set[str]:
    letters = " ".join(re.findall(r"\w+", text.lower()))
    return {letters[start : start + 5] for start in range(max(1, len(letters) - 4))}


def jaccard(first: set[str], second: set[str]) -> float:
    return len(first & second) / len(first | second)


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.8])
def test_what_is_found_is_what_a_comparison_of_all_with_all_finds(threshold: float) -> None:
    questions = [pair.question for pair in starter_pairs()]
    # Beside them some with a word less, and some with a word more.
    questions += [" ".join(text.split()[1:]) for text in questions[::5]]
    questions += [f"{text} Tell me!" for text in questions[1:600:5]]
    letters = [runs(question) for question in questions]
    index = LikeTexts(threshold)
    found, true = set(), set()
    for number, question in enumerate(questions):
        like = index.find(question)
        if like is not None:
            assert jaccard(letters[number], letters[like]) >= threshold
            found.add(number)
        if any(jaccard(letters[number], earlier) >= threshold for earlier in letters[:number]):
            true.add(number)
        index.add(number, question)
    # Signatures may miss one at the threshold, but find none that is not alike.
    assert found <= true
    assert len(found) >= 0.98 * len(true) > 100


def test_the_likest_is_found() -> None:
    index = LikeTexts(0.5)
    for key, text in enumerate(
        ["the red cat sat on a mat", "the red cat sat on the mat", "the red cat sat on the moon"]
    ):
        index.add(key, text)
    assert index.find("the red cat sat on the moon") == 2
    assert index.find("The red cat: sat on the, mat!") == 1
    assert index.find("nothing of the kind") is None
    assert len(index) == 3


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must be"):
        LikeTexts(threshold)


def test_a_pair_repeats_by_its_question_or_a_long_answer() -> None:
    known = KnownPairs(near=0.7)
    answer = "The Moon pulls more strongly at the near side than at the far one."
    known.add(QAPair("Why are there two high tides and two low tides on a day?", answer))
    known.add(QAPair("Is 49 times 51 more than 2,500?", "No, it is less."))
    assert len(known) == 2
    assert known.repeats(QAPair("why are there TWO high tides, and two low tides, on a day", "No idea.")) == "exact"
    assert known.repeats(QAPair("What makes the tides?", answer.upper())) == "exact"
    assert known.repeats(QAPair("Why are there two high tides and two low tides on every day?", "No idea.")) == "near"
    assert known.repeats(QAPair("What makes the tides?", answer.replace("far one", "far side"))) == "near"
    # Another number makes another question.
    assert known.repeats(QAPair("Is 49 times 52 more than 2,500?", "Yes.")) == ""
    # Short answers may be equal.
    assert known.repeats(QAPair("Is 9 times 9 more than 90?", "No, it is less.")) == ""


def test_without_likeness_only_equal_words_repeat() -> None:
    known = KnownPairs(near=None)
    known.add(QAPair("Why are there two tides a day?", "The Moon."))
    assert known.repeats(QAPair("Why are there only two tides a day?", "The Moon.")) == ""
    assert known.repeats(QAPair("Why are there two tides a day", "The Moon.")) == "exact"
