from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from cellgraph.data import QAPair, docstring_pairs, normalise_text, split_pairs
from cellgraph.data.libraries import LIBRARIES

MARKUP = re.compile(r">>>|``|`|:\w+:`|\.\. \w+::|::|\\|<BLANKLINE>|\{\w+\}|__$|\*\*\w|https?:|^[-=]{3}|\n")


@pytest.fixture(scope="module")
def pairs() -> list[QAPair]:
    return docstring_pairs()


@pytest.mark.slow
def test_counts(pairs: list[QAPair]) -> None:
    assert len(pairs) >= 2500
    packages = Counter(pair.category.split()[0] for pair in pairs)
    assert set(packages) == set(LIBRARIES)
    assert max(packages.values()) <= 0.25 * len(pairs)
    assert max(Counter(pair.topic for pair in pairs).values()) <= 20


def test_held_out_by_group(pairs: list[QAPair]) -> None:
    split = split_pairs(pairs, test=500, validation=200, seed=0)
    assert (len(split.test), len(split.validation)) == (500, 200)
    assert len(split.train) >= 2000
    for field in ("question", "answer", "topic"):
        known = {normalise_text(getattr(pair, field)) for pair in split.train}
        assert known.isdisjoint(normalise_text(getattr(pair, field)) for pair in split.test + split.validation)


def test_texts_are_clean(pairs: list[QAPair]) -> None:
    for pair in pairs:
        assert pair.question.endswith("?"), pair
        assert pair.answer[-1] in ".!?\"')", pair
        assert not MARKUP.search(pair.answer), pair
        assert not MARKUP.search(pair.question.replace("`", "")), pair
        assert 30 <= len(pair.answer) <= 520, pair
        assert len(pair.answer.split()) >= 4, pair
        assert pair.topic, pair


def test_every_text_stands_once(pairs: list[QAPair]) -> None:
    for field in ("question", "answer"):
        assert len({normalise_text(getattr(pair, field)) for pair in pairs}) == len(pairs)


def test_questions_vary_and_do_not_give_the_answer_away(pairs: list[QAPair]) -> None:
    openings = Counter(" ".join(pair.question.split()[:3]) for pair in pairs)
    assert len(openings) >= 15
    assert max(openings.values()) <= 0.25 * len(pairs)
    shared = [
        len(answer & set(normalise_text(pair.question).split())) / len(answer)
        for pair in pairs
        if (answer := set(normalise_text(pair.answer).split()))
    ]
    assert sum(shared) / len(shared) <= 0.35


def test_same_in_other_processes() -> None:
    code = (
        "import hashlib; from cellgraph.data import docstring_pairs;"
        "print(hashlib.sha256(repr(docstring_pairs(limit=250)).encode()).hexdigest())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, text=True
        )
        for seed in ("1", "2")
    ]
    found = {process.communicate()[0].strip() for process in processes}
    expected = hashlib.sha256(repr(docstring_pairs(limit=250)).encode()).hexdigest()
    assert found == {expected}


def test_packages_and_limit() -> None:
    pairs = docstring_pairs(packages=["numpy", "python"], limit=100, minimum=0)
    assert len(pairs) == 100
    assert {pair.category.split()[0] for pair in pairs} == {"numpy", "python"}
    assert docstring_pairs(packages=["python", "numpy", "numpy"], limit=100) == pairs


def test_absent_packages_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    pairs = docstring_pairs(packages=["sklearn", "python"], limit=60)
    assert {pair.category.split()[0] for pair in pairs} == {"python"}
    with pytest.raises(ValueError, match="the documentation of sklearn gives 0 pairs, expected at least 60"):
        docstring_pairs(packages=["sklearn"], limit=60)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"packages must be among .*'torch'.*, got \['nump'\]"):
        docstring_pairs(packages=["numpy", "nump"])
    for packages in ("numpy", []):
        with pytest.raises(ValueError, match="packages must be a list of names, got"):
            docstring_pairs(packages=packages)
    for name, value in {"limit": 2500.5, "minimum": "abc"}.items():
        with pytest.raises(ValueError, match=f"{name} must be an integer, got {value!r}"):
            docstring_pairs(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        docstring_pairs(limit=0)
    with pytest.raises(ValueError, match="minimum must not be negative, got -1"):
        docstring_pairs(minimum=-1)
