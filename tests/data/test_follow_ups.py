"""Follow-up questions: the rule, and a split that keeps dialogues whole."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from cellgraph.data import QAPair, follow_up_pairs, group_pairs, split_pairs, train_on_more
from cellgraph.runs.building import make_split

MEDQUAD = Path(os.environ.get("CELLGRAPH_DATA", "data")) / "medquad" / "medquad.jsonl"


def write(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    path = folder / "pairs.jsonl"
    named = [dict(zip(("question", "answer", "topic"), row, strict=True)) for row in rows]
    path.write_text("\n".join(map(json.dumps, named)))
    return path


def test_the_name_becomes_it_in_all_but_the_first(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [
            ("What is Iron (Fe)?", "A metal.", "iron (Fe)"),
            ("Does iron (fe) rust?", "It does.", "iron (Fe)"),
            ("Where is iron (Fe) found, and iron (FE) ore?", "In rock.", "iron (Fe)"),
            ("Who asks about something else?", "Nobody.", "iron (Fe)"),
            ("What is tin?", "Another.", "tin"),
        ],
    )
    pairs = follow_up_pairs(path)
    assert [pair.turn for pair in pairs] == [0, 1, 2]
    assert len({pair.dialogue for pair in pairs}) == 1
    complete = {pair.answer: pair.question for pair in follow_up_pairs(path, full=True)}
    assert pairs[0].question == complete[pairs[0].answer]
    follow_ups = {"A metal.": "What is it?", "It does.": "Does it rust?", "In rock.": "Where is it found, and it ore?"}
    for pair in pairs[1:]:
        assert pair.question == follow_ups[pair.answer]


def test_the_seed_draws_the_order_and_long_topics_are_cut(tmp_path: Path) -> None:
    path = write(tmp_path, [(f"Fact {n} of gold?", f"{n}", "gold") for n in range(7)])
    orders = [[pair.answer for pair in follow_up_pairs(path, seed=seed, most_turns=3)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert [pair.turn for pair in follow_up_pairs(path, most_turns=3)] == [0, 1, 2, 0, 1, 2]


def test_equal_follow_ups_of_different_dialogues_do_not_tie_them_together(tmp_path: Path) -> None:
    rows = [(f"{word} {topic}?", f"{word} {topic}!", topic) for topic in map("t{}".format, range(20)) for word in "ab"]
    split = split_pairs(follow_up_pairs(write(tmp_path, rows)), test=8, validation=4, seed=0)
    assert (len(split.test), len(split.validation)) == (8, 4)
    parts = [{pair.topic for pair in part} for part in (split.train, split.validation, split.test)]
    assert sum(map(len, parts)) == len(parts[0] | parts[1] | parts[2])


def test_dialogues_are_drawn_by_what_they_ask_first_whatever_their_order_and_later_questions(tmp_path: Path) -> None:
    rows = [(f"{word} {topic}?", f"{word} {topic}!", topic) for topic in map("t{}".format, range(60)) for word in "ab"]
    path = write(tmp_path, rows)
    sizes: dict[str, Any] = {"test": 20, "validation": 10, "seed": 0}
    pairs = follow_up_pairs(path)
    split = split_pairs(pairs, **sizes)
    turned = split_pairs(pairs[::-1], **sizes)
    assert {*turned.test} == {*split.test}
    assert {*turned.validation} == {*split.validation}
    # With the names left in, the same dialogues are held out.
    full = split_pairs(follow_up_pairs(path, full=True), **sizes)
    assert {pair.dialogue for pair in full.test} == {pair.dialogue for pair in split.test}


def test_dialogues_may_be_numbered_from_any_turn() -> None:
    asked = {"a": ("What is tin?", "Why?"), "b": ("what is tin", "Why?"), "c": ("What is gold?", "Why?")}
    for first in (0, 1, 5):
        pairs = [
            QAPair(question, f"{name} {turn}", dialogue=name, turn=first + turn)
            for name, turns in asked.items()
            for turn, question in enumerate(turns)
        ]
        assert group_pairs(pairs) == [[0, 1, 2, 3], [4, 5]]


def test_a_file_without_dialogues_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no topic has two pairs whose questions name it"):
        follow_up_pairs(write(tmp_path, [("What is tin?", "A.", "tin"), ("What is it?", "B.", "zinc")]))
    with pytest.raises(ValueError, match="most_turns must be at least 2, got 1"):
        follow_up_pairs(write(tmp_path, []), most_turns=1)


@pytest.mark.slow
@pytest.mark.skipif(not MEDQUAD.exists(), reason="the MedQuAD pairs are not here")
def test_no_later_question_of_medquad_names_its_topic() -> None:
    dialogues = defaultdict(list)
    for pair in follow_up_pairs(MEDQUAD):
        dialogues[pair.dialogue].append(pair)
    assert len(dialogues) > 1000
    for turns in dialogues.values():
        assert turns[0].topic.lower() in turns[0].question.lower()
        # A name within a longer word, as "Gout" in "Gouty", is not the name.
        named = [pair for pair in turns[1:] if f" {pair.topic.lower()} " in f" {pair.question.lower()} "]
        assert not named


def test_other_orders_are_other_dialogues_of_the_same_pairs(tmp_path: Path) -> None:
    path = write(tmp_path, [(f"What is tin {i}?", f"Answer {i}.", "tin") for i in range(6)])
    pairs = follow_up_pairs(path, most_turns=3, orders=4)
    assert pairs[:6] == follow_up_pairs(path, most_turns=3)
    by_dialogue: dict[str, list[str]] = {}
    for pair in pairs:
        by_dialogue.setdefault(pair.dialogue, []).append(pair.answer)
    assert [len(turns) for turns in by_dialogue.values()] == [3] * 8
    assert len({tuple(turns) for turns in by_dialogue.values()}) > 4
    assert all(count == 4 for count in Counter(pair.answer for pair in pairs).values())
    with pytest.raises(ValueError, match="orders must be positive, got 0"):
        follow_up_pairs(path, orders=0)


def test_more_to_train_on_is_nothing_that_a_held_out_part_knows(tmp_path: Path) -> None:
    path = write(
        tmp_path, [(f"What is metal{i} {j}?", f"Answer {i} {j}.", f"metal{i}") for i in range(9) for j in range(4)]
    )
    split = split_pairs(follow_up_pairs(path), test=8, validation=4, seed=0)
    grown = train_on_more(split, follow_up_pairs(path, orders=2, seed=1))
    assert (grown.test, grown.validation) == (split.test, split.validation)
    assert len(grown.train) == 3 * len(split.train) == 72
    held = {pair.topic for pair in split.test + split.validation}
    assert not held & {pair.topic for pair in grown.train}
    # No dialogue of the one is one of the other.
    sizes = Counter(pair.dialogue for pair in grown.train)
    assert {*sizes.values()} == {4}


def test_more_dialogues_of_one_name_stay_two(tmp_path: Path) -> None:
    path = write(
        tmp_path, [(f"What is metal{i} {j}?", f"Answer {i} {j}.", f"metal{i}") for i in range(9) for j in range(4)]
    )
    split = split_pairs(follow_up_pairs(path, seed=1), test=8, validation=4, seed=0)
    # Of the same seed, the first order is the same, and so are its names.
    grown = train_on_more(split, follow_up_pairs(path, orders=2, seed=1))
    turns: dict[str, list[int]] = {}
    for pair in grown.train:
        turns.setdefault(pair.dialogue, []).append(pair.turn)
    assert len(turns) == 3 * len(split.train) // 4
    assert all(each == [0, 1, 2, 3] for each in turns.values())
    assert [pair.question for pair in grown.train[len(split.train) :]][:4] == [
        pair.question for pair in split.train[:4]
    ]


def test_of_fewer_pairs_to_train_on_more_brings_no_others_back(tmp_path: Path) -> None:
    path = write(
        tmp_path, [(f"What is metal{i} {j}?", f"Answer {i} {j}.", f"metal{i}") for i in range(9) for j in range(4)]
    )
    source = {"_target_": "cellgraph.data.follow_up_pairs", "_partial_": True, "path": str(path)}
    data = {"source": source, "more": {**source, "orders": 2, "seed": 1}, "test": 8, "validation": 4, "seed": 0}
    few, whole = make_split({**data, "train": 0.5}), make_split(data)
    assert (few.test, few.validation) == (whole.test, whole.validation)
    # Three of six topics, each in three orders.
    topics = Counter(pair.topic for pair in few.train)
    assert [*topics.values()] == [12] * 3
    assert topics.keys() < {pair.topic for pair in whole.train}


def test_a_name_within_another_word_stays(tmp_path: Path) -> None:
    # The heart, and a town whose name begins as the heart does.
    questions = ("दिल क्या है?", "क्या दिल दिल्ली में है?")
    path = write(tmp_path, [(text, str(number), "दिल") for number, text in enumerate(questions)])
    asked = {pair.turn: pair.question for pair in follow_up_pairs(path, seed=1)}
    assert asked[0] in questions
    assert asked[1] in ("it क्या है?", "क्या it दिल्ली में है?")
    assert {text for seed in range(4) for text in (pair.question for pair in follow_up_pairs(path, seed=seed))} == {
        *questions,
        "it क्या है?",
        "क्या it दिल्ली में है?",
    }
