"""Hearing: how many input cells an output cell hears, and through what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from cellgraph.analysis.influence import influence, inputs_heard
from cellgraph.analysis.plots import PALETTE
from cellgraph.analysis.report.drawing import AMOUNT, Picture, blank, cell_maps, titled
from cellgraph.analysis.report.subject import Numbers, extremes
from cellgraph.analysis.states import new_network
from cellgraph.analysis.without import without_update
from cellgraph.lattice import Lattice
from cellgraph.model import CellGraph

#: Input cells count as heard from this share of the strongest on.
AUDIBLE = 0.1

#: What is told apart: colour, mark and words.
WAYS = {
    "new": ("orange", "s", "the conveyor of a new network"),
    "transport": ("green", "D", "the trained transport alone"),
    "gated": ("vermillion", "^", "what comes through a gated update"),
    "whole": ("blue", "o", "the whole network"),
}


@dataclass(frozen=True)
class Hearing:
    """How many input cells each output cell hears.

    Attributes:
        numbers: What the page says.
        cells: The cells that the answer is read off, ``[num_cells]``.
        influence: By way (:data:`WAYS`), ``[num_sources, num_cells]``.
    """

    numbers: Numbers
    cells: Tensor
    influence: dict[str, Tensor]

    @classmethod
    def measure(cls, model: CellGraph, question: Tensor, sources: Tensor, felt: Tensor) -> Hearing:
        """Tell what comes through a gated update from what transport alone brings.

        Args:
            model: The network.
            question: One question embedding, ``[in_features]``.
            sources: The input cells looked at, ``[num_sources]``.
            felt: Their influence on the cells that are read.
        """
        straight = without_update(model)
        found = {
            "new": influence(without_update(new_network(model)), question, sources),
            "transport": influence(straight, question, sources),
            "gated": influence(model, question, sources, less=straight),
            "whole": felt,
        }
        numbers: Numbers = {name: _heard(own) for name, own in found.items()}
        power = {name: float(own.double().square().sum()) for name, own in found.items()}
        numbers["gated_share"] = power["gated"] / power["whole"] if power["whole"] > 0 else 0.0
        return cls(numbers, model.read_index, found)

    def pictures(self, lattice: Lattice) -> Iterator[Picture]:
        """The share of the strongest input cells in what is heard; the effective number on the cells that are read."""
        figure = blank(6.4, 3.6)
        axis = figure.subplots()
        for name, (colour, mark, words) in WAYS.items():
            ranked = self.influence[name].double().square().sort(0, descending=True).values
            ranked = ranked[:, ranked.sum(0) > 0]
            if ranked.numel():
                shares = (ranked.cumsum(0) / ranked.sum(0)).mean(1)
                axis.plot(
                    range(1, len(shares) + 1), shares, color=PALETTE[colour], marker=mark, label=words, markersize=4
                )
        titled(axis, "input cells, the strongest first (number)", "share of what is heard", "How many are heard")
        axis.set_ylim(-0.03, 1.05)
        axis.legend(frameon=False, fontsize="small", loc="lower right")
        yield Picture.of("heard", figure)
        short = {"transport": "transport\nalone", "gated": "through\ngated updates", "whole": "whole\nnetwork"}
        maps = {words: (inputs_heard(self.influence[name]), AMOUNT) for name, words in short.items()}
        yield Picture.of("heard_cells", cell_maps(maps, self.cells, lattice))


def _heard(own: Tensor) -> Numbers:
    """Of one way: the effective number of input cells, and how many are above a share of the strongest."""
    strongest = own.amax(0)
    audible = (own >= AUDIBLE * strongest) & (strongest > 0)
    return {
        **extremes(inputs_heard(own)),
        "audible": float(audible.sum(0).double().mean()),
        "size": float(own.double().square().sum(0).sqrt().mean()),
    }
