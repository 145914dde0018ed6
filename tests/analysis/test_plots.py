from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from cellgraph.analysis.plots import PALETTE, plot_loss, plot_run, plot_similarity, read_metrics


def write(path: Path, rows: list[dict]) -> Path:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def metrics(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    rows: list[dict] = []
    for step in range(10, 610, 10):
        falling = math.exp(-step / 200)
        surface, dialogue = 0.3 + 0.5 * falling, 1 + 2 * falling + 0.1 * rng.normal()
        rows.append(
            {
                "step": step,
                "epoch": step / 100,
                "train/loss": surface + dialogue,
                "train/surface": surface,
                "train/internal": 0.003 + 0.02 * falling,
                "train/dialogue": float("nan") if step == 200 else dialogue,
                "train/lr": 1e-3 * (1 - step / 600),
                "train/grad_norm": 1e6,
            }
        )
        if step % 100 == 0:
            rows.append({"step": step, "val/loss": 2.0, "val/cosine": 0.7 - falling / 3, "val/mrr": 0.5 - falling / 4})
    return write(tmp_path / "metrics.csv", rows)


def colours(path: Path) -> set[tuple[int, ...]]:
    return set(map(tuple, np.round(imread(path)[..., :3].reshape(-1, 3) * 255).astype(int).tolist()))


def bytes_of(name: str) -> tuple[int, ...]:
    return tuple(round(channel * 255) for channel in to_rgb(PALETTE[name]))


def test_curves_leave_gaps_out(metrics):
    curves = read_metrics(metrics)
    assert curves["val/mrr"][0] == [100, 200, 300, 400, 500, 600]
    assert len(curves["train/loss"][0]) == 60
    assert 200 not in curves["train/dialogue"][0]
    assert len(curves["train/dialogue"][0]) == 59
    assert not {"step", "epoch"} & set(curves)


def test_a_split_name_keeps_its_steps_and_a_resumed_step_its_last_value(tmp_path):
    rows = [
        {"step": 2, "train/loss_step": 5.0},
        {"step": 1, "train/loss_step": 4.0, "train/loss_epoch": 9.0},
        {"step": 2, "train/loss_step": 3.0},
        {"step": "", "train/loss_step": 7.0},
        {"step": 3, "train/loss_step": "inf"},
    ]
    assert read_metrics(write(tmp_path / "m.csv", rows)) == {"train/loss": ([1.0, 2.0], [4.0, 3.0])}


def test_pictures_show_their_curves(metrics, tmp_path):
    paths = plot_run(metrics, tmp_path / "plots")
    assert [path.name for path in paths] == ["loss.png", "similarity.png"]
    # Terms need three colours, training and validation two.
    assert {bytes_of("blue"), bytes_of("vermillion"), bytes_of("green")} <= colours(paths[0])
    assert bytes_of("blue") in colours(paths[1])
    for path in paths:
        picture = imread(path)
        assert min(picture.shape[:2]) > 400
        assert (picture[..., :3].min(-1) < 0.9).mean() > 0.01


def test_pictures_follow_the_data(metrics, tmp_path):
    curves = read_metrics(metrics)
    first = plot_similarity(curves, tmp_path / "a.png").read_bytes()
    assert plot_similarity(curves, tmp_path / "b.png").read_bytes() == first
    steps, values = curves["val/mrr"]
    changed = {**curves, "val/mrr": (steps, values[::-1])}
    assert plot_similarity(changed, tmp_path / "c.png").read_bytes() != first


def test_what_is_no_loss_stays_out(metrics, tmp_path):
    curves = read_metrics(metrics)
    without = {
        name: curve for name, curve in curves.items() if name not in ("train/grad_norm", "val/mrr", "val/cosine")
    }
    assert plot_loss(curves, tmp_path / "a.png").read_bytes() == plot_loss(without, tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([{"step": 1, "train/loss": 2.0}], ["loss.png"]),
        ([{"step": 1, "val/mrr": 0.1}], ["similarity.png"]),
        ([{"step": 1, "train/loss": -2.0, "val/cosine": -0.1, "lr-AdamW": 0.1}], ["loss.png", "similarity.png"]),
        ([{"step": 1, "train/loss": "nan"}], []),
        ([{"step": 1, "lr": 0.1}], []),
    ],
)
def test_missing_columns_are_left_out(rows, names, tmp_path):
    written = plot_run(write(tmp_path / "metrics.csv", rows), tmp_path)
    assert [path.name for path in written] == names
    assert sorted(path.name for path in tmp_path.glob("*.png")) == names


def test_bad_input_is_named(tmp_path):
    empty = tmp_path / "empty.csv"
    empty.touch()
    with pytest.raises(ValueError, match="expected a column 'step', got an empty file"):
        read_metrics(empty)
    with pytest.raises(ValueError, match=r"expected a column 'step', got \['loss'\]"):
        read_metrics(write(tmp_path / "other.csv", [{"loss": 1}]))
    with pytest.raises(FileNotFoundError):
        read_metrics(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match="no loss to plot"):
        plot_loss({"val/mrr": ([1.0], [0.5])}, tmp_path / "x.png")
    with pytest.raises(ValueError, match="no similarity to plot"):
        plot_similarity({"train/loss": ([1.0], [0.5])}, tmp_path / "x.png")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(OSError, match=r"cannot write .*x\.png"):
        plot_loss({"train/loss": ([1.0], [0.5])}, blocked / "x.png")
