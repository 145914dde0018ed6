"""Replies and prompts: what is believed of what a model says, and what it is told."""

from __future__ import annotations

import json

import pytest

from cellgraph.data import QAPair, starter_pairs
from cellgraph.data.generation import Reply, Topic, write_prompt
from cellgraph.data.generation.prompt import SCHEMA
from cellgraph.data.generation.reply import Found, read_reply

TOPIC = Topic("science", "tides", 10, "Be brief.")
GOOD = {"question": "Why are there tides?", "answer": "The Moon pulls."}
PAIR = QAPair(**GOOD, topic="tides", category="science")


def read(content: object, most: int = 9, *, cut: bool = False) -> Found:
    return read_reply(Reply(content if isinstance(content, str) else json.dumps(content), 1, 1, cut), TOPIC, most)


@pytest.mark.parametrize(
    "content",
    [
        {"pairs": [GOOD]},
        [GOOD],
        f"```json\n{json.dumps({'pairs': [GOOD]}, indent=2)}\n```",
        f"\n```\n{json.dumps([GOOD])}\n```\n",
        {"pairs": [{"question": " Why  are there\ttides? ", "answer": "The\nMoon\x00 pulls.", "note": 1}]},
    ],
)
def test_pairs_are_found_and_tidied(content: object) -> None:
    assert read(content) == Found((PAIR,))


@pytest.mark.parametrize(
    "entry",
    [
        {},
        None,
        "Why?",
        ["Why are there tides?", "The Moon pulls."],
        {"question": "Why are there tides?"},
        {"question": 1, "answer": "The Moon pulls."},
        {"question": "Why are there tides?", "answer": ["The Moon pulls."]},
        {"question": "Why are there tides?", "answer": "  "},
        {"question": "Why?", "answer": "x" * 3001},
        {"question": "Why" * 300, "answer": "The Moon pulls."},
        {"question": "?", "answer": "The Moon pulls."},
        {"question": "Why are there tides?", "answer": "why are there tides"},
    ],
)
def test_an_entry_that_is_no_pair_is_counted(entry: object) -> None:
    assert read({"pairs": [entry, GOOD]}) == Found((PAIR,), malformed=1)
    alone = read({"pairs": [entry]})
    assert (alone.pairs, alone.malformed) == ((), 1)
    assert alone.fault == "none of its 1 entries is a question with an answer"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "it is no JSON"),
        ("Sure! Here they are.", "it is no JSON"),
        ('{"pairs": [{"question": "W', "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("3", 'it has no list of "pairs"'),
        ("{}", 'it has no list of "pairs"'),
        ('{"pairs": "none"}', 'it has no list of "pairs"'),
        ("[]", "none of its 0 entries is a question with an answer"),
    ],
)
def test_a_reply_without_pairs_says_why(content: str, fault: str) -> None:
    assert read(content).fault == fault


def test_a_reply_that_was_cut_off_says_so() -> None:
    assert read('{"pairs": [', cut=True).fault == "it was cut off at the limit of tokens"


def test_no_more_is_taken_than_was_asked_for() -> None:
    entries = [{"question": f"Question {number}?", "answer": f"Answer {number}."} for number in range(9)]
    assert [pair.answer for pair in read({"pairs": entries}, most=2).pairs] == ["Answer 0.", "Answer 1."]


def test_halves_of_characters_do_not_stop_a_file() -> None:
    found = read('{"pairs": [{"question": "Why \\ud83d tides?", "answer": "The Moon."}]}').pairs
    assert found[0].question.encode()


def test_a_prompt_is_the_same_for_the_same_and_shows_its_category_first() -> None:
    topic = Topic("conversation", "greetings", 10)
    examples = starter_pairs()
    shown = [
        json.loads(write_prompt(topic, 3, asked=["Hello?"] * turn, examples=examples).user.splitlines()[5])["pairs"]
        for turn in (0, 0, 1)
    ]
    assert shown[0] == shown[1] != shown[2]
    talk = {pair.question for pair in examples if pair.category == "conversation"}
    assert all(pair["question"] in talk for pairs in shown for pair in pairs)
    assert set(shown[0][0]) == set(SCHEMA["properties"]["pairs"]["items"]["required"])


def test_a_prompt_names_the_newest_questions_only() -> None:
    prompt = write_prompt(TOPIC, 3, asked=[f"Question {number}?" for number in range(500)])
    named = [line for line in prompt.user.splitlines() if line.startswith("- ")]
    assert len(named) == 60
    assert named[-1] == "- Question 499?"
    assert "Style: Be brief." in prompt.user
