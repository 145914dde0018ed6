"""Worth: what retrieval loses when what the cells compute is taken out, part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes

from cellgraph.analysis.ablation import layer_regions, mean_updates, without
from cellgraph.analysis.asking import Asked, compared, found, said
from cellgraph.analysis.plots import PALETTE, plain_label
from cellgraph.analysis.report.drawing import Picture, blank, titled
from cellgraph.analysis.report.subject import Numbers, Subject
from cellgraph.analysis.states import together
from cellgraph.analysis.without import lateral
from cellgraph.model import CellGraph
from cellgraph.retrieval.bootstrap import Interval, bootstrap_intervals
from cellgraph.retrieval.metrics import distinct_answers
from cellgraph.retrieval.twins import alone

#: What is taken out everywhere: the gated update; all of it but its mean over questions; and so on.
UPDATE, MEAN, LATERAL, CUBE = "gated update", "gated update but its mean", "lateral messages of the gate", "cube"

#: The same as the picture has them.
CUTS = {
    UPDATE: "gated\nupdate",
    MEAN: "the same\nbut its\nmean",
    LATERAL: "lateral\nmessages",
    CUBE: "whole\ncube",
}


@dataclass(frozen=True)
class Worth:
    """What retrieval loses without a part.

    Attributes:
        numbers: What the page says.
    """

    numbers: Numbers

    @classmethod
    def measure(cls, subject: Subject, progress: Callable[[float], None]) -> Worth:
        """Take out the gated update, everywhere, by layer and by step; the gate's lateral messages; and the cube."""
        model, effort = subject.model, subject.effort
        num_parts = len(CUTS) + model.lattice.shape[0] + model.num_steps[1]
        work = model.lattice.num_nodes * model.num_steps[1] * num_parts
        asked, dialogues = subject.asked(max(effort.ablated, effort.updates // work))
        candidates, target = distinct_answers(subject.answer, [pair.answer for pair in subject.pairs])
        question, answer, target = subject.question[asked], subject.answer[candidates], target[asked]
        cut = parts(model, question, dialogues)

        def ranked(part: Asked) -> torch.Tensor:
            output = said(part, question, batch_size=together(model), dialogues=dialogues)
            progress(1 / (1 + len(cut)))
            return found(model, compared(output), answer, target)

        nowhere = torch.zeros(model.lattice.num_nodes, dtype=torch.bool)
        # By the same way of computing as without a part, so that what has no effect costs exactly nothing.
        whole = ranked(without(model, nowhere, kind="passive"))
        lost = torch.stack([whole, *(whole - ranked(part) for part in cut.values())], dim=1)
        mean, *losses = bootstrap_intervals(lost, groups=subject.groups[asked], seed=subject.seed)
        numbers = {
            "questions": len(asked),
            "candidates": len(candidates),
            "groups": len(subject.groups[asked].unique()),
            "mrr": _row(mean),
            "lead": None if subject.lead is None else dict(subject.lead),
            "without": {name: _row(loss) for name, loss in zip(cut, losses, strict=True)},
        }
        return cls(numbers)

    def pictures(self) -> Iterator[Picture]:
        """What each part is worth, beside the lead over the adapters alone."""
        rows, lead = self.numbers["without"], self.numbers["lead"]
        layers, steps = (
            {name.partition(" ")[2]: row for name, row in rows.items() if name.startswith(kind)}
            for kind in ("layer ", "step ")
        )
        figure = blank(12, 3.6)
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
        beside = {} if lead is None else {"lead over\nadapters\nalone": lead}
        _draw(left, {words: rows[name] for name, words in CUTS.items() if name in rows} | beside)
        _draw(middle, layers)
        _draw(right, steps)
        titled(left, "", "loss in mean reciprocal rank", "Taken out everywhere")
        titled(middle, "layer", "", "Gated update of one layer")
        titled(right, "step", "", "Gated update of one step")
        middle.sharey(left), right.sharey(left)
        yield Picture.of("worth", figure)


def parts(
    model: CellGraph, question: torch.Tensor, dialogues: Sequence[Sequence[int]] | None = None
) -> dict[str, Asked]:
    """What is left of a network without each part of what its cells compute, by the part's name.

    Args:
        model: The network.
        question: The questions that it will be asked, for means over them, ``[num_questions, in_features]``.
        dialogues: Numbers of those that are the turns of each dialogue.
    """
    layers, everywhere = layer_regions(model.lattice), torch.ones(model.lattice.num_nodes, dtype=torch.bool)
    mean, passive = mean_updates(model, question, dialogues=dialogues), {"kind": "passive"}
    cut = {UPDATE: without(model, everywhere, **passive), MEAN: without(model, everywhere, **passive, instead=mean)}
    if lateral(model) is not None:
        cut[LATERAL] = without(model, everywhere, kind="deaf")
    cut[CUBE] = alone(model)
    cut |= {name: without(model, layer, **passive) for name, layer in layers.items()}
    steps = range(1, model.num_steps[1] + 1)
    return cut | {f"step {step}": without(model, everywhere, **passive, steps=(step,)) for step in steps}


def _row(interval: Interval) -> Numbers:
    return {"mrr": interval.mean, "mrr_low": interval.low, "mrr_high": interval.high, "mrr_p": interval.p}


def _draw(axis: Axes, rows: Numbers) -> None:
    """A mark for each row, with its interval."""
    for place, (name, row) in enumerate(rows.items()):
        mean = row["mrr"]
        # Tables of earlier versions have a lead without an interval.
        ends = None if row["mrr_low"] is None else [[mean - row["mrr_low"]], [row["mrr_high"] - mean]]
        colour, mark = ("green", "s") if name.startswith("lead") else ("blue", "o")
        axis.errorbar([place], [mean], yerr=ends, fmt=mark, color=PALETTE[colour], capsize=3)
    axis.axhline(0, color="#999999", linewidth=0.8)
    shown = range(0, len(rows), 1 + len(rows) // 16)
    axis.set_xticks(list(shown), [plain_label(list(rows)[place]) for place in shown])
    axis.margins(x=0.1)
