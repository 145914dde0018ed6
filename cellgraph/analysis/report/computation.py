"""Computation: how much of what the network says is not linear in the question, and where that comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cellgraph.analysis.asking import compared, found, said
from cellgraph.analysis.nonlinearity import LinearFit, Nonlinearity, nonlinearity
from cellgraph.analysis.report.drawing import AMOUNT, SHARE, Picture, blank, cell_maps, titled
from cellgraph.analysis.report.subject import LEAST, Numbers, Subject, evenly, extremes
from cellgraph.analysis.states import together
from cellgraph.lattice import Lattice
from cellgraph.retrieval.bootstrap import paired_difference
from cellgraph.retrieval.metrics import distinct_answers
from cellgraph.retrieval.twins import alone

#: Share of the cell updates that may be spent.
SPENT = 0.5
#: Questions to judge by, as a share of all that are asked, at most.
JUDGED = 0.25


@dataclass(frozen=True)
class Computation:
    """What the network computes that is not linear in the question.

    Attributes:
        numbers: What the page says.
        found: What was measured; ``None`` where there are no training questions.
    """

    numbers: Numbers
    found: Nonlinearity | None

    @classmethod
    @torch.no_grad()
    def measure(cls, subject: Subject) -> Computation:
        """Fit linear maps to training questions and see what they miss at held-out ones."""
        model, effort = subject.model, subject.effort
        if subject.training is None or len(subject.training) < 3:
            return cls({}, None)
        affordable = int(SPENT * effort.updates) // (model.lattice.num_nodes * model.num_steps[1])
        least = max(effort.ablated, LEAST["fitted"])
        judged = subject.some(max(least, int(JUDGED * affordable)))
        fitted = min(effort.fitted, max(least, affordable - len(judged)))
        training = subject.training[evenly(len(subject.training), fitted)]
        question, count = torch.cat([training, subject.question[judged]]), len(training)
        whole = compared(said(model, question, batch_size=together(model)))
        left = compared(said(alone(model), question, batch_size=len(question)))
        added = whole - left
        fit = LinearFit(training, question[count:], added[:count])
        result = nonlinearity(model, question, fit)
        layers = _by_layer(result, model.lattice)
        numbers = {
            "fitted_to": len(training),
            "judged_by": len(judged),
            "added": result.added,
            "nonlinear": result.nonlinear,
            "answer": result.answer,
            "control": result.control,
            "cells": len(result.cells),
            "cell_shares": result.cell_shares.tolist(),
            "cell_nonlinear": {**extremes(result.cell_nonlinear), "by_cell": result.cell_nonlinear.tolist()},
            "nonlinear_shares": result.nonlinear_shares.tolist(),
            "layers": layers,
            "states": result.states.tolist(),
            "linearised": _loss(subject, judged, whole[count:], left[count:] + fit(added[:count])),
        }
        return cls(numbers, result)

    def pictures(self, lattice: Lattice) -> Iterator[Picture]:
        """Where what is not linear comes from, on the cells that are read; and where in the cube it arises."""
        if self.found is None:
            return
        yield Picture.of("nonlinear_cells", self._cells(lattice))
        figure = blank(5.4, 3.6)
        _draw_states(figure.subplots(), figure, self.found.states)
        yield Picture.of("nonlinear_states", figure)

    def _cells(self, lattice: Lattice) -> Figure:
        assert self.found is not None
        index = self.found.cells
        rows = {
            "share of what\nis read": (self.found.cell_shares, AMOUNT),
            "its own part:\nnot linear": (self.found.cell_nonlinear, SHARE),
            "share of what\nis not linear": (self.found.nonlinear_shares, AMOUNT),
        }
        return cell_maps(rows, index, lattice)


def _loss(subject: Subject, judged: Tensor, whole: Tensor, straight: Tensor) -> Numbers:
    """What retrieval loses when what the cube adds is replaced by the nearest linear map of the question.

    Args:
        subject: What is studied.
        judged: The pairs that are asked of.
        whole: What the network says of them.
        straight: The same with the linear map in the cube's place.
    """
    candidates, target = distinct_answers(subject.answer, [pair.answer for pair in subject.pairs])
    answer, target = subject.answer[candidates], target[judged]
    ranked = [found(subject.model, given, answer, target) for given in (whole, straight)]
    lost = paired_difference(*ranked, groups=subject.groups[judged], seed=subject.seed)
    return {"mrr": lost.mean, "mrr_low": lost.low, "mrr_high": lost.high, "mrr_p": lost.p}


def _by_layer(result: Nonlinearity, lattice: Lattice) -> list[Numbers]:
    """The shares of the cells added up by layer."""
    own = lattice.layer[result.cells]
    return [
        {
            "layer": layer,
            "share": float(result.cell_shares[own == layer].sum()),
            "nonlinear_share": float(result.nonlinear_shares[own == layer].sum()),
        }
        for layer in own.unique().tolist()
    ]


def _draw_states(axis: Axes, figure: Figure, shares: Tensor) -> None:
    image = axis.imshow(shares.numpy(), cmap=SHARE, vmin=0, origin="lower", aspect="auto")
    figure.colorbar(image, ax=axis, label="share of the variance")
    titled(axis, "layer", "step", "What in the states is not linear in the question")
    axis.grid(False)
