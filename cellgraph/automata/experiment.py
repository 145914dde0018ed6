"""The experiment: an automaton trained, judged on held-out data and drawn, in one run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text
from safetensors.torch import save
from torch import nn

from cellgraph.analysis.plots import plot_run
from cellgraph.automata.curriculum import Curriculum
from cellgraph.automata.pool import SamplePool
from cellgraph.automata.run import AutomatonSettings, train_automaton
from cellgraph.automata.task import Task
from cellgraph.files import write_atomically
from cellgraph.nn import Cell
from cellgraph.texts import printable

WEIGHTS, EVALUATION = "automaton.safetensors", "evaluation.json"


@dataclass
class AutomatonExperiment:
    """A run folder and the parts that fill it.

    The folder holds ``automaton.safetensors`` (the weights of ``cell`` and ``task``), ``evaluation.json``,
    ``checkpoints/``, ``metrics.csv``, ``tensorboard/``, ``loss.png`` and what the task draws.

    Attributes:
        folder: The run folder.
        cell: The cell, on the task's lattice.
        task: What it is trained for.
        settings: How.
        pool: Keeps states from update to update.
        curriculum: What training starts from.
        console: Where progress is told.
    """

    folder: Path
    cell: Cell
    task: Task
    settings: AutomatonSettings
    pool: SamplePool | None = None
    curriculum: Curriculum | None = None
    console: Console | None = None

    def run(self, *, resume: bool = False) -> dict[str, float]:
        """Train, judge and draw, or what is left of it; the held-out figures.

        Args:
            resume: Go on from the folder's last checkpoint.

        Raises:
            ValueError: If the folder holds a run already and ``resume`` was not asked for.
        """
        console = self.console or Console()
        parts: dict[str, nn.Module] = {"cell": self.cell, "task": self.task}
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
        said = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
        console.print(Text(f"{self.task.lattice}; parameters: {said}"))
        result = train_automaton(
            self.cell,
            self.task,
            self.settings,
            pool=self.pool,
            curriculum=self.curriculum,
            folder=self.folder,
            resume=resume,
            resume_hint=f"cellgraph automaton resume={self.folder}",
        )
        weights = {name: tensor.contiguous() for name, tensor in result.model.state_dict().items()}
        write_atomically(self.folder / WEIGHTS, save(weights))
        plot_run(self.folder / "metrics.csv", self.folder)
        most = max(self.settings.steps)
        figures = self.task.evaluate(self.cell, num_steps=most)
        training = {"updates": result.steps, "seconds": round(result.seconds, 1), "parameters": sum(counts.values())}
        content = json.dumps({"held_out": figures, "training": {**training, **result.metrics}}, indent=2)
        write_atomically(self.folder / EVALUATION, (content + "\n").encode())
        console.print(_table(figures, f"Held-out figures after {result.steps:,} updates, {result.seconds:.0f} s"))
        for path in self.task.draw(self.cell, self.folder, num_steps=most):
            console.print(Text(printable(f"drawn: {path}")), soft_wrap=True)
        return figures


def _table(figures: dict[str, float], title: str) -> Table:
    table = Table(title=title)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(Text(name), f"{value:.4g}")
    return table
