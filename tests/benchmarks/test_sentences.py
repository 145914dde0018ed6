"""What rows are said to say, on rows that are made up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cellgraph.benchmarks.measure import Contender
from cellgraph.benchmarks.report import Report
from cellgraph.benchmarks.sentences import answers, auto_answers, check_required, summarise
from cellgraph.benchmarks.setting import Setting

BASE = Setting("fused", num_steps=12, batch=2, dtype="float32", mode="train")


def rows(*settings_and_speeds: tuple[Setting, float]) -> list[dict]:
    """The rows of contenders with so many samples a second."""
    report = Report({}, {})
    summarise(report, [contender(setting, speed) for setting, speed in settings_and_speeds])
    return report.rows


def contender(setting: Setting, speed: float) -> Contender:
    return Contender(setting, lambda steps: None, seconds=[setting.batch / speed])


def of(backend: str, **options: object) -> Setting:
    return replace(BASE, backend=backend, **options)


def test_the_floor_is_the_best_batch_and_goes_by_the_step() -> None:
    found = rows(
        (of("floor"), 20.0),
        (of("floor", batch=8), 24.0),
        (of("fused"), 12.0),
        (of("fused", num_steps=24), 6.0),
        (of("fused", dtype="bfloat16"), 12.0),
    )
    assert [row["batch"] for row in found if row["backend"] == "floor"] == [8]
    ratios = [row["floor_ratio"] for row in found if row["backend"] == "fused"]
    assert ratios == [pytest.approx(0.5), pytest.approx(0.5), None]


def test_a_cone_has_the_floor_of_its_own_cells_and_both_are_told() -> None:
    cone = {"num_steps": 10, "cone": True}
    found = rows(
        (of("floor"), 24.0),
        (of("floor", **cone), 200.0),
        (of("fused"), 12.0),
        (of("fused", num_steps=10), 14.0),
        (of("fused", **cone), 100.0),
    )
    ratio = next(row["floor_ratio"] for row in found if row["backend"] == "fused" and row["rollout"] == "light cone")
    assert ratio == pytest.approx(0.5)
    said = answers(found, BASE)
    # The floor of a full rollout of ten steps is 24 * 12 / 10 samples a second.
    expected = "light cone of 10 steps, 100 samples/s; 7.14 x the full rollout; 3.47 of the floor of the full rollout"
    assert f"train, float32: {expected}; 0.50 of the products of its own cells" in said
    assert said[0] == "train, float32: fused at batch 2, 12 samples/s; 0.50 of what the matrix products alone allow"


@pytest.mark.parametrize(
    ("conv", "said"),
    [
        (10.0, "train: auto takes fused in float32 here, the best of 4 ways measured"),
        (
            12.5,
            "train: auto takes fused in float32 here, level with the best of 4 ways measured (0.96 of conv in float32)",
        ),
        (40.0, "train: auto takes fused in float32 here, 0.30 of the best of 4 ways measured, conv in float32"),
    ],
)
def test_what_auto_takes_is_held_against_all_ways(conv: float, said: str) -> None:
    found = rows(
        (of("floor"), 100.0),
        (of("fused"), 12.0),
        (of("fused", dtype="bfloat16"), 3.0),
        (of("conv"), conv),
        (of("pyg"), 2.0),
        # Not like the base: another batch, length, neighbourhood, or a part of the cells.
        (of("fused", batch=8), 99.0),
        (of("fused", num_steps=10), 99.0),
        (of("fused", neighbourhood=26), 99.0),
        (of("fused", cone=True), 99.0),
    )
    assert list(auto_answers(found, BASE, {"train": ("fused", "float32")})) == [said]


def test_a_way_that_was_not_measured_is_no_best() -> None:
    (said,) = auto_answers(rows((of("conv"), 5.0)), BASE, {"train": ("fused", "float32")})
    assert said == "train: auto takes fused in float32 here, which was not measured"


def test_a_required_ratio_is_held_in_every_mode() -> None:
    forward = of("fused", mode="forward")
    found = rows((BASE, 9.5), (of("stencil"), 10.0), (forward, 50.0), (replace(forward, backend="stencil"), 20.0))
    modes = ["train", "forward"]
    check_required(found, BASE, modes=modes, backends=["fused", "stencil"], ratio=0.9)
    with pytest.raises(ValueError, match=r"fused must make at least 1 of the speed of stencil in train, got 0\.95"):
        check_required(found, BASE, modes=modes, backends=["fused", "stencil"], ratio=1.0)
    with pytest.raises(ValueError, match=r"not measured in train: \['conv'\]"):
        check_required(found, BASE, modes=modes, backends=["fused", "conv"], ratio=0.9)
    with pytest.raises(ValueError, match=r"not measured in forward: \['fused', 'stencil'\]"):
        check_required(found[:2], BASE, modes=modes, backends=["fused", "stencil"], ratio=0.9)
    with pytest.raises(ValueError, match=r"not measured in train: \['fused', 'stencil'\]"):
        check_required([], BASE, modes=modes, backends=["fused", "stencil"], ratio=0.9)


def test_what_is_measured_without_checkpoints_does_not_stand_for_what_is_with_them() -> None:
    base = replace(BASE, checkpoint=4)
    found = rows(
        (base, 5.0),
        (replace(base, backend="stencil"), 9.0),
        (replace(base, backend="pyg", checkpoint=0), 2.0),
        # The variation of the first backend.
        (replace(base, checkpoint=0), 10.0),
    )
    with pytest.raises(ValueError, match=r"fused must make at least 0\.9 of the speed of stencil in train, got 0\.56"):
        check_required(found, base, modes=["train"], backends=["fused", "stencil"], ratio=0.9)
    (said,) = auto_answers(found, base, {"train": ("fused", "float32")})
    assert said == "train: auto takes fused in float32 here, 0.56 of the best of 3 ways measured, stencil in float32"
