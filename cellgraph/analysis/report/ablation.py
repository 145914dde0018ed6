"""Ablation: what it costs to take layers and regions out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cellgraph.analysis.ablation import AblationCost, ablation_costs, block_regions, layer_regions
from cellgraph.analysis.plots import PALETTE
from cellgraph.analysis.report.drawing import AMOUNT, Picture, blank, titled
from cellgraph.analysis.report.subject import Numbers, Subject
from cellgraph.lattice import Lattice
from cellgraph.retrieval.metrics import distinct_answers


@dataclass(frozen=True)
class Ablation:
    """What layers and regions are worth.

    Attributes:
        numbers: What the page says.
        costs: Cost of each region.
    """

    numbers: Numbers
    costs: list[AblationCost]

    @classmethod
    def measure(cls, subject: Subject) -> Ablation:
        """Take out each layer and each of the blocks through all layers."""
        model, answer = subject.model, subject.answer
        regions = layer_regions(model.lattice)
        if model.lattice.dim > 1 and min(model.lattice.shape[1:]) >= 3:
            regions |= block_regions(model.lattice)
        asked, dialogues = subject.asked(subject.effort.ablated)
        candidates, target = distinct_answers(answer, [pair.answer for pair in subject.pairs])
        bank, question = answer[candidates], subject.question[asked]
        costs = ablation_costs(
            model,
            question,
            answer[asked],
            regions,
            ["silent"],
            candidates=bank,
            target=target[asked],
            dialogues=dialogues,
        )
        layers = sorted((cost for cost in costs if cost.name.startswith("layer")), key=lambda cost: cost.loss)
        numbers = {
            "questions": len(asked),
            "candidates": len(bank),
            "costs": [asdict(cost) for cost in costs],
            "most": asdict(layers[-1]),
            "least": asdict(layers[0]),
        }
        return cls(numbers, costs)

    def pictures(self, lattice: Lattice) -> Iterator[Picture]:
        """The cost of layers as a curve, that of blocks as a map."""
        blocks = [cost for cost in self.costs if cost.name.startswith("block")]
        square = len(blocks) == 9 and lattice.dim == 3
        figure = blank(10.5 if square else 7, 3.6)
        axes = list(figure.subplots(1, 2, width_ratios=(1.6, 1))) if square else [figure.subplots()]
        losses = [cost.loss for cost in self.costs if cost.name.startswith("layer")]
        axes[0].plot(range(len(losses)), losses, color=PALETTE["blue"], marker="o")
        titled(axes[0], "layer taken out", "rise of 1 - cos (dimensionless)", "Cost of a silent layer")
        axes[0].axhline(0, color="#999999", linewidth=0.8)
        if square:
            _map(axes[1], figure, blocks)
        yield Picture.of("ablation", figure)


def _map(axis: Axes, figure: Figure, blocks: list[AblationCost]) -> None:
    values = np.array([cost.loss for cost in blocks]).reshape(3, 3)
    image = axis.imshow(values, cmap=AMOUNT)
    # The colours of the map are dark below their middle.
    middle = (values.max() + values.min()) / 2
    for ((row, column), value), cost in zip(np.ndenumerate(values), blocks, strict=True):
        colour = "white" if value < middle else "black"
        words = f"{value:.3f}\nMRR {-cost.mrr:+.3f}"
        axis.text(column, row, words, ha="center", va="center", color=colour, fontsize="small")
    titled(axis, "block along the width", "block along the height", "Cost of a silent block through all layers")
    axis.set_xticks(range(3)), axis.set_yticks(range(3))
    axis.grid(False)
    figure.colorbar(image, ax=axis, label="rise of 1 - cos (dimensionless)")
