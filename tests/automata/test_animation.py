"""Pictures are what they were given: pixel by pixel, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cellgraph.automata import save_animation, save_picture


def test_a_picture_has_its_pixels(tmp_path):
    colours = torch.rand(3, 4, 3) * 1.4 - 0.2
    with Image.open(save_picture(colours, tmp_path / "x.png", scale=5)) as image:
        found = np.asarray(image)
    assert found.shape == (15, 20, 3)
    expected = np.rint(np.clip(colours.numpy(), 0, 1) * 255)
    np.testing.assert_array_equal(found[2::5, 2::5], expected)


@pytest.mark.filterwarnings("error")
def test_what_is_no_number_is_black_and_what_is_beyond_is_cut_off(tmp_path):
    greys = torch.tensor([[float("nan"), float("inf")], [-float("inf"), 1.0]])
    with Image.open(save_picture(greys, tmp_path / "x.png", scale=1)) as image:
        assert np.asarray(image).tolist() == [[0, 255], [0, 255]]
    with Image.open(save_animation(greys[None], tmp_path / "x.gif", scale=1)) as image:
        assert np.asarray(image.convert("L")).tolist() == [[0, 255], [0, 255]]


def test_an_animation_has_its_frames(tmp_path):
    frames = torch.stack([torch.full((2, 3), level) for level in (0.0, 0.5, 1.0)])
    with Image.open(save_animation(frames, tmp_path / "x.gif", scale=2, seconds=0.1)) as image:
        assert image.n_frames == 3
        found = []
        for number in range(3):
            image.seek(number)
            found.append((int(np.asarray(image.convert("L"))[0, 0]), image.info["duration"]))
        assert image.size == (6, 4)
    assert found == [(0, 100), (128, 100), (255, 1000)]
    with pytest.raises(ValueError, match="frames must be"):
        save_animation(frames[:0], tmp_path / "y.gif")
