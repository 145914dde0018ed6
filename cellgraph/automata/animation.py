"""Animations: states over time as a GIF, one picture as a PNG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from cellgraph.files import write_atomically


def save_picture(picture: Tensor, path: str | Path, *, scale: int = 8) -> Path:
    """Save an image as a PNG.

    Args:
        picture: Colours from 0 to 1, ``[height, width, 3]``, or greys, ``[height, width]``; what is beyond is cut off,
            and what is no number is drawn as 0, which is black.
        path: The file.
        scale: Pixels a cell.
    """
    content = io.BytesIO()
    _image(picture, scale).save(content, format="PNG")
    write_atomically(path, content.getvalue())
    return Path(path)


def save_animation(frames: Tensor, path: str | Path, *, scale: int = 8, seconds: float = 0.05) -> Path:
    """Save images as a GIF that repeats.

    Args:
        frames: Colours from 0 to 1, ``[num_frames, height, width, 3]``, or greys, ``[num_frames, height, width]``; see
            :func:`save_picture`.
        path: The file.
        scale: Pixels a cell.
        seconds: Time a frame; the last stays for a second.

    Raises:
        ValueError: If there are no frames or they are no images.
    """
    if frames.dim() not in (3, 4) or not len(frames):
        raise ValueError(f"frames must be [num_frames, height, width] and maybe 3 colours, got {list(frames.shape)}")
    first, *rest = [_image(frame, scale) for frame in frames]
    durations = [*[int(1000 * seconds)] * len(rest), 1000]
    content = io.BytesIO()
    first.save(content, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0)
    write_atomically(path, content.getvalue())
    return Path(path)


def _image(picture: Tensor, scale: int) -> Image.Image:
    values = (picture.detach().cpu().float().nan_to_num(nan=0.0).clamp(0, 1) * 255).round().numpy().astype(np.uint8)
    return Image.fromarray(values.repeat(scale, axis=0).repeat(scale, axis=1))
