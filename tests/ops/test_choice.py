"""The choice between ways: races on a clock of their own, and what is kept of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from cellgraph.ops import choice as module
from cellgraph.ops.choice import Choice, hopeless, kept_choice, kept_choices, machine_case, race

CASE = {"lattice": "a cube", "dtype": "float32"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path))
    return tmp_path / "operators"


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch):
    """Makes runs that take given seconds, one after the other and the last for ever, and lists those that ran."""
    clock, order = [0.0], []
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])

    def make(name: str, *seconds: float):
        left = list(seconds)

        def run() -> None:
            order.append(name)
            clock[0] += left.pop(0) if len(left) > 1 else left[0]

        return run

    make.order = order
    return make


def test_the_least_of_all_rounds_counts(timed) -> None:
    found = race({"noisy": timed("noisy", 0.011, 0.030, 0.010, 0.014), "steady": timed("steady", 0.0105)})
    assert found == pytest.approx({"noisy": 0.010, "steady": 0.0105})
    assert timed.order[:4] == ["noisy", "steady"] * 2


def test_what_is_beaten_drops_out_unless_it_stays(timed) -> None:
    runs = {name: timed(name, seconds) for name, seconds in (("slow", 0.05), ("fast", 0.01), ("yardstick", 0.08))}
    found = race(runs, staying="yardstick")
    assert found == pytest.approx({"slow": 0.05, "fast": 0.01, "yardstick": 0.08})
    assert timed.order.count("slow") == 1
    assert timed.order.count("yardstick") == timed.order.count("fast") > 2


def test_a_race_ends_in_time_but_not_before_two_rounds(timed) -> None:
    race({"one": timed("one", 3.0), "other": timed("other", 3.1)})
    assert timed.order == ["one", "other"] * 2
    timed.order.clear()
    race({"one": timed("one", 0.001), "other": timed("other", 0.001)})
    assert len(timed.order) < 40


def test_what_warms_up_is_not_hopeless(timed) -> None:
    runs = {"compiles": timed("compiles", 5.0, 0.01), "fast": timed("fast", 0.01), "never": timed("never", 0.2)}
    assert hopeless(runs) == pytest.approx({"never": 0.2})
    assert hopeless({}) == {}
    assert race({}) == {}


def test_a_choice_is_kept_for_its_case_alone() -> None:
    choice = Choice(CASE, {"conv": 0.25, "fused": 0.1, "stencil": 0.2})
    assert kept_choice(CASE) is None
    choice.keep()
    found = kept_choice(dict(reversed(CASE.items())))
    assert found == choice
    assert found.fastest == "fused"
    assert str(found) == "fused, 2 x as fast as stencil, 2.5 x as fast as conv"
    assert kept_choice({**CASE, "dtype": "float64"}) is None
    Choice({**CASE, "dtype": "bfloat16"}, {"conv": 1.0}).keep()
    assert [each.case["dtype"] for each in kept_choices()] == ["bfloat16", "float32"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "\x00\xff",
        '{"case": {}}',
        '{"case": "lattice", "seconds": {"conv": 1.0}}',
        json.dumps({"case": CASE, "seconds": {}}),
        json.dumps({"case": CASE, "seconds": {"conv": "fast"}}),
        json.dumps({"case": CASE, "seconds": {"conv": -1.0}}),
        json.dumps({"case": CASE, "seconds": {"conv": True}}),
        '{"case": {"lattice": "a cube", "dtype": "float32"}, "seconds": {"conv": NaN}}',
        json.dumps({"case": {**CASE, "dtype": 3}, "seconds": {"conv": 1.0}}),
        json.dumps({"case": {**CASE, "dtype": "float16"}, "seconds": {"conv": 1.0}}),
        "[" * 100_000,
    ],
)
def test_a_file_that_says_nothing_of_use_is_as_if_it_were_not_there(content: str, folder: Path) -> None:
    Choice(CASE, {"conv": 1.0}).keep()
    (path,) = folder.iterdir()
    path.write_text(content)
    assert kept_choice(CASE) is None
    assert all(each.case != CASE for each in kept_choices())
    Choice(CASE, {"fused": 1.0}).keep()
    assert kept_choice(CASE).fastest == "fused"


def test_a_folder_that_cannot_be_used_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path / "file"))
    Choice(CASE, {"conv": 1.0}).keep()
    assert kept_choice(CASE) is None
    assert list(kept_choices()) == []


@pytest.mark.skipif(os.name != "posix", reason="a folder in the place of the file")
def test_a_folder_in_the_place_of_the_file_is_no_error(folder: Path) -> None:
    Choice(CASE, {"conv": 1.0}).keep()
    (path,) = folder.iterdir()
    path.unlink()
    path.mkdir()
    assert kept_choice(CASE) is None
    Choice(CASE, {"conv": 1.0}).keep()


def test_the_machine_s_case_is_what_speed_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine_case(torch.device("cpu"))
    assert before["torch"] == torch.__version__
    assert before["threads"] == str(torch.get_num_threads())
    assert machine_case(torch.device("cpu")) == before
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "NONE")
    after = machine_case(torch.device("cpu"))
    assert {name for name in before if before[name] != after[name]} == {"threads", "instructions"}
