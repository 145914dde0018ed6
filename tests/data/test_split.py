from __future__ import annotations

import os
import random
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellgraph.data import QAPair, group_pairs, normalise_text, read_pairs, split_pairs

DATA = Path(os.environ.get("CELLGRAPH_DATA", Path(__file__).parents[3] / "shared" / "data"))

word = st.integers(0, 30).map(str)
some_pairs = st.lists(
    st.builds(
        QAPair,
        word.map("What is {}?".format),
        word.map("It is {}.".format),
        st.sampled_from(["", "", "", "a", "A ", "b", "c"]),
        st.just(""),
        st.sampled_from(["", "", "", "d", "e"]),
    ),
    min_size=3,
    max_size=40,
)


def keys(pair: QAPair) -> set[tuple[str, str]]:
    found = {
        ("question", normalise_text(pair.question)),
        ("answer", normalise_text(pair.answer)),
        ("topic", normalise_text(pair.topic)),
        ("dialogue", pair.dialogue),
    }
    return {(field, text) for field, text in found if text}


def connected(pairs: list[QAPair]) -> list[list[int]]:
    """Groups by merging sets until nothing changes: slow and plain."""
    groups = [({index}, keys(pair)) for index, pair in enumerate(pairs)]
    merged = True
    while merged:
        merged = False
        for first in range(len(groups)):
            for second in range(first + 1, len(groups)):
                if groups[first][1] & groups[second][1]:
                    members, shared = groups.pop(second)
                    groups[first] = groups[first][0] | members, groups[first][1] | shared
                    merged = True
                    break
            if merged:
                break
    return sorted(sorted(members) for members, _ in groups)


@given(some_pairs)
def test_groups_match_the_plain_reference(pairs: list[QAPair]) -> None:
    assert group_pairs(pairs) == connected(pairs)


def test_no_pairs_no_groups() -> None:
    assert group_pairs([]) == []


@settings(max_examples=200)
@given(pairs=some_pairs, test=st.integers(0, 10), validation=st.integers(0, 10), seed=st.integers(0, 5))
def test_nothing_crosses(pairs: list[QAPair], test: int, validation: int, seed: int) -> None:
    try:
        split = split_pairs(pairs, test=test, validation=validation, seed=seed)
    except ValueError:
        return  # which sizes are refused is tested below
    parts = [split.train, split.validation, split.test]
    assert sorted(map(repr, chain(*parts))) == sorted(map(repr, pairs))
    seen = [set().union(*(keys(pair) for pair in part)) for part in parts]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]
    assert split.train
    assert abs(len(split.test) - test) <= test / 2
    assert abs(len(split.validation) - validation) <= validation / 2
    assert split == split_pairs(pairs, test=test, validation=validation, seed=seed)


@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=12), wanted=st.integers(1, 30), seed=st.integers(0, 3))
def test_test_part_is_as_close_as_groups_allow(sizes: list[int], wanted: int, seed: int) -> None:
    pairs = [
        QAPair(f"question {group} {i}", f"answer {group} {i}", topic=f"topic {group}")
        for group, size in enumerate(sizes)
        for i in range(size)
    ]
    sums = {0}
    for size in sizes:
        sums |= {total + size for total in sums}
    best = min(abs(total - wanted) for total in sums)
    try:
        split = split_pairs(pairs, test=wanted, validation=0, seed=seed)
    except ValueError:
        assert wanted >= sum(sizes) or best > wanted / 2 or best == sum(sizes) - wanted
    else:
        assert abs(len(split.test) - wanted) == best


@given(number=st.integers(10, 200), test=st.integers(0, 4), validation=st.integers(0, 4), seed=st.integers(0, 9))
def test_single_pairs_give_exact_sizes(number: int, test: int, validation: int, seed: int) -> None:
    pairs = [QAPair(f"question {i}", f"answer {i}") for i in range(number)]
    split = split_pairs(pairs, test=test, validation=validation, seed=seed)
    assert (len(split.test), len(split.validation)) == (test, validation)
    fractions = split_pairs(pairs, test=0.2, validation=0.1, seed=seed)
    assert (len(fractions.test), len(fractions.validation)) == (round(0.2 * number), round(0.1 * number))


