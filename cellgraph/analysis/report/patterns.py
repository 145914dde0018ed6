"""Patterns: what the cells do together, and whether that was learned."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from cellgraph.analysis.patterns import (
    STATISTICS,
    Clusters,
    Comparison,
    against_shuffled,
    cluster_cells,
    oscillation,
    relative_changes,
    spectrum,
    statistics,
    wave,
)
from cellgraph.analysis.plots import PALETTE
from cellgraph.analysis.report.drawing import Picture, blank, grids, side_by_side, titled
from cellgraph.analysis.report.subject import Numbers, Subject
from cellgraph.analysis.states import activity, new_network, walk
from cellgraph.lattice import Lattice

EVERYTHING, ALL_BUT_TRANSPORT = "all weights shuffled", "all weights but the transport shuffled"

#: What is kept as it is, by kind of shuffling.
KEPT: dict[str, tuple[str, ...]] = {EVERYTHING: (), ALL_BUT_TRANSPORT: ("transport",)}

#: A claim needs a q of this or less.
LEVEL = 0.05

#: What may be said of a pattern that goes with the transport, and of one that the rest works against.
MADE_BY_TRANSPORT = "made by the transport: gone when it is shuffled too, there when only the rest is"
WEAKENED = ", and weakened by the rest: less of it than where that is shuffled"

#: Width of the narrowest histogram, in the unit of what it counts.
LEAST_SPAN = 1e-3


@dataclass(frozen=True)
class Patterns:
    """What the cells do together.

    Attributes:
        numbers: What the page says.
        num_steps: Steps of a rollout.
        clusters: Cells by their activity.
        late: States of the question after the rollout, ``[beyond + 1, num_nodes, channels]``.
        changes: Of the trained and of a new network, the relative change of each step.
        comparisons: By kind of shuffling.
        new: The statistics of a new network.
    """

    numbers: Numbers
    num_steps: int
    clusters: Clusters
    late: Tensor
    changes: dict[str, Tensor]
    comparisons: dict[str, Comparison]
    new: dict[str, float]

    @classmethod
    def measure(cls, subject: Subject, progress: Callable[[float], None]) -> Patterns:
        """Clusters, waves, fixed points and oscillations, beside shuffled and new networks."""
        model, effort, seed = subject.model, subject.effort, subject.seed
        question = subject.question[subject.shown][None]
        num_steps = model.num_steps[1]
        fresh = new_network(model, seed=seed)
        walked = torch.stack([x[0] for x in walk(model, question, num_steps=num_steps + effort.beyond)])
        anew = walk(fresh, question, num_steps=num_steps + effort.beyond)
        changes = {"trained": relative_changes(iter(walked)), "new": relative_changes(anew)}
        curves, late = activity(walked[: num_steps + 1]).T, walked[num_steps:]
        clusters = cluster_cells(curves, seed=seed)
        correlation, speed = wave(curves, model.lattice.hops(model.input_surface.mask))
        asked = subject.question[_asked(subject)]
        measured = functools.partial(statistics, question=asked, beyond=effort.beyond)
        comparisons = {
            name: against_shuffled(
                measured,
                model,
                num_shuffles=effort.shuffles,
                keep=keep,
                seed=seed,
                progress=lambda: progress(1 / len(KEPT) / effort.shuffles),
            )
            for name, keep in KEPT.items()
        }
        new = measured(fresh)
        numbers = {
            "clusters": {
                "count": len(clusters.centres),
                "cells": torch.bincount(clusters.labels).tolist(),
                "silhouette": clusters.silhouette,
            },
            "wave": {"correlation": correlation, "cells_per_step": speed},
            "relative_change": {name: change.tolist() for name, change in changes.items()},
            "oscillating_cells": int((oscillation(late)[0] > 0.5).sum()),
            "shuffles": effort.shuffles,
            "questions": len(asked),
            "observed": comparisons[EVERYTHING].observed,
            "new": new,
            "against": {name: _beside(comparison) for name, comparison in comparisons.items()},
            "claims": claims(comparisons, new),
        }
        return cls(numbers, num_steps, clusters, late, changes, comparisons, new)

    def pictures(self, lattice: Lattice) -> Iterator[Picture]:
        """The statistics beside those of shuffled networks, groups of cells, and the long run."""
        yield Picture.of("significance", self._significance())
        yield Picture.of("clusters", self._groups(lattice))
        figure = blank(10.5, 3.4)
        left, right = side_by_side(figure, 2)
        self._draw_changes(left)
        self._draw_spectrum(right)
        yield Picture.of("long_run", figure)

    def _significance(self) -> Figure:
        figure = blank(12, 2.7 * len(self.comparisons))
        rows = figure.subplots(len(self.comparisons), len(STATISTICS), squeeze=False)
        for axes, (kind, comparison) in zip(rows, self.comparisons.items(), strict=True):
            for axis, (name, null) in zip(axes, comparison.null.items(), strict=True):
                _draw_null(axis, null, {"vermillion": comparison.observed[name], "black": self.new[name]})
                side = _side(comparison, name)
                p, q = getattr(comparison, side)[name]
                titled(axis, name, "networks" if axis is axes[0] else "", f"{side}: p = {p:.2g}, q = {q:.2g}")
            axes[0].set_ylabel(f"{kind.replace(' but ', chr(10) + 'but ')}\n(number of networks)", fontsize="small")
        return figure

    def _groups(self, lattice: Lattice) -> Figure:
        colours = list(PALETTE.values())
        figure = blank(11, 4.2)
        places = figure.add_gridspec(2, 1, height_ratios=(2.2, 1))
        top, bottom = figure.add_subfigure(places[0]), figure.add_subfigure(places[1])
        axis = top.subplots()
        for number, centre in enumerate(self.clusters.centres):
            words = f"group {number}: {self.numbers['clusters']['cells'][number]} cells"
            axis.plot(centre, color=colours[number], marker="osD^vP*"[number], markersize=4, label=words)
        titled(axis, "step", "activity (rms of the state)", f"Groups (silhouette {self.clusters.silhouette:.2f})")
        axis.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5))
        maps = grids(self.clusters.labels, lattice)
        panels = side_by_side(bottom, len(maps))
        for number, (panel, grid) in enumerate(zip(panels, maps, strict=True)):
            picture = np.ones((*grid.shape, 3))
            for group in range(len(self.clusters.centres)):
                picture[grid == group] = [int(colours[group][i : i + 2], 16) / 255 for i in (1, 3, 5)]
            panel.imshow(picture)
            panel.set_title(f"layer {number}" if lattice.dim > 1 else "all cells", fontsize="x-small")
            panel.set_xticks([]), panel.set_yticks([])
        return figure

    def _draw_changes(self, axis: Axes) -> None:
        styles = {"trained": ("blue", "-"), "new": ("orange", "--")}
        for name, change in self.changes.items():
            colour, line = styles[name]
            axis.plot(range(1, len(change) + 1), change.clamp(min=1e-8), line, color=PALETTE[colour], label=name)
        axis.axvline(self.num_steps, color="#999999", linewidth=1, linestyle=":", label="end of a rollout")
        axis.set_yscale("log")
        titled(axis, "step", "change in a step / size of the state", "Do the cells settle?")
        axis.legend(frameon=False, fontsize="small")

    def _draw_spectrum(self, axis: Axes) -> None:
        frequency, power = spectrum(self.late)
        mean = power.flatten(1).mean(1)[1:].clamp(min=1e-30)
        axis.plot(frequency[1:], mean, color=PALETTE["blue"], marker="o", markersize=3)
        axis.set_yscale("log")
        titled(axis, "frequency (cycles a step)", "mean power (dimensionless)", "Spectrum after the rollout")


def _asked(subject: Subject) -> Tensor:
    """Questions that networks are compared on: the one shown where there are means for no more."""
    model, effort = subject.model, subject.effort
    work = len(KEPT) * effort.shuffles * (model.num_steps[1] + effort.beyond) * model.lattice.num_nodes
    count = min(effort.patterned, max(1, effort.updates // 2 // work))
    return subject.some(count) if count > 1 else torch.tensor([subject.shown])


def claims(comparisons: Mapping[str, Comparison], new: Mapping[str, float]) -> dict[str, str]:
    """By statistic, what may be said of the pattern: of whose making it is, if it is there at all."""
    found = {}
    for name in STATISTICS:
        more, less = (
            {kind: getattr(comparison, side)[name].q <= LEVEL for kind, comparison in comparisons.items()}
            for side in ("more", "less")
        )
        observed = comparisons[EVERYTHING].observed[name]
        if all(more.values()) and observed > new[name]:
            found[name] = "learned: more than in both kinds of shuffled networks and in the new one"
        elif all(less.values()) and observed < new[name]:
            found[name] = "unlearned: less than in both kinds of shuffled networks and in the new one"
        elif more[EVERYTHING] and not more[ALL_BUT_TRANSPORT]:
            found[name] = MADE_BY_TRANSPORT + (WEAKENED if less[ALL_BUT_TRANSPORT] else "")
        elif more[EVERYTHING]:
            found[name] = "built in: more than in shuffled networks, but no more than in a new one"
        elif less[ALL_BUT_TRANSPORT]:
            found[name] = "weakened: less than where all weights but the transport are shuffled"
        else:
            found[name] = "no claim: networks with all weights shuffled have as much"
    return found


def _side(comparison: Comparison, name: str) -> str:
    """Where the network lies among shuffled ones: on the side that is the less probable by chance."""
    return "more" if comparison.more[name].p <= comparison.less[name].p else "less"


def _beside(comparison: Comparison) -> dict[str, Numbers]:
    """The p-values of a comparison, and the shuffled networks in a few figures."""
    rows: dict[str, Numbers] = {}
    for name, null in comparison.null.items():
        finite = null[torch.isfinite(null)]
        rows[name] = {
            "more": comparison.more[name]._asdict(),
            "less": comparison.less[name]._asdict(),
            "side": _side(comparison, name),
            "mean": float(finite.mean()) if len(finite) else None,
            "std": float(finite.std()) if len(finite) > 1 else None,
            "diverged": len(null) - len(finite),
        }
    return rows


def _draw_null(axis: Axes, null: Tensor, lines: Mapping[str, float]) -> None:
    """A histogram of shuffled networks, and lines by colour."""
    finite = null[torch.isfinite(null)].numpy()
    if len(finite):
        # The ends are the values' own, so that rounding leaves none out; values that differ by rounding alone are one
        # bar, the middle one of an odd number.
        low, high = float(finite.min()), float(finite.max())
        middle = (low + high) / 2
        ends = (min(low, middle - LEAST_SPAN / 2), max(high, middle + LEAST_SPAN / 2))
        axis.hist(finite, bins=21, range=ends, color=PALETTE["sky"])
    for (colour, value), style in zip(lines.items(), ("-", ":"), strict=True):
        if math.isfinite(value):
            axis.axvline(value, color=PALETTE[colour], linestyle=style, linewidth=2)
    axis.xaxis.set_major_locator(MaxNLocator(3))
    axis.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axis.ticklabel_format(axis="x", useOffset=False)
