"""Figures: a study as pictures, one function a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cellgraph.analysis.influence import distances
from cellgraph.analysis.patterns import STATISTICS, spectrum
from cellgraph.analysis.plots import PALETTE, Curve
from cellgraph.analysis.report.drawing import (
    AMOUNT,
    SHARE,
    blank,
    counted,
    grids,
    layer_maps,
    side_by_side,
    thin,
    titled,
)
from cellgraph.analysis.report.study import Study
from cellgraph.analysis.states import activity
from cellgraph.lattice import Lattice

_KINDS = {"questions": ("sky", "o"), "predictions": ("vermillion", "^"), "answers": ("green", "s")}
_SYSTEMS = {"question": "questions as they are", "adapters": "after the adapters, no cube", "lattice": "after the cube"}
_METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


def embeddings(study: Study) -> Figure:
    """Questions, predictions and answers on a plane."""
    figure = blank(4.6 * len(study.projections), 4.2)
    for axis, projection in zip(side_by_side(figure, len(study.projections)), study.projections, strict=True):
        for (kind, (colour, marker)), points in zip(_KINDS.items(), projection.points.chunk(3), strict=True):
            x, y = points.T
            axis.scatter(x, y, s=9, c=PALETTE[colour], marker=marker, alpha=0.6, linewidths=0, label=kind)
        units = ["", ""]
        if projection.explained is not None:
            units = [f" ({100 * share:.0f} % of the variance)" for share in projection.explained]
        name = _METHODS[projection.method]
        titled(axis, f"first axis{units[0]}", f"second axis{units[1]}", name)
    figure.axes[0].legend(frameon=False, fontsize="small", markerscale=2)
    return figure


def cosines(study: Study) -> Figure:
    """Cosines of questions with answers, before and after."""
    matrices = {
        name: matrix.values[thin(matrix.values)][:, thin(matrix.values)] for name, matrix in study.cosines.items()
    }
    low = min(float(matrix.min()) for matrix in matrices.values())
    high = max(float(matrix.max()) for matrix in matrices.values())
    figure = blank(11, 4.0)
    axes = side_by_side(figure, 3)
    for axis, (name, matrix) in zip(axes, matrices.items(), strict=True):
        image = axis.imshow(matrix.numpy(), cmap=AMOUNT, vmin=low, vmax=high, interpolation="nearest")
        own, other = study.cosines[name].own, study.cosines[name].other
        titled(axis, "answer (number)", "question (number)", f"{_SYSTEMS[name]}\nown {own:.3f}, others {other:.3f}")
        axis.grid(False)
    figure.colorbar(image, ax=axes, label="cosine", shrink=0.8)
    return figure


def slices(study: Study, lattice: Lattice) -> Figure:
    """Activity of one question, layer by layer, at some steps."""
    steps = sorted({round(step) for step in np.linspace(0, len(study.trajectory) - 1, 6)})
    maps = {f"step {step}": activity(study.trajectory[step]) for step in steps}
    return layer_maps(maps, lattice, AMOUNT, "rms of the state (dimensionless)")


def stages(study: Study) -> Figure | None:
    """What can be read off each layer at each step."""
    found = study.specialisation
    if found is None:
        return None
    figure = blank(4.3 * (len(found.layers) + 1), 3.6)
    axes = side_by_side(figure, len(found.layers) + 1)
    for axis, (name, probe) in zip(axes, found.layers.items(), strict=False):
        chance = 1 / probe.num_classes
        image = axis.imshow(probe.accuracy.numpy(), cmap=SHARE, vmin=chance, vmax=1, origin="lower", aspect="auto")
        titled(axis, "layer", "step", f"{name}: balanced accuracy\n(shuffled labels {float(probe.control.mean()):.2f})")
        figure.colorbar(image, ax=axis, label=f"share right (chance {chance:.2f})")
    image = axes[-1].imshow(found.layer_dimensions.numpy(), cmap=AMOUNT, origin="lower", aspect="auto")
    titled(axes[-1], "layer", "step", "dimensions in use\n(participation ratio)")
    figure.colorbar(image, ax=axes[-1], label="dimensions")
    for axis in axes:
        axis.grid(False)
    return figure


def cells(study: Study, lattice: Lattice) -> Figure | None:
    """What can be read off each cell."""
    if study.specialisation is None:
        return None
    maps = {name.replace(" ", "\n"): probe.accuracy for name, probe in study.specialisation.cells.items()}
    return layer_maps(maps, lattice, SHARE, "share right")


def ablation(study: Study, lattice: Lattice) -> Figure:
    """What layers and regions are worth."""
    layers = [cost for cost in study.costs if cost.name.startswith("layer")]
    blocks = [cost for cost in study.costs if cost.name.startswith("block") and cost.kind == "silent"]
    square = len(blocks) == 9 and lattice.dim == 3
    figure = blank(10.5 if square else 7, 3.6)
    axes = figure.subplots(1, 2, width_ratios=(1.6, 1)) if square else [figure.subplots()]
    kinds = list(dict.fromkeys(cost.kind for cost in layers))
    styles = {
        "silent": ("blue", "o", "silent: states held at zero"),
        "passive": ("vermillion", "^", "passive: transport only"),
    }
    for kind in kinds:
        colour, marker, words = styles[kind]
        losses = [cost.loss for cost in layers if cost.kind == kind]
        axes[0].plot(range(len(losses)), losses, color=PALETTE[colour], marker=marker, label=words)
    titled(axes[0], "layer taken out", "rise of 1 - cos (dimensionless)", "Cost of a layer")
    axes[0].axhline(0, color="#999999", linewidth=0.8)
    axes[0].legend(frameon=False, fontsize="small")
    if square:
        values = np.array([cost.loss for cost in blocks]).reshape(3, 3)
        image = axes[1].imshow(values, cmap=AMOUNT)
        for (row, column), value in np.ndenumerate(values):
            axes[1].text(
                column,
                row,
                f"{value:.3f}",
                ha="center",
                va="center",
                color="white" if value < values.mean() else "black",
            )
        titled(
            axes[1], "block along the width", "block along the height", "Cost of a block through all layers (silent)"
        )
        axes[1].set_xticks(range(3)), axes[1].set_yticks(range(3))
        axes[1].grid(False)
        figure.colorbar(image, ax=axes[1], label="rise of 1 - cos")
    return figure


def influences(study: Study, lattice: Lattice) -> Figure:
    """Influence of input cells on output cells, and of one of them on the layers over the steps."""
    figure = blank(11, 3.8)
    left, middle, right = side_by_side(figure, 3)
    image = left.imshow(study.flow.influence.numpy(), cmap=AMOUNT, aspect="auto", interpolation="nearest")
    figure.colorbar(image, ax=left, label="gain (1 = passed on as it is)")
    titled(left, "output cell (number)", "input cell (number)", "Input to output")
    marks = torch.arange(0, len(study.flow.sources), max(1, len(study.flow.sources) // 6))
    left.set_yticks(marks.tolist(), torch.searchsorted(study.flow.inputs, study.flow.sources[marks]).tolist())
    here = len(study.flow.spread.sources) // 2
    by_layer = torch.stack(
        [study.flow.spread.influence[:, here, lattice.layer == layer].amax(1) for layer in range(lattice.shape[0])]
    )
    image = middle.imshow(by_layer.T.numpy(), cmap=AMOUNT, origin="lower", aspect="auto")
    figure.colorbar(image, ax=middle, label="largest gain in the layer")
    titled(middle, "layer", "step", "One input cell, followed")
    names = [*(_arrow(offset) for offset in study.stencil.offsets[:-1].tolist()), "itself"]
    values = study.flow.directions.clamp(min=1e-6)
    image = right.imshow(values.log10().numpy(), cmap=AMOUNT, aspect="auto")
    figure.colorbar(image, ax=right, label="gain (logarithm, base 10)")
    titled(right, "neighbour heard (depth, height, width)", "step", "One step, by direction")
    right.set_xticks(range(len(names)), names, rotation=90, fontsize="x-small")
    for axis in (left, middle, right):
        axis.grid(False)
    return figure


def arrivals(study: Study, lattice: Lattice) -> Figure:
    """When an influence arrives and when it is largest, by graph distance; and how it falls off."""
    figure = blank(10.5, 3.6)
    left, right = side_by_side(figure, 2)
    first, peak = study.flow.spread.arrival(), study.flow.spread.peak()
    distance = distances(lattice, study.flow.spread.sources)
    reached = (first >= 0) & (distance >= 0)
    hops = distance[reached].double()
    most = max(int(hops.max()), 1)
    left.plot([0, most], [0, most], color="#999999", linewidth=1, label="graph distance")
    for times, colour, marker, words in ((first, "blue", "o", "first felt"), (peak, "vermillion", "^", "felt most")):
        where, when, how_many = counted(hops, times[reached])
        sizes = 8 + 60 * how_many / how_many.max()
        left.scatter(where, when, s=sizes, c=PALETTE[colour], marker=marker, alpha=0.6, label=words)
    titled(left, "distance from the input cell (hops)", "step", "Arrival")
    left.legend(frameon=False, fontsize="small")
    largest = study.flow.spread.influence.amax(0)[reached]
    spans = sorted(set(hops.tolist()))
    groups = [largest[hops == span] for span in spans]
    right.plot(spans, [float(group.max()) for group in groups], color=PALETTE["blue"], marker="o", label="largest")
    right.plot(
        spans, [float(group.median()) for group in groups], color=PALETTE["vermillion"], marker="^", label="median cell"
    )
    right.set_yscale("log")
    titled(right, "distance from the input cell (hops)", "largest gain over the steps", "Fall-off")
    right.legend(frameon=False, fontsize="small")
    return figure


def clusters(study: Study, lattice: Lattice) -> Figure:
    """Cells grouped by their activity: where they are and what they do."""
    found = study.patterns.clusters
    colours = list(PALETTE.values())
    figure = blank(11, 4.6)
    places = figure.add_gridspec(2, 1, height_ratios=(1.6, 1))
    top, bottom = figure.add_subfigure(places[0]), figure.add_subfigure(places[1])
    axis = top.subplots()
    for number, centre in enumerate(found.centres):
        count = int((found.labels == number).sum())
        axis.plot(
            centre,
            color=colours[number],
            marker="osD^vP*"[number],
            markersize=4,
            label=f"group {number}: {count} cells",
        )
    titled(axis, "step", "activity (rms of the state)", f"Groups of cells (silhouette {found.silhouette:.2f})")
    axis.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5))
    maps = grids(found.labels, lattice)
    for number, (panel, grid) in enumerate(
        zip(np.ravel(bottom.subplots(1, len(maps), squeeze=False)), maps, strict=True)
    ):
        picture = np.ones((*grid.shape, 3))
        for cluster in range(len(found.centres)):
            picture[grid == cluster] = [int(colours[cluster][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        panel.imshow(picture)
        panel.set_title(f"layer {number}" if lattice.dim > 1 else "all", fontsize="x-small")
        panel.set_xticks([]), panel.set_yticks([])
    return figure


def long_run(study: Study) -> Figure:
    """Whether cells settle, and their power spectrum after the first rollout."""
    figure = blank(10.5, 3.4)
    left, right = side_by_side(figure, 2)
    styles = {"trained": ("blue", "-"), "new": ("orange", "--")}
    for name, change in study.patterns.changes.items():
        colour, line = styles[name]
        left.plot(range(1, len(change) + 1), change.clamp(min=1e-8), line, color=PALETTE[colour], label=name)
    left.axvline(len(study.trajectory) - 1, color="#999999", linewidth=1, linestyle=":", label="end of a rollout")
    left.set_yscale("log")
    titled(left, "step", "change in a step / size of the state", "Do the cells settle?")
    left.legend(frameon=False, fontsize="small")
    frequency, power = spectrum(study.patterns.late)
    right.plot(
        frequency[1:], power.flatten(1).mean(1)[1:].clamp(min=1e-30), color=PALETTE["blue"], marker="o", markersize=3
    )
    right.set_yscale("log")
    titled(right, "frequency (cycles a step)", "mean power (dimensionless)", "Spectrum of the states after the rollout")
    return figure


def significance(study: Study) -> Figure:
    """Statistics of the network beside those of networks with shuffled weights."""
    figure = blank(12, 2.7 * len(study.patterns.comparisons))
    rows = figure.subplots(len(study.patterns.comparisons), len(STATISTICS), squeeze=False)
    for axes, (kind, comparison) in zip(rows, study.patterns.comparisons.items(), strict=True):
        for axis, (name, null) in zip(axes, comparison.null.items(), strict=True):
            finite = null[torch.isfinite(null)].numpy()
            # Values that differ by rounding alone are one bar.
            span = max(float(np.ptp(finite)) if len(finite) else 0.0, 1e-3)
            middle = float((finite.max() + finite.min()) / 2) if len(finite) else 0.0
            axis.hist(finite, bins=20, range=(middle - span / 2, middle + span / 2), color=PALETTE["sky"])
            for value, colour, line in (
                (comparison.observed[name], "vermillion", "-"),
                (study.patterns.new[name], "black", ":"),
            ):
                if math.isfinite(value):
                    axis.axvline(value, color=PALETTE[colour], linestyle=line, linewidth=2)
            axis.xaxis.set_major_locator(MaxNLocator(3))
            titled(axis, name, "networks" if axis is axes[0] else "", f"p = {comparison.p[name]:.3g}")
        axes[0].set_ylabel(f"{kind}\n(networks)", fontsize="small")
    return figure


def dynamics(curves: Mapping[str, Curve]) -> Figure | None:
    """Gradient norm, learning rate and temperature over the updates."""
    wanted = {
        "train/grad_norm": "norm of the gradients",
        "train/lr": "learning rate",
        "train/temperature": "temperature",
    }
    present = {name: words for name, words in wanted.items() if name in curves}
    if not present:
        return None
    figure = blank(3.7 * len(present), 3.0)
    for axis, (name, words), colour in zip(
        side_by_side(figure, len(present)), present.items(), PALETTE.values(), strict=False
    ):
        axis.plot(*curves[name], color=colour, marker="o", markersize=3)
        titled(axis, "training step (optimiser updates)", f"{words} (dimensionless)", words.capitalize())
    return figure


def _arrow(offset: Sequence[int]) -> str:
    return " ".join(f"{move:+d}" if move else "0" for move in offset)
