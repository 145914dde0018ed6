"""Training: how it went, and what it made of the stencil."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from matplotlib.figure import Figure

from cellgraph.analysis.dynamics import Stencil, courses, stencil_weights
from cellgraph.analysis.plots import PALETTE, Curve, draw_loss, draw_similarity, shows_loss, shows_similarity
from cellgraph.analysis.report.drawing import SIGNED, Picture, blank, side_by_side, titled
from cellgraph.analysis.report.subject import Numbers
from cellgraph.model import CellGraph

#: Logged quantities that are neither losses nor similarities.
GAUGES = {
    "train/grad_norm": "norm of the gradients",
    "train/temperature": "temperature",
}


@dataclass(frozen=True)
class Training:
    """How training went.

    Attributes:
        numbers: What the page says.
        curves: What was logged.
        stencil: Weights of the neighbour sums.
    """

    numbers: Numbers
    curves: Mapping[str, Curve]
    stencil: Stencil

    @classmethod
    def measure(cls, model: CellGraph, curves: Mapping[str, Curve]) -> Training:
        """Sum up the curves, those of training first, and look at the stencil."""
        order = sorted(courses(curves).items(), key=lambda item: (not item[0].startswith("train/"), item[0]))
        stencil = stencil_weights(model)
        numbers = {
            "curves": {name: asdict(course) for name, course in order},
            "stencil": {
                "offsets": stencil.offsets.tolist(),
                "transport": stencil.transport.tolist(),
                "transport_before": stencil.transport_before.tolist(),
                "gate": stencil.gate.tolist(),
                "largest_change": float((stencil.transport - stencil.transport_before).abs().max()),
                "largest_gate": float(stencil.gate.abs().max()) if len(stencil.gate) else None,
            },
        }
        return cls(numbers, curves, stencil)

    def pictures(self) -> Iterator[Picture]:
        """Curves, as far as they were logged, and the stencil."""
        # A run cut short has logged no validation.
        if any(map(shows_loss, self.curves)):
            yield Picture.of("loss", draw_loss(self.curves))
        if any(map(shows_similarity, self.curves)):
            yield Picture.of("similarity", draw_similarity(self.curves))
        gauges = {name: words for name, words in GAUGES.items() if name in self.curves}
        if gauges:
            figure = blank(4.4 * len(gauges), 2.8)
            axes = side_by_side(figure, len(gauges))
            for axis, (name, words), colour in zip(axes, gauges.items(), PALETTE.values(), strict=False):
                axis.plot(*self.curves[name], color=colour, marker="o", markersize=3)
                titled(axis, "optimiser updates", f"{words} (dimensionless)", words.capitalize())
            yield Picture.of("gradients", figure)
        yield Picture.of("stencil", _solids(self.stencil))


def _solids(stencil: Stencil) -> Figure:
    """The weights of the neighbour sums where they point."""
    panels = {
        "transport, new": stencil.transport_before,
        "transport, trained": stencil.transport,
        "transport, change": stencil.transport - stencil.transport_before,
        **{f"gate, head {head}": row for head, row in enumerate(stencil.gate)},
    }
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure = blank(2.9 * columns, 2.9 * rows)
    for number, (name, values) in enumerate(panels.items(), start=1):
        # Matplotlib's stubs know nothing of axes with a depth.
        axis: Any = figure.add_subplot(rows, columns, number, projection="3d")
        _draw_solid(axis, stencil.offsets, values)
        axis.set_title(f"{name}\nlargest {float(values.abs().max()):.2g}", fontsize="small")
    return figure


def _draw_solid(axis: Any, offsets: torch.Tensor, values: torch.Tensor) -> None:
    depth, height, width = offsets.T.tolist()
    limit = max(float(values.abs().max()), 1e-12)
    for d, h, w in offsets[:-1].tolist():
        axis.plot([0, d], [0, w], [0, h], color="#999999", linewidth=1)
    axis.scatter(
        depth,
        width,
        height,
        c=values,
        cmap=SIGNED,
        vmin=-limit,
        vmax=limit,
        s=(30 + 220 * values.abs() / limit).numpy(),
        edgecolors="#444444",
        linewidths=0.6,
        depthshade=False,
    )
    for set_ticks in (axis.set_xticks, axis.set_yticks, axis.set_zticks):
        set_ticks([-1, 0, 1])
    axis.tick_params(labelsize="x-small", pad=-4)
    axis.set_xlabel("depth", fontsize="x-small", labelpad=-10)
    axis.set_ylabel("width", fontsize="x-small", labelpad=-10)
    axis.set_zlabel("height", fontsize="x-small", labelpad=-10)
    axis.invert_zaxis()
