from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellgraph.data import QAPair, clean_pairs, normalise_text

pairs = st.lists(st.builds(QAPair, st.text(max_size=12), st.text(max_size=12), dialogue=st.sampled_from(["", "d"])))


@settings(max_examples=400, deadline=None)
@given(pairs)
def test_clean_is_idempotent_and_tidy(found: list[QAPair]) -> None:
    cleaned = clean_pairs(found)
    assert clean_pairs(cleaned) == cleaned
    for pair in cleaned:
        for text in (pair.question, pair.answer):
            assert text == unicodedata.normalize("NFC", text) == " ".join(text.split())
            assert not any(unicodedata.category(c) == "Cc" for c in text)
    alone = [(normalise_text(p.question), normalise_text(p.answer)) for p in cleaned if not p.dialogue]
    assert len(set(alone)) == len(alone)


def test_lengths() -> None:
    found = [QAPair("q" * n, "a" * m) for n in (3, 4, 5) for m in (6, 7, 8)]
    kept = clean_pairs(found, min_question_chars=4, max_question_chars=4, min_answer_chars=7, max_answer_chars=7)
    assert kept == [QAPair("qqqq", "aaaaaaa")]
    with pytest.raises(ValueError, match="min_answer_chars must not exceed max_answer_chars, got 9 and 8"):
        clean_pairs([], min_answer_chars=9, max_answer_chars=8)


def test_repetitions() -> None:
    found = [QAPair("Who?", "I am."), QAPair("who", "I AM"), QAPair("Why?", "I am."), QAPair("Echo", "echo!")]
    assert clean_pairs(found) == [found[0], found[2]]
    assert clean_pairs(found, unique_answers=True) == [found[0]]


def test_dialogues_are_dropped_whole_or_kept_whole() -> None:
    first = [QAPair("Hi", "Hello", dialogue="a"), QAPair("Hello", "How are you?", dialogue="a", turn=1)]
    same = [QAPair(p.question, p.answer, dialogue="b", turn=p.turn) for p in first]
    other = [QAPair("Hi", "Hello", dialogue="c"), QAPair("Hello", "Good morning", dialogue="c", turn=1)]
    assert clean_pairs([*first, *same, *other]) == [*first, *other]
    mingled = [first[0], same[0], other[0], first[1], same[1], other[1]]
    assert clean_pairs(mingled) == [first[0], other[0], first[1], other[1]]


def test_no_turn_is_cut_out_of_a_dialogue() -> None:
    def dialogue(name: str, *turns: tuple[str, str]) -> list[QAPair]:
        return [QAPair(*texts, dialogue=name, turn=turn) for turn, texts in enumerate(turns)]

    short = dialogue("short", ("Is it far to the sea?", "k"), ("k", "Yes."), ("Yes.", "yes"), ("How far is it?", "?"))
    assert clean_pairs(short, min_question_chars=5, min_answer_chars=5) == short
    alone = [replace(pair, dialogue="") for pair in short]
    assert clean_pairs(alone) == [alone[0], alone[3]]
    # What is empty or too long takes with it what hangs on it.
    for text in ("\u200b ", "far " * 9):
        broken = dialogue("broken", ("Where?", "There."), ("Oh?", text), ("And then?", "Home."))
        assert clean_pairs([*broken, *short], max_answer_chars=30) == short


def test_unicode() -> None:
    assert clean_pairs([QAPair("Cafe\u0301\u00a0ou\u200b thé ?", "o\x07ui\ufeff oui")]) == [
        QAPair("Café ou thé ?", "oui oui")
    ]
    assert normalise_text("\uff21\uff29, what?") == normalise_text("ai what")
    assert normalise_text("?!") == "?!"
