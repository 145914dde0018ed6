"""The automaton of a report: what its task draws of it, where its rollouts lead, its training and its weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from cellgraph.analysis.dynamics import courses
from cellgraph.analysis.plots import PALETTE, Curve, draw_loss, shows_loss
from cellgraph.analysis.report.drawing import Picture, blank, side_by_side, titled
from cellgraph.analysis.report.page import fill
from cellgraph.analysis.report.subject import Numbers
from cellgraph.analysis.trajectory import trajectory_summary
from cellgraph.automata import Automaton


@dataclass(frozen=True)
class AutomatonStudy:
    """All that is measured of a trained automaton.

    Attributes:
        numbers: What the page says.
        curves: What training logged.
        drawn: The task's pictures.
    """

    numbers: Numbers
    curves: Mapping[str, Curve]
    drawn: list[Picture]

    @classmethod
    @torch.no_grad()
    def measure(
        cls,
        model: Automaton,
        curves: Mapping[str, Curve],
        held_out: Mapping[str, float | None],
        *,
        num_steps: int,
        samples: int = 8,
        rounds: int = 4,
    ) -> AutomatonStudy:
        """Measure a trained automaton.

        Args:
            model: The automaton, in evaluation mode.
            curves: What training logged, from :func:`~cellgraph.analysis.plots.read_metrics`.
            held_out: The task's figures on held-out data.
            num_steps: Steps of a rollout.
            samples: Samples of the task that are followed.
            rounds: For how many times the steps of a rollout.
        """
        cell, task = model.cell, model.task
        batch = task.sample(samples, torch.Generator().manual_seed(0))
        draws = torch.Generator().manual_seed(1)
        states = task.run(cell, batch, num_steps=rounds * num_steps, trajectory=True, generator=draws).trajectory
        assert states is not None
        with tempfile.TemporaryDirectory() as place:
            paths = task.draw(cell, Path(place), num_steps=num_steps)
            drawn = [Picture(path.name, path.read_bytes()) for path in paths]
        numbers = {
            "automaton": {
                "task": type(task).__name__,
                "cell": type(cell).__name__,
                "lattice": str(task.lattice),
                "cells": task.lattice.num_nodes,
                "edges": task.lattice.num_edges,
                "channels": cell.channels,
                "num_steps": num_steps,
                "dynamics": asdict(cell.dynamics),
            },
            "held_out": dict(held_out),
            "pictures": [picture.file for picture in drawn],
            "trajectory": {
                "samples": samples,
                "num_steps": rounds * num_steps,
                **trajectory_summary(states),
                "size": states.square().mean((1, 2, 3)).sqrt().tolist(),
                "change": _changes(states).tolist(),
            },
            "training": {"curves": {name: asdict(course) for name, course in courses(curves).items()}},
            "parameters": {name: _figures(parameter) for name, parameter in model.named_parameters()},
        }
        return cls(numbers, curves, drawn)

    def pictures(self) -> Iterator[Picture]:
        """The task's pictures, the course of the rollouts, and of training as far as it was logged."""
        yield from self.drawn
        yield Picture.of("trajectory", self._trajectory())
        if any(map(shows_loss, self.curves)):
            yield Picture.of("loss", draw_loss(self.curves))
        figures = {name: curve for name, curve in self.curves.items() if _is_figure(name)}
        if figures:
            figure = blank(min(4.4 * len(figures), 12.0), 2.8)
            for axis, (name, curve) in zip(side_by_side(figure, len(figures)), figures.items(), strict=True):
                axis.plot(*curve, color=PALETTE["blue"], marker="o", markersize=3)
                titled(axis, "optimiser updates", name, name.removeprefix("val/"))
            yield Picture.of("validation", figure)

    def _trajectory(self) -> Figure:
        numbers = self.numbers["trajectory"]
        figure = blank(8.8, 2.8)
        panels = {"size": "Root mean square of the state", "change": "Change a step, relative to the state"}
        for axis, (name, words), colour in zip(side_by_side(figure, 2), panels.items(), PALETTE.values(), strict=False):
            values = numbers[name]
            # Changes are between states.
            first = len(numbers["size"]) - len(values)
            axis.plot(range(first, first + len(values)), values, color=colour)
            axis.axvline(self.numbers["automaton"]["num_steps"], color=PALETTE["black"], linewidth=0.8, linestyle=":")
            titled(axis, "step", f"{name} (dimensionless)", words)
        return figure


def render_automaton(study: AutomatonStudy, pictures: Mapping[str, Picture], title: str) -> str:
    """The page of an automaton's study, see :func:`~cellgraph.analysis.report.page.fill`."""
    # A task may draw one thing twice, still and moving: they differ by their kind alone.
    drawn = {picture.file: picture for picture in study.drawn}
    return fill("automaton.html.j2", {**pictures, **drawn}, title, s=study.numbers)


def _is_figure(name: str) -> bool:
    """Whether a logged quantity is one of validation, and no loss."""
    return name.startswith("val/") and name != "val/loss"


def _changes(states: Tensor) -> Tensor:
    """How much each step changed the states, relative to their size: 0 where nothing was and nothing came."""
    moved, size = states.diff(dim=0).flatten(1).norm(dim=1), states[1:].flatten(1).norm(dim=1)
    return torch.where(moved > 0, moved / size, 0.0)


def _figures(parameter: Tensor) -> Numbers:
    """A parameter in a few figures."""
    values = parameter.detach().double()
    return {
        "shape": list(parameter.shape),
        "values": parameter.numel(),
        "mean": float(values.mean()),
        "std": float(values.std(correction=0)),
        "largest": float(values.abs().max()),
    }