def test_draw_depends_on_the_seed_and_not_on_the_order() -> None:
    pairs = [QAPair(f"question {i}", f"answer {i}", topic=f"topic {i // 3}") for i in range(90)]
    split = split_pairs(pairs, test=30, validation=9, seed=0)
    shuffled = random.Random(0).sample(pairs, len(pairs))
    again = split_pairs(shuffled, test=30, validation=9, seed=0)
    assert set(again.test) == set(split.test)
    assert set(again.validation) == set(split.validation)
    assert set(split_pairs(pairs, test=30, validation=9, seed=1).test) != set(split.test)
    assert split_pairs(pairs, test=30, validation=21, seed=0).test == split.test
    assert split.train == [pair for pair in pairs if pair in set(split.train)]


def test_one_giant_group_is_refused_with_its_size() -> None:
    pairs = [QAPair(f"question {i}", f"answer {i}", topic="everything") for i in range(50)]
    with pytest.raises(ValueError, match=r"hold out 10 of 50 pairs for test.*the largest group has 50, .* sum is 0"):
        split_pairs(pairs, test=10, validation=0, seed=0)


@pytest.mark.parametrize(
    ("test", "validation", "expected"),
    [
        (10, 0, "10 pairs cannot give 10 for test and 0 for validation"),
        (6, 0.5, "10 pairs cannot give 6 for test and 5 for validation"),
        (-1, 0, "test must not be negative, got -1"),
        (0, 1.0, "validation as a fraction must be at least 0 and below 1, got 1.0"),
        (float("nan"), 0, "test must be a number of pairs or a fraction of them, got nan"),
        (True, 0, "test must be a number of pairs or a fraction of them, got True"),
        ("3", 0, "test must be a number of pairs or a fraction of them, got '3'"),
    ],
)
def test_bad_sizes(test: float, validation: float, expected: str) -> None:
    pairs = [QAPair(f"question {i}", f"answer {i}") for i in range(10)]
    with pytest.raises(ValueError, match=expected.replace("(", r"\(")):
        split_pairs(pairs, test=test, validation=validation, seed=0)


@pytest.mark.skipif(not (DATA / "medquad").is_dir(), reason="needs MedQuAD in CELLGRAPH_DATA")
def test_medquad_by_topic() -> None:
    pairs = read_pairs(DATA / "medquad" / "medquad.jsonl")
    assert len(pairs) == 5000
    split = split_pairs(pairs, test=1000, validation=0, seed=0)
    assert (len(split.train), len(split.test)) == (4000, 1000)
    assert not {pair.topic for pair in split.train} & {pair.topic for pair in split.test}


def test_fewer_pairs_to_train_on_are_some_of_them_and_leave_the_other_parts_alone() -> None:
    pairs = [QAPair(f"What is {i}?", f"It is {i}.", topic=f"topic {i // 3}") for i in range(60)]
    sizes: dict[str, Any] = {"test": 12, "validation": 6, "seed": 3}
    whole, half, few = (split_pairs(pairs, train=size, **sizes) for size in (None, 0.5, 10))
    assert (len(whole.train), len(half.train), len(few.train)) == (42, 21, 9)
    assert {*few.train} < {*half.train} < {*whole.train}
    assert half.test == few.test == whole.test
    assert half.validation == few.validation == whole.validation
    for size, told in ((2, "leaves nothing to train on"), (-1, "negative"), ("x", "number of pairs or a fraction")):
        with pytest.raises(ValueError, match=told):
            split_pairs(pairs, train=size, **sizes)  # type: ignore[arg-type]
