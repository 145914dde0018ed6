"""Cube: the states of the cells over the steps, as slices and as an animation."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from cellgraph.analysis.report.drawing import AMOUNT, Picture, layer_maps, png
from cellgraph.analysis.report.subject import Numbers, Subject
from cellgraph.analysis.states import activity, walk
from cellgraph.lattice import Lattice

#: Questions between which states are compared.
COMPARED = 32


@dataclass(frozen=True)
class Cube:
    """One question on its way, and how much the cells tell questions apart.

    Attributes:
        numbers: What the page says.
        trajectory: States of the question shown, ``[num_steps + 1, num_nodes, channels]``.
        varying: Standard deviation of each cell's state between questions at each step (root mean square over the
            channels), ``[num_steps + 1, num_nodes]``.
    """

    numbers: Numbers
    trajectory: Tensor
    varying: Tensor

    @classmethod
    def measure(cls, subject: Subject) -> Cube:
        """Walk one question, and some others beside it, through the lattice."""
        model, shown = subject.model, subject.shown
        trajectory = torch.stack([x[0] for x in walk(model, subject.question[shown : shown + 1])])
        compared = subject.some(min(subject.effort.probed, COMPARED))
        varying = torch.stack([x.std(0).square().mean(-1).sqrt() for x in walk(model, subject.question[compared])])
        active = activity(trajectory)
        front = [int(model.lattice.layer[step.argmax()]) for step in active]
        numbers = {
            "pair": shown,
            "question": subject.pairs[shown].question,
            "compared": len(compared),
            "activity": active.mean(1).tolist(),
            "largest_activity": float(active.max()),
            "layer_of_the_most_active_cell": front,
        }
        return cls(numbers, trajectory, varying)

    def pictures(self, lattice: Lattice) -> Iterator[Picture]:
        """Slices by layer and step, and the animation."""
        yield Picture("cube.gif", self._animation(lattice))
        steps = sorted({round(step) for step in np.linspace(0, len(self.trajectory) - 1, 6)})
        maps = {f"step {step}": activity(self.trajectory[step]) for step in steps}
        yield Picture.of("slices", layer_maps(maps, lattice, AMOUNT, "rms of the state (dimensionless)"))

    def _animation(self, lattice: Lattice) -> bytes:
        values = activity(self.trajectory)
        # Cells that are all silent have a scale as well.
        top = float(values.max()) or 1.0
        positions = torch.nn.functional.pad(lattice.positions, (3 - lattice.dim, 0)).numpy()
        frames = [
            _frame(now.numpy() / top, positions, top, f"step {step} of {len(values) - 1}")
            for step, now in enumerate(values)
        ]
        # One palette for all frames, the colour map and greys: the colours do not flicker.
        ramp = (colormaps[AMOUNT](np.linspace(0, 1, 200))[:, :3] * 255).astype(np.uint8)
        greys = np.linspace(0, 255, 56).astype(np.uint8)[:, None].repeat(3, 1)
        palette = Image.new("P", (1, 1))
        palette.putpalette(np.concatenate([ramp, greys]).tobytes())
        flat = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
        out = io.BytesIO()
        flat[0].save(out, format="GIF", save_all=True, append_images=flat[1:], duration=450, loop=0, optimize=True)
        return out.getvalue()


def _frame(share: np.ndarray, positions: np.ndarray, top: float, title: str) -> Image.Image:
    """The cube at a step; ``share`` of the largest value there is at any step."""
    figure = Figure(figsize=(5.6, 4.6))
    # Matplotlib's stubs know nothing of axes with a depth.
    axis: Any = figure.add_axes((0.0, 0.02, 0.82, 0.92), projection="3d")
    # Strong cells are drawn last, over the weak ones.
    order = np.argsort(share, kind="stable")
    depth, height, width = positions[order].T
    shown = axis.scatter(
        depth,
        width,
        height,
        c=share[order] * top,
        cmap=AMOUNT,
        vmin=0,
        vmax=top,
        s=2 + 40 * share[order],
        linewidths=0,
        depthshade=False,
    )
    axis.set_box_aspect([max(int(np.ptp(line)) + 1, 2) for line in (depth, width, height)], zoom=0.9)
    for name, line in (("x", depth), ("y", width), ("z", height)):
        last = int(np.ptp(line))
        getattr(axis, f"set_{name}ticks")(range(0, last + 1, 1 + last // 4))
        getattr(axis, f"{name}axis").set_tick_params(labelsize="small")
    # The first row on top, as in the slices.
    axis.invert_zaxis()
    axis.set_xlabel("depth (cells)", fontsize="small")
    axis.set_ylabel("width (cells)", fontsize="small")
    axis.set_zlabel("height (cells)", fontsize="small")
    axis.view_init(elev=22, azim=-62)
    bar = figure.colorbar(shown, cax=figure.add_axes((0.87, 0.2, 0.02, 0.55)), label="rms of the state")
    bar.ax.tick_params(labelsize="small")
    figure.suptitle(title, fontsize="medium")
    return Image.open(io.BytesIO(png(figure, dpi=80))).convert("RGB")
