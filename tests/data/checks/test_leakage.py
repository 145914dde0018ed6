"""What the parts of a split must not share, and what is found where they do."""

from __future__ import annotations

import pytest
from inspected import GOOD, found

from cellgraph.data import QAPair, Rows
from cellgraph.data.checks import CheckSettings, inspect_pairs

pytest.importorskip("datasketch")
pytest.importorskip("ftfy")
pytest.importorskip("py3langid")


def test_leakage_between_the_parts_of_a_file() -> None:
    new = QAPair(
        "Who tunes an organ of a thousand pipes?", "A builder of organs with a patient assistant.", topic="organ"
    )
    pairs = [
        *GOOD[:4],
        QAPair(GOOD[0].question, "Trained on the answer, asked the same."),  # the question is held out
        QAPair("What would nobody ask of anyone?", GOOD[1].answer),  # the answer is
        QAPair("Is there more to say of it?", "There always is more to say.", topic=GOOD[2].topic),  # the topic is
        QAPair(GOOD[3].question.replace("expert", "experts"), GOOD[3].answer),  # nearly the pair is
        new,
        new,
    ]
    parts = ["test", "dev", "test", "validation", *["train"] * 6]
    result = inspect_pairs(Rows(pairs, parts=parts), CheckSettings(without=("language",)))
    assert found(result) == [
        (4, "leak", 0),
        (5, "answer", 1),
        (5, "shared", 1),
        (6, "shared", 2),
        (7, "leak", 3),
        (7, "answer", 3),
        (7, "shared", 3),
        (9, "exact", 8),
    ]
    # What is judged by stays, also where it comes later in the file.
    turned = inspect_pairs(Rows(pairs[::-1], parts=parts[::-1]), CheckSettings(without=("language",)))
    assert [pair for pair in pairs if pair in turned.clean()] == [*GOOD[:4], *pairs[5:7], new, new]


def test_two_parts_to_train_with_may_share() -> None:
    pairs = [QAPair("Who may be asked twice?", "Anyone."), QAPair("Who may be asked twice?", "Nobody."), *GOOD[:1]]
    result = inspect_pairs(Rows(pairs, parts=["train", "extra", "test"]), CheckSettings(without=("language",)))
    assert found(result) == [(1, "question", 0)]


def test_parts_of_other_names_are_told_of() -> None:
    result = inspect_pairs(Rows(GOOD[:2], parts=["fold 1", "fold 2"]), CheckSettings(without=("language",)))
    assert result.undone["leakage"] == (
        "no part of the split is called test, validation or the like, they are 'fold 1', 'fold 2'"
    )
    with pytest.raises(ValueError, match="expected a part for each of 2 rows, got 1"):
        Rows(GOOD[:2], parts=["test"])


def test_what_a_dialogue_asks_first_leaks_and_what_it_asks_later_does_not() -> None:
    def dialogue(name: str, *questions: str) -> list[QAPair]:
        return [QAPair(q, f"{name} says so {t}", dialogue=name, turn=t) for t, q in enumerate(questions)]

    held_out = [QAPair("How does one begin?", "Like this."), QAPair("Why is that?", "Because.")]
    pairs = [
        *held_out,
        *dialogue("a", "How does one begin?", "What comes next?"),
        *dialogue("b", "So what?", "Why is that?"),
    ]
    result = inspect_pairs(Rows(pairs, parts=["test"] * 2 + ["train"] * 4), CheckSettings(without=("language",)))
    assert found(result) == [(2, "leak", 0), (3, "dialogue", None)]


def test_a_dialogue_in_two_parts_leaks() -> None:
    pairs = [QAPair("One goes on", "to two", dialogue="a"), QAPair("Two goes on", "to three", dialogue="a", turn=1)]
    result = inspect_pairs(Rows(pairs, parts=["train", "test"]))
    assert found(result) == [(0, "leak", 1)]
