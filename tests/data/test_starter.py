"""The starter set: what it holds, that it splits by topic, and that a cube is trained on it."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from processes import run_inside

import cellgraph
from cellgraph.data import STARTER_CATEGORIES, QAPair, normalise_text, split_pairs, starter_pairs
from cellgraph.data.checks import inspect_pairs

FOLDER = Path(cellgraph.__path__[0]) / "data" / "starter_set"


@pytest.fixture(scope="module")
def pairs() -> list[QAPair]:
    return starter_pairs()


def words(text: str) -> set[str]:
    return set(normalise_text(text).split())


def test_every_line_holds_the_four_columns_and_nothing_else() -> None:
    files = sorted(FOLDER.glob("*.jsonl"))
    assert {path.stem for path in files} == {*STARTER_CATEGORIES.values()}
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            assert list(row) == ["question", "answer", "category", "topic"]
            assert all(text.strip() == text != "" for text in row.values())


def test_the_categories_are_balanced(pairs: list[QAPair]) -> None:
    counts = Counter(pair.category for pair in pairs)
    assert list(counts) == list(STARTER_CATEGORIES)
    assert len(pairs) >= 600
    assert min(counts.values()) >= 120
    assert max(counts.values()) <= 1.2 * min(counts.values())


def test_topics_are_of_one_category_and_of_like_size(pairs: list[QAPair]) -> None:
    owners = {(pair.topic, pair.category) for pair in pairs}
    assert len(owners) == len({topic for topic, _ in owners})
    assert all(8 <= count <= 15 for count in Counter(category for _, category in owners).values())
    assert all(7 <= count <= 12 for count in Counter(pair.topic for pair in pairs).values())


def test_no_question_and_no_answer_is_there_twice(pairs: list[QAPair]) -> None:
    for field in ("question", "answer"):
        texts = Counter(normalise_text(getattr(pair, field)) for pair in pairs)
        assert texts.most_common(1)[0][1] == 1


def test_no_answer_is_nearly_another_one(pairs: list[QAPair]) -> None:
    answers = [words(pair.answer) for pair in pairs]
    for number, first in enumerate(answers):
        for second in answers[:number]:
            assert len(first & second) / len(first | second) < 0.6


def test_answers_are_one_to_four_whole_sentences(pairs: list[QAPair]) -> None:
    for pair in pairs:
        assert 20 <= len(pair.answer) <= 400, pair
        assert re.search(r"[.?!][\"')]?$", pair.answer), pair
        assert 1 <= len(re.findall(r"[.?!][\"')]?(?= [A-Z\"]|$)", pair.answer)) <= 4, pair
        assert 2 <= len(pair.question.split()) <= 45, pair


def test_questions_take_many_forms(pairs: list[QAPair]) -> None:
    begun = Counter(normalise_text(pair.question).split()[0] for pair in pairs)
    assert len(begun) > 60
    assert begun.most_common(1)[0][1] < 0.35 * len(pairs)
    # Families made from a template begin alike for longer than that.
    assert Counter(" ".join(normalise_text(pair.question).split()[:4]) for pair in pairs).most_common(1)[0][1] <= 20


def test_a_category_is_had_by_name(pairs: list[QAPair]) -> None:
    chosen = starter_pairs(["reasoning and logic", "conversation"])
    assert chosen == [pair for pair in pairs if pair.category in ("conversation", "reasoning and logic")]


@pytest.mark.parametrize("categories", [["cooking"], [], "conversation"])
def test_an_unknown_category_is_refused(categories: list[str]) -> None:
    with pytest.raises(ValueError, match=r"categories must be .*, got"):
        starter_pairs(categories)


def test_a_split_keeps_topics_whole(pairs: list[QAPair]) -> None:
    split = split_pairs(pairs, test=0.2, validation=0.1, seed=0)
    topics = [{pair.topic for pair in part} for part in (split.train, split.validation, split.test)]
    assert sum(map(len, topics)) == len(set.union(*topics)) == len({pair.topic for pair in pairs})


def test_a_cube_is_trained_on_it(tmp_path: Path) -> None:
    settings = ["teacher=lsa", "teacher.width=32", "lattice.shape=[3,4,4]", "cell.channels=8", "cell.hidden=8"]
    quick = ["model.num_steps=3", "training.max_steps=4", "training.batch_size=32", "training.compile=false"]
    done = run_inside(tmp_path, "train", "data=starter", *settings, *quick, f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    held = (tmp_path / "run" / "pairs").glob("*.jsonl")
    read = [json.loads(line)["question"] for path in held for line in path.read_text(encoding="utf-8").splitlines()]
    assert sorted(read) == sorted(pair.question for pair in starter_pairs())


def test_the_checks_find_nothing_to_remove(pairs: list[QAPair]) -> None:
    for package in ("datasketch", "ftfy", "py3langid"):
        pytest.importorskip(package)
    assert inspect_pairs(pairs).counts() == {}
