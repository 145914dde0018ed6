from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cellgraph.data import QAPair, group_pairs, normalise_text


def test_a_turn_is_a_plain_number() -> None:
    pair = QAPair("a", "b", turn=np.int64(3))  # type: ignore[arg-type]
    assert type(pair.turn) is int
    assert pair == QAPair("a", "b", turn=3)


@pytest.mark.parametrize("turn", [-1, 1.5, 1.0, True, "1", None])
def test_what_is_no_turn(turn: object) -> None:
    with pytest.raises(ValueError, match=r"turn must (be an integer|not be negative), got "):
        QAPair("a", "b", turn=turn)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["question", "answer", "topic", "category", "dialogue"])
def test_texts(name: str) -> None:
    pair = dataclasses.replace(QAPair("a", "b"), **{name: "cut \ud83d"})
    assert getattr(pair, name) == "cut \N{REPLACEMENT CHARACTER}"
    with pytest.raises(ValueError, match=f"{name} must be text, got NoneType"):
        dataclasses.replace(pair, **{name: None})


@pytest.mark.parametrize(
    "texts",
    [
        ("What is C?", "What is C++?", "What is C#?", "What is c+ ?"),
        ("How old is F#?", "How old is F?"),
        ("What is 3 + 5?", "What is 3 * 5?", "What is 3-5?", "What is 3/5?", "What is 3, 5?", "What is 3 - -5?"),
        ("Is 2 < 3?", "Is 2 > 3?", "Is 2 <= 3?", "Is 2 = 3?"),
        ("the square of -3", "the square of 3"),
    ],
)
def test_signs_that_tell_one_thing_from_another(texts: tuple[str, ...]) -> None:
    # "c+" is no name: the sign goes, and it is C again.
    distinct = {normalise_text(text) for text in texts}
    assert len(distinct) == len(texts) - ("What is c+ ?" in texts)
    pairs = [QAPair(text, f"answer {number}") for number, text in enumerate(texts[:3])]
    assert len(group_pairs(pairs)) == len(pairs)


@pytest.mark.parametrize(
    "texts",
    [
        ("Which is it, C++?", "which is it c++"),
        ("C#: why?", "c# why!", "(C#) why"),
        ("3+5", "3 + 5", " 3 +5."),
        ("2 \N{MINUS SIGN} 1", "2-1", "2 \N{EN DASH} 1"),
        ("an e-mail - 3 lines", "An e mail: 3 lines", "an e-mail -- 3 lines"),
        ("COVID-19", "covid 19"),
        ("#1 of all", "1 of all"),
        ("a+b", "a b"),
    ],
)
def test_punctuation_tells_nothing(texts: tuple[str, ...]) -> None:
    assert len({normalise_text(text) for text in texts}) == 1


def test_words_of_all_scripts_keep_what_tells_them_apart() -> None:
    # Day and alms, and four words of Thai that differ in a vowel or a tone: all marks on the same letters.
    for one, other in (("दिन", "दान"), ("ปา", "ปี"), ("ไม่", "ไม้"), ("كُتُب", "كَتَبَ")):
        assert normalise_text(one) != normalise_text(other)
    assert normalise_text("¡Qué CAFE\u0301!") == normalise_text("qué café")
    assert group_pairs([QAPair("दिन?", "क"), QAPair("दान?", "ख")]) == [[0], [1]]
