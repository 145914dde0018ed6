"""Settings: in which keys runs differ, and how they are told."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from cellgraph.folder import RunFolder
from cellgraph.studies import StudiedRun, compare, differing


def run(mrr: float, **config: Any) -> StudiedRun:
    return StudiedRun(RunFolder("."), config, {"lattice": {"mrr": mrr}})


def test_values_that_change_together_are_one_key_and_seeds_are_none() -> None:
    both = [
        {"seed": n, "lattice": {"shape": shape}, "cell": {"lattice": {"shape": shape}}, "task": {"seed": n}}
        for n, shape in enumerate(([2, 2], [3, 3]))
    ]
    runs = [StudiedRun(RunFolder("."), config) for config in both]
    assert differing(runs) == [{"lattice.shape": [2, 2]}, {"lattice.shape": [3, 3]}]


def test_of_many_keys_a_setting_tells_what_differs_from_the_reference() -> None:
    base = {"a": 1, "b": 1, "c": 1, "d": {"_target_": "some.module.One"}}
    changed = [base, *({**base, key: 2} for key in "abc"), {**base, "d": {"_target_": "some.module.Two"}}]
    names = [one.name for one in compare([run(0.5, seed=0, **config) for config in changed]).settings]
    assert names == ["the reference", "a=2", "b=2", "c=2", "d=Two"]


def test_settings_that_differ_in_keys_of_one_ending_have_names_of_their_own() -> None:
    base = {"cell": {"width": 1}, "front": {"width": 1}, "b": 1, "c": 1}
    changed = [
        base,
        {**base, "cell": {"width": 2}},
        {**base, "front": {"width": 2}},
        {**base, "b": 2},
        {**base, "c": 2},
    ]
    names = [one.name for one in compare([run(0.5, seed=0, **config) for config in changed]).settings]
    assert names == ["the reference", "cell.width=2", "front.width=2", "b=2", "c=2"]


def test_classes_of_one_name_and_values_that_read_alike_have_names_of_their_own() -> None:
    def names(*configs: dict[str, Any]) -> list[str]:
        return [one.name for one in compare([run(0.5, seed=0, **config) for config in configs]).settings]

    targets = ("mine.Cell", "theirs.Cell", "theirs.Other")
    assert names(*({"cell": {"_target_": name}} for name in targets)) == [f"cell={name}" for name in targets]
    assert names(*({"cell": {"_target_": name}} for name in targets[1:])) == ["cell=Cell", "cell=Other"]
    assert names({"key": "none"}, {"key": None}) == ["key=none", "key=None"]
    assert names({"key": "1"}, {"key": 1}, {"key": 1.0}) == ["key='1'", "key=1", "key=1.0"]
    base = {"a": 1, "b": 1, "c": 1, "d": 1}
    changed = [base, {**base, "a": True}, *({**base, key: 2} for key in "bcd")]
    assert names(*changed) == ["the reference", "a=True", "b=2", "c=2", "d=2"]


def test_what_another_class_does_not_have_goes_with_the_class() -> None:
    teachers = [
        {"_target_": "a.Lsa", "ngram": 1, "least": 2},
        {"_target_": "a.Tfidf", "ngram": 1, "b": 0.75},
        {"_target_": "a.Encoder", "pooling": "mean"},
    ]
    runs = [run(0.5, seed=0, teacher=teacher) for teacher in teachers]
    assert differing(runs) == [{"teacher._target_": one["_target_"]} for one in teachers]
    # Of one class, or with two values, it tells them apart.
    runs.append(run(0.5, seed=0, teacher={**teachers[1], "b": 0.5}))
    assert [one["teacher.b"] for one in differing(runs)] == [None, 0.75, None, 0.5]


@pytest.mark.parametrize(
    ("group", "files", "key"),
    [
        ("update", ("mlp", "gru", "bounded"), "update.name"),
        ("perception", ("filters", "stencil", "attention", "pooled"), "perception.name"),
        ("teacher", ("distilbert", "llama3"), "teacher.name_or_path"),
        ("data", ("medquad", "file"), "data.source.path"),
        ("cell", ("gmlp", "nca"), "cell._target_"),
    ],
)
def test_of_files_of_a_group_what_names_them_is_told(group: str, files: Sequence[str], key: str) -> None:
    folder = Path(str(importlib.resources.files("cellgraph.conf"))) / group
    contents = [yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in files]
    runs = [run(0.5, seed=0, **{group: content}) for content in contents]
    for content in contents:
        for part in key.split(".")[1:]:
            content = content[part]
        assert {key: content} in differing(runs)
    assert len(differing(runs)[0]) == 1


def test_a_part_that_goes_by_a_name_is_told_by_it() -> None:
    names = [one.name for one in compare([run(0.5, seed=0, update={"name": name}) for name in ("mlp", "gru")]).settings]
    assert names == ["update=mlp", "update=gru"]


def test_what_follows_the_seed_is_no_setting() -> None:
    """Each seed goes on with the weights of its own: a paired comparison of the rates, as without these."""
    figures = {(1, 0): 0.1, (1, 1): 0.2, (2, 0): 0.15, (2, 1): 0.22}
    for place in ("digits/{}", "digits/day-{}1"):
        runs = [run(mrr, seed=s, rate=r, weights_from=place.format(s)) for (r, s), mrr in figures.items()]
        assert compare(runs).settings[1].differences == pytest.approx((0.05, 0.02))
    # Where each seed is one run, it is the seed that stands in them.
    for place in ("digits/{}", "/runs/2026-01-02/digits/{}", "/runs/2026-01-02/day-{}/digits"):
        alone = [run(0.1, seed=seed, weights_from=place.format(seed)) for seed in (0, 1, 12)]
        assert compare(alone).settings[0].seeds == (0, 1, 12)
    alone = [run(0.1, seed=seed, weights_from=name) for seed, name in enumerate(("long", "short"))]
    assert differing(alone) == [{"weights_from": "long"}, {"weights_from": "short"}]


def test_a_value_in_a_mapping_that_is_empty_elsewhere_is_one_key() -> None:
    runs = [run(0.5, seed=0, rates={}), run(0.5, seed=0, rates={"readout": 0.0})]
    assert differing(runs) == [{"rates.readout": None}, {"rates.readout": 0.0}]
