"""The report's pictures: what is drawn is what was measured."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from reference import rms, trajectory
from reported import Made

from cellgraph import Lattice
from cellgraph.analysis.report.cube import Cube
from cellgraph.analysis.report.drawing import Picture, blank
from cellgraph.analysis.report.patterns import LEAST_SPAN, _draw_null


@pytest.fixture
def drawn(made: Made, monkeypatch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures by name, before they become PNGs."""
    figures: dict[str, Figure] = {}
    monkeypatch.setattr(Picture, "of", lambda name, figure: figures.setdefault(name, figure))
    list(made.study.pictures())
    return figures


def curve(axis, label: str) -> list[float]:
    return next(line for line in axis.lines if line.get_label() == label).get_ydata().tolist()


def test_pictures_draw_the_numbers(made, drawn):
    numbers = made.figures
    cosines = numbers["embeddings"]["cosines"].values()
    # The others are scales of colours.
    matrices = [axis for axis in drawn["cosines"].axes if axis.get_title()]
    for axis, row in zip(matrices, cosines, strict=True):
        assert axis.get_title().endswith(f"own {row['own']:.3f}, others {row['other']:.3f}")
    active = rms(trajectory(made.model, made.embedded.question[30:31], 3)[:, 0])
    layers = [axis.images[0].get_array() for axis in drawn["slices"].axes if axis.images]
    assert np.array(layers[:12]).reshape(4, 54) == pytest.approx(active, rel=1e-4, abs=1e-7)
    topic, question_type, dimensions = [axis.images[0].get_array() for axis in drawn["stages"].axes[:3]]
    labels = numbers["specialisation"]["labels"]
    assert topic.tolist() == labels["topic"]["layers"]
    assert question_type.tolist() == labels["question type"]["layers"]
    assert dimensions.tolist() == numbers["specialisation"]["layer_dimensions"]
    costs = numbers["ablation"]["costs"]
    cost, blocks = drawn["ablation"].axes[:2]
    wanted = [c["loss"] for c in costs if c["name"].startswith("layer")]
    assert cost.lines[0].get_ydata().tolist() == pytest.approx(wanted)
    silent = [c for c in costs if c["name"].startswith("block")]
    assert [text.get_text() for text in blocks.texts] == [f"{c['loss']:.3f}\nMRR {-c['mrr']:+.3f}" for c in silent]
    assert blocks.images[0].get_array().flatten().tolist() == pytest.approx([c["loss"] for c in silent])


def test_pictures_of_influence_and_patterns_draw_the_numbers(made, drawn):
    numbers = made.figures
    jacobian, followed, directions = [axis.images[0].get_array() for axis in drawn["influence"].axes[:3]]
    assert jacobian.max() == pytest.approx(numbers["influence"]["largest"])
    assert followed.shape == (4, 3)
    assert np.array(directions) == pytest.approx(np.log10(numbers["influence"]["directions"]), abs=1e-5)
    names = [tick.get_text() for tick in drawn["influence"].axes[2].get_xticklabels()]
    assert names == ["depth -1", "height -1", "width -1", "width +1", "height +1", "depth +1", "itself"]
    field = numbers["influence"]["receptive_field"]
    assert curve(drawn["arrivals"].axes[2], "influence (squared)") == field["share"]
    assert curve(drawn["arrivals"].axes[2], "cells in reach") == field["cells"]
    patterns = numbers["patterns"]
    assert curve(drawn["long_run"].axes[0], "trained") == pytest.approx(patterns["relative_change"]["trained"])
    panels = iter(drawn["significance"].axes)
    for rows in patterns["against"].values():
        for name, row in rows.items():
            axis = next(panels)
            shown = row[row["side"]]
            assert axis.get_title() == f"{row['side']}: p = {shown['p']:.2g}, q = {shown['q']:.2g}"
            lines = [float(line.get_xdata()[0]) for line in axis.lines]
            assert lines == pytest.approx([patterns["observed"][name], patterns["new"][name]])
            assert sum(bar.get_height() for bar in axis.patches) == 9 - row["diverged"]


def test_the_animation_has_a_frame_a_step(made):
    with Image.open(io.BytesIO((made.folder / "cube.gif").read_bytes())) as animation:
        assert animation.n_frames == 4
        frames = [np.array((animation.seek(i), animation.convert("RGB"))[1], dtype=int) for i in range(4)]
    # The front moves: no two frames are alike.
    for before, after in itertools.pairwise(frames):
        assert np.abs(before - after).max() > 50


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        # The middle plus and minus half the span is not where these begin and end.
        ([-0.9, -0.5], 2),
        ([-0.8, -0.4, 0.1], 3),
        ([-0.6, 0.7], 2),
        # As far apart as the narrowest histogram is wide, give or take a rounding.
        ([0.3, 0.3 + LEAST_SPAN], 2),
        ([0.7, 0.7 + np.nextafter(LEAST_SPAN, 0)], 2),
        # Nothing but rounding between them.
        ([0.1 + 0.2, 0.3, 0.3], 1),
        ([0.25], 1),
        ([], 0),
    ],
)
def test_a_histogram_counts_all_values_to_the_outermost(values, bars):
    axis = blank(2, 2).subplots()
    _draw_null(axis, torch.tensor([*values, np.nan], dtype=torch.double), {"vermillion": 0.1, "black": np.nan})
    heights = [bar.get_height() for bar in axis.patches]
    assert sum(heights) == len(values)
    assert sum(height > 0 for height in heights) == bars
    if values:
        width = axis.patches[0].get_width()
        first, last = axis.patches[0].get_x(), axis.patches[-1].get_x() + width
        assert first == pytest.approx(min(min(values), (min(values) + max(values) - LEAST_SPAN) / 2))
        assert last - first == pytest.approx(max(max(values) - min(values), LEAST_SPAN))


def test_silent_cells_are_drawn(recwarn):
    lattice = Lattice((2, 2, 3))
    silent = Cube({}, torch.zeros(3, 12, 4), torch.zeros(3, 12))
    pictures = [picture.file for picture in silent.pictures(lattice)]
    assert pictures == ["cube.gif", "slices.png"]
    assert not [str(warning.message) for warning in recwarn if "divide" in str(warning.message)]
