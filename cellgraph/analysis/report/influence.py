"""Influence: who hears whom, how soon and how strongly."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cellgraph.analysis.influence import Spread, direction_influence, influence, receptive_radius, spread
from cellgraph.analysis.plots import PALETTE
from cellgraph.analysis.reach import colouring, distances, in_reach, lateral_distances
from cellgraph.analysis.report.drawing import AMOUNT, Picture, blank, counted, side_by_side, titled
from cellgraph.analysis.report.hearing import Hearing
from cellgraph.analysis.report.subject import Numbers, Subject, evenly, extremes
from cellgraph.lattice import Lattice
from cellgraph.model import CellGraph

#: Values of the state of the default cube, for which the number of derivatives is told.
DEFAULT_VALUES = 2475 * 64


@dataclass(frozen=True)
class Influence:
    """Who hears whom.

    Attributes:
        numbers: What the page says.
        inputs: Nodes of the input surface.
        sources: Those of them looked at in ``influence``.
        influence: ``[num_sources, num_output_cells]``.
        spread: How some input cells are felt in all others.
        offsets: The directions, ``[num_directions, dim]``.
        hearing: How many input cells are heard, and through what.
    """

    numbers: Numbers
    inputs: Tensor
    sources: Tensor
    influence: Tensor
    spread: Spread
    offsets: list[tuple[int, ...]]
    hearing: Hearing

    @classmethod
    def measure(cls, subject: Subject) -> Influence:
        """Influence from input to output, its way through the lattice, and who is heard at each step."""
        model, question = subject.model, subject.question[subject.shown]
        inputs, outputs, num_steps = model.input_surface.index, model.read_index, model.num_steps[1]
        everywhere = distances(model.lattice, inputs)
        within = in_reach(model, inputs, num_steps)
        reached = within[:, outputs]
        chosen = _affordable(model, reached, subject.effort.tangents)
        felt = influence(model, question, inputs[chosen])
        hearing = Hearing.measure(model, question, inputs[chosen], felt)
        sources = subject.effort.sources
        followed = chosen[evenly(len(chosen), sources)] if sources > 1 else torch.tensor([len(inputs) // 2])
        # Off the straight way float32 would round to nothing what is felt a little.
        follow = spread(copy.deepcopy(model).double(), question.double(), inputs[followed])
        generator = torch.Generator().manual_seed(subject.seed)
        directions = direction_influence(model, question, probes=1, generator=generator)
        hops = everywhere[followed]
        arrived = follow.arrival()
        in_time = within[followed]
        across = lateral_distances(model)[chosen]
        radius = receptive_radius(felt, across)
        heard = ~radius.isnan()
        numbers = {
            "input_cells": len(inputs),
            "output_cells": len(outputs),
            "input_cells_looked_at": len(chosen),
            "pairs_in_reach": int(reached.sum()),
            "pairs": reached.numel(),
            "inputs_heard_by_an_output": extremes(reached.sum(0).double()),
            "influence_in_reach": float(felt[reached[chosen]].mean()) if reached[chosen].any() else math.nan,
            "largest": float(felt.max()),
            "receptive_radius": float(radius[heard].mean()) if heard.any() else math.nan,
            "receptive_field": _field(felt, across, reached[chosen]),
            "cells_followed": len(followed),
            "arrivals": int((arrived >= 0).sum()),
            "arrivals_at_graph_distance": int(((arrived == hops) & in_time).sum()),
            "cells_in_time": int(in_time.sum()),
            "arrivals_out_of_reach": int(((arrived >= 0) & ~in_time).sum()),
            "directions": directions.tolist(),
            "hearing": hearing.numbers,
        }
        return cls(numbers, inputs, inputs[chosen], felt, follow, list(model.lattice.offsets), hearing)

    def pictures(self, lattice: Lattice) -> Iterator[Picture]:
        """The Jacobian by cell and direction; arrival, fall-off and receptive field."""
        figure = blank(11, 3.8)
        left, middle, right = side_by_side(figure, 3)
        self._draw_jacobian(left, figure)
        self._draw_one(middle, figure, lattice)
        self._draw_directions(right, figure)
        yield Picture.of("influence", figure)
        yield from self.hearing.pictures(lattice)
        figure = blank(11, 3.6)
        left, middle, right = side_by_side(figure, 3)
        distance = distances(lattice, self.spread.sources)
        reached = (self.spread.arrival() >= 0) & (distance >= 0)
        self._draw_arrivals(left, distance[reached].double(), reached)
        self._draw_fall_off(middle, distance[reached].double(), reached)
        self._draw_field(right)
        yield Picture.of("arrivals", figure)

    def _draw_jacobian(self, axis: Axes, figure: Figure) -> None:
        image = axis.imshow(self.influence.numpy(), cmap=AMOUNT, aspect="auto", interpolation="nearest")
        figure.colorbar(image, ax=axis, label="gain (1 = passed on as it is)")
        titled(axis, "output cell (number)", "input cell (number)", "Input to output")
        marks = torch.arange(0, len(self.sources), max(1, len(self.sources) // 6))
        axis.set_yticks(marks.tolist(), torch.searchsorted(self.inputs, self.sources[marks]).tolist())
        axis.grid(False)

    def _draw_one(self, axis: Axes, figure: Figure, lattice: Lattice) -> None:
        felt = self.spread.influence[:, len(self.spread.sources) // 2]
        by_layer = torch.stack([felt[:, lattice.layer == layer].amax(1) for layer in range(lattice.shape[0])])
        image = axis.imshow(by_layer.T.numpy(), cmap=AMOUNT, origin="lower", aspect="auto")
        figure.colorbar(image, ax=axis, label="largest gain in the layer")
        titled(axis, "layer", "step", "One input cell, followed")
        axis.grid(False)

    def _draw_directions(self, axis: Axes, figure: Figure) -> None:
        values = torch.tensor(self.numbers["directions"]).clamp(min=1e-6).log10()
        extent = (-0.5, values.size(1) - 0.5, 0.5, len(values) + 0.5)
        image = axis.imshow(values.numpy(), cmap=AMOUNT, aspect="auto", origin="lower", extent=extent)
        figure.colorbar(image, ax=axis, label="gain (logarithm, base 10)")
        titled(axis, "neighbour heard", "step", "One step, by direction")
        names = [*map(_words, self.offsets), "itself"]
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize="x-small")
        axis.grid(False)

    def _draw_arrivals(self, axis: Axes, hops: Tensor, reached: Tensor) -> None:
        most = max(int(hops.max()), 1)
        axis.plot([0, most], [0, most], color="#999999", linewidth=1, label="graph distance")
        first, peak = self.spread.arrival()[reached], self.spread.peak()[reached]
        for times, colour, marker, words in (
            (first, "blue", "o", "first felt"),
            (peak, "vermillion", "^", "felt most"),
        ):
            where, when, how_many = counted(hops, times)
            sizes = 8 + 60 * how_many / how_many.max()
            axis.scatter(where, when, s=sizes, c=PALETTE[colour], marker=marker, alpha=0.6, label=words)
        titled(axis, "distance from the input cell (hops)", "step", "Arrival")
        axis.legend(frameon=False, fontsize="small")

    def _draw_fall_off(self, axis: Axes, hops: Tensor, reached: Tensor) -> None:
        largest = self.spread.influence.amax(0)[reached]
        spans = sorted(set(hops.tolist()))
        groups = [largest[hops == span] for span in spans]
        strongest, median = [float(group.max()) for group in groups], [float(group.median()) for group in groups]
        axis.plot(spans, strongest, color=PALETTE["blue"], marker="o", label="largest")
        axis.plot(spans, median, color=PALETTE["vermillion"], marker="^", label="median cell")
        axis.set_yscale("log")
        titled(axis, "distance from the input cell (hops)", "largest gain over the steps", "Fall-off")
        axis.legend(frameon=False, fontsize="small")

    def _draw_field(self, axis: Axes) -> None:
        field = self.numbers["receptive_field"]
        axis.plot(field["within"], field["share"], color=PALETTE["blue"], marker="o", label="influence (squared)")
        axis.plot(field["within"], field["cells"], color="#777777", linestyle="--", label="cells in reach")
        axis.set_xlim(-0.5, max(field["within"][-1], 1) + 0.5)
        axis.set_ylim(-0.03, 1.05)
        titled(axis, "distance across the signal's way (cells)", "share within the distance", "Receptive field")
        axis.legend(frameon=False, fontsize="small", loc="lower right")


def _affordable(model: CellGraph, reached: Tensor, tangents: int) -> Tensor:
    """As many input cells, evenly spaced, as their influence takes no more derivatives than allowed."""
    total = len(reached)
    tangents = max(tangents, tangents * DEFAULT_VALUES // (model.lattice.num_nodes * model.cell.channels))
    count = total
    while count > 1:
        colours = int(colouring(reached[evenly(total, count)]).max()) + 1
        if colours * model.input_surface.channels <= tangents:
            break
        count = max(1, count * 2 // 3)
    return evenly(total, count)


def _field(felt: Tensor, across: Tensor, reached: Tensor) -> Numbers:
    """Share of the squared influence, and of the cells in reach, within whole distances across the signal's way."""
    squares = felt.double().square()
    furthest = math.ceil(float(across[reached].max())) if reached.any() else 0
    within = list(range(furthest + 1))
    shares = [float(squares[across <= span].sum() / squares.sum()) for span in within]
    cells = [float((reached & (across <= span)).sum() / reached.sum()) for span in within]
    return {"within": within, "share": shares, "cells": cells}


def _words(offset: Sequence[int]) -> str:
    """A direction along one axis by the axis' name, others by their steps along all axes."""
    axes = ("depth", "height", "width")[3 - len(offset) :]
    moves = [f"{axis} {move:+d}" for axis, move in zip(axes, offset, strict=True) if move]
    return moves[0] if len(moves) == 1 else " ".join(f"{move:+d}" if move else "0" for move in offset)
