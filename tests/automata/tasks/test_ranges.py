"""Numbers that no task can have are refused when it is made, and 0 leaves out what there is none of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cellgraph.automata.task import Task
from cellgraph.automata.tasks import (
    Arc1D,
    Arc1DDemonstrations,
    Growing,
    Life,
    Majority,
    Passage,
    SelfClassification,
    Voronoi,
)
from cellgraph.automata.tasks.arc1d.adapting import Adaptation
from cellgraph.nn import NCACell


@pytest.mark.parametrize(
    ("make", "number", "least"),
    [
        *((make, name, 1) for make in (Life, Voronoi) for name in ("channels", "size", "horizon")),
        (Majority, "width", 3),
        (Majority, "size", 1),
        (Growing, "size", 1),
        (Growing, "damages", 0),
        (Growing, "long_run", 0),
        (Passage, "channels", 1),
        (Passage, "substrate", 0),
        (SelfClassification, "seeds", 0),
    ],
)
def test_a_number_below_its_least_is_refused(make: Callable[..., Task], number: str, least: int) -> None:
    for value in (least - 1, -1) if number != "width" else (1, -1):
        with pytest.raises(ValueError, match=f"{number} must be at least {least}, got {value}"):
            make(**{number: value})
    made = make(**{number: least})
    assert made.sample(2, torch.Generator().manual_seed(0)).x.isfinite().all()


@pytest.mark.parametrize("number", ["channels", "kind_channels"])
@pytest.mark.parametrize("make", [Arc1D, Arc1DDemonstrations])
def test_a_width_of_the_1d_arc_is_positive(tmp_path: Path, make: Callable[..., Task], number: str) -> None:
    if make is Arc1DDemonstrations and number == "kind_channels":
        pytest.skip("it has none")
    pairs = [{"input": [[0, 1]], "output": [[1, 0]]}] * 2
    (tmp_path / "t.jsonl").write_text(json.dumps({"task": "1d_a", "train": pairs, "test": pairs}))
    for value in (0, -1):
        with pytest.raises(ValueError, match=f"{number} must be at least 1, got {value}"):
            make(tmp_path / "t.jsonl", **{number: value})


@pytest.mark.parametrize(
    ("make", "given"),
    [(lambda **given: Voronoi(10, **given), {"worst": float("inf")}), (Adaptation, {"lr": float("inf")})],
)
def test_what_is_infinite_is_refused(make: Callable[..., Any], given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"finite, got .*inf"):
        make(**given)


def test_figures_of_which_there_are_none_are_left_out() -> None:
    grown = {"before", "damaged", "final", "regrowth", "regrowth_worst"}
    late = {"intactness_2", "greatest_2"}
    for damages, long_run, names in ((0, 2, late), (2, 0, grown), (0, 0, set())):
        task = Growing(size=6, channels=5, damages=damages, long_run=long_run)
        cell = NCACell(task.lattice, 5, update={"name": "mlp", "hidden": 4}).eval()
        assert set(task.evaluate(cell, num_steps=1)) == names
    digits = SelfClassification(12, seeds=0)
    cell = NCACell(digits.lattice, 12, update={"name": "mlp", "hidden": 4}, context_channels=1).eval()
    figures = digits.evaluate(cell, num_steps=1)
    assert "linear_accuracy" in figures
    assert not {"mlp_accuracy", "mlp_hidden"} & set(figures)


def test_a_passage_may_have_no_substrate() -> None:
    task = Passage(3, hole=2, channels=3, substrate=0)
    batch = task.sample(2, torch.Generator().manual_seed(0))
    assert batch.context is not None
    assert batch.context.size(-1) == task.context_channels == 1
    cell = NCACell(task.lattice, 3, update={"name": "mlp", "hidden": 4}, context_channels=1).eval()
    assert task.validate(cell, num_steps=1)["loss"] >= 0
