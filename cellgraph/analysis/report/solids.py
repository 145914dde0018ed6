"""Solids: what is drawn in three dimensions."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from cellgraph.analysis.report.drawing import AMOUNT, SIGNED, blank, png
from cellgraph.analysis.report.study import Study
from cellgraph.analysis.states import activity
from cellgraph.lattice import Lattice


def stencil(study: Study) -> Figure:
    """The weights of the neighbour sums where they point."""
    weights = study.stencil
    panels = {
        "transport, new": weights.transport_before,
        "transport, trained": weights.transport,
        "transport, change": weights.transport - weights.transport_before,
        **{f"gate, head {head}": row for head, row in enumerate(weights.gate)},
    }
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure = blank(2.9 * columns, 2.9 * rows)
    for number, (name, values) in enumerate(panels.items(), start=1):
        # Matplotlib's stubs know nothing of axes with a depth.
        axis: Any = figure.add_subplot(rows, columns, number, projection="3d")
        depth, height, width = weights.offsets.T.tolist()
        limit = max(float(values.abs().max()), 1e-12)
        for d, h, w in weights.offsets[:-1].tolist():
            axis.plot([0, d], [0, w], [0, -h], color="#CCCCCC", linewidth=1)
        axis.scatter(
            depth,
            width,
            [-h for h in height],
            c=values,
            cmap=SIGNED,
            vmin=-limit,
            vmax=limit,
            s=(30 + 220 * values.abs() / limit).numpy(),
            edgecolors="#444444",
            linewidths=0.6,
            depthshade=False,
        )
        axis.set_title(f"{name}\n±{limit:.2g}", fontsize="small")
        for set_ticks in (axis.set_xticks, axis.set_yticks, axis.set_zticks):
            set_ticks([-1, 0, 1], labels=[])
        axis.set_xlabel("depth", fontsize="x-small", labelpad=-12)
        axis.set_ylabel("width", fontsize="x-small", labelpad=-12)
        axis.set_zlabel("height", fontsize="x-small", labelpad=-12)
    return figure


def animation(study: Study, lattice: Lattice) -> bytes:
    """The cube over the steps of a rollout, as a GIF."""
    values = activity(study.trajectory)
    top = float(values.max())
    positions = torch.nn.functional.pad(lattice.positions, (3 - lattice.dim, 0)).numpy()
    frames = []
    for step, now in enumerate(values):
        figure = Figure(figsize=(5.2, 4.4))
        axis: Any = figure.add_axes((0.0, 0.04, 0.84, 0.9), projection="3d")
        share = (now / top).numpy()
        order = np.argsort(share, kind="stable")
        depth, height, width = positions[order].T
        shown = axis.scatter(
            depth,
            width,
            -height,
            c=share[order] * top,
            cmap=AMOUNT,
            vmin=0,
            vmax=top,
            s=2 + 40 * share[order],
            linewidths=0,
            depthshade=False,
        )
        axis.set_box_aspect([max(int(np.ptp(line)) + 1, 2) for line in (depth, width, height)], zoom=0.92)
        axis.set_xlabel("depth (cells)", fontsize="small")
        axis.set_ylabel("width (cells)", fontsize="small")
        axis.set_zlabel("height (cells)", fontsize="small")
        axis.set_xticks(range(0, int(np.ptp(depth)) + 1, 1 + int(np.ptp(depth)) // 6))
        axis.set_zticks([])
        axis.view_init(elev=22, azim=-62)
        figure.colorbar(shown, cax=figure.add_axes((0.86, 0.2, 0.02, 0.55)), label="rms of the state")
        figure.suptitle(f"step {step} of {len(values) - 1}", fontsize="medium")
        frames.append(Image.open(io.BytesIO(png(figure, dpi=80))).convert("RGB"))
    # One palette for all frames, the colour map and greys: the colours do not flicker.
    ramp = (colormaps[AMOUNT](np.linspace(0, 1, 200))[:, :3] * 255).astype(np.uint8)
    greys = np.linspace(0, 255, 56).astype(np.uint8)[:, None].repeat(3, 1)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([ramp, greys]).tobytes())
    flat = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    out = io.BytesIO()
    flat[0].save(out, format="GIF", save_all=True, append_images=flat[1:], duration=450, loop=0, optimize=True)
    return out.getvalue()
