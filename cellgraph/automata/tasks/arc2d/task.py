"""2-D ARC: coloured grids to be transformed as a few demonstrations show, judged by exact match of two attempts."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.automata.automaton import Automaton
from cellgraph.automata.lesson import AutomatonLesson
from cellgraph.automata.settings import AutomatonSettings
from cellgraph.automata.task import Batch, Task
from cellgraph.automata.tasks.arc2d.attempts import Attempt, Judgement, attempt
from cellgraph.automata.tasks.arc2d.automata import GridAutomata, GridReadout, colours_of, grid_loss
from cellgraph.automata.tasks.arc2d.colours import free_colours, permuted
from cellgraph.automata.tasks.arc2d.fitting import Fitting
from cellgraph.automata.tasks.arc2d.grids import COLOURS, LONGEST, GridPair, GridTask, parts_of
from cellgraph.automata.tasks.arc2d.layout import GridLayout
from cellgraph.automata.tasks.arc2d.picture import save_task
from cellgraph.automata.tasks.arc2d.table import table_of_answers, table_of_results
from cellgraph.automata.tasks.arc2d.walk import check_cell, walk
from cellgraph.files import write_atomically
from cellgraph.generators import own_generators
from cellgraph.lattice import Lattice
from cellgraph.nn import Cell, NCACell
from cellgraph.numbers import plain_numbers
from cellgraph.ops.processor import multiplies_bfloat16
from cellgraph.progress import progress_bar
from cellgraph.unroll import Rollout

JUDGED = ("evaluation", "training", "validation")
#: Training pairs that run together are drawn from so many times as many of about their size.
NEAR = 4


@dataclass(frozen=True)
class GridBatch(Batch):
    """Pairs of grids, a row for each.

    Attributes:
        layout: The grids.
    """

    layout: GridLayout = None  # type: ignore[assignment]

    def to(self, device: torch.device | str) -> GridBatch:
        """The samples on a device."""
        moved = super().to(device)
        assert isinstance(moved, GridBatch)
        return replace(moved, layout=self.layout.to(device))

    def select(self, index: Tensor) -> GridBatch:
        """Some of the samples."""
        raise ValueError("rows of grids are cut to the longest of a batch, several processes cannot share one")


class Arc2D(Task):
    r"""The ARC-AGI-1 (`Chollet 2019 <https://arxiv.org/abs/1911.01547>`_), those of its tasks whose grids keep their
    shape.

    To judge a task, an automaton is fitted to its demonstrations alone, for each of two attempts; many are fitted at
    once, each with weights of its own. They start from fresh weights, or from those that were learned on the tasks of
    the training set, but every fourth: there all tasks share the weights, and only a vector, which all cells are told
    at every step, is the task's own. Targets of the tests are not looked at but to judge.

    Args:
        path: The data, see :func:`~cellgraph.automata.tasks.arc2d.grids.read_grids`.
        channels: Channels of the state.
        neighbourhood: The neighbourhood, 4 or 8.
        vector_channels: Width of the vector.
        scratch: Whether fitting starts from fresh weights.
        judged: ``"evaluation"``: the public evaluation set; ``"validation"``: every fourth task of the training set,
            which is not learned from, to choose settings by; ``"training"``: the whole training set, from scratch.
        subset: How many tasks are judged, drawn at random; 0 judges all.
        subset_seed: Seed of that draw.
        seed: Seed of the attempts: of their fresh weights and of what is drawn in fitting.
        turned: For each attempt, whether its automata see the grids in all rotations and mirrors.
        together: How many tasks are fitted at once.
        half_products: Whether products are taken in bfloat16 where there are instructions for it; elsewhere that takes
            ten times as long, and they are not.
        fitting: How automata are fitted.

    Attributes:
        context_channels: Width of the context that a cell must take.

    Raises:
        ValueError: If a name is unknown, a number out of range or the data without the tasks.
    """

    @plain_numbers
    def __init__(
        self,
        path: str | Path | None = None,
        *,
        channels: int = 24,
        neighbourhood: int = 8,
        vector_channels: int = 16,
        scratch: bool = False,
        judged: str = "evaluation",
        subset: int = 0,
        subset_seed: int = 0,
        seed: int = 0,
        turned: Sequence[bool] = (False, True),
        together: int = 4,
        half_products: bool = False,
        fitting: Fitting | None = None,
    ) -> None:
        lattice = Lattice((LONGEST, LONGEST), neighbourhood)
        super().__init__(lattice)
        self.offsets = lattice.offsets
        if judged not in JUDGED:
            raise ValueError(f"judged must be one of {JUDGED}, got {judged!r}")
        if judged == "training" and not scratch:
            raise ValueError("the training set is judged from scratch only, as what is learned was learned on it")
        if min(together, len(turned), vector_channels) < 1 or subset < 0:
            raise ValueError(
                "together, vector_channels and the number of attempts must be positive and subset not negative, "
                f"got {together}, {vector_channels}, {len(turned)} and {subset}"
            )
        self.scratch, self.turned, self.together, self.half_products = scratch, tuple(turned), together, half_products
        self.judged, self.seed, self.fitting = judged, seed, fitting or Fitting()
        self.learned, self.judged_tasks = parts_of(path, judged, subset, subset_seed)
        self.context_channels = COLOURS + vector_channels
        self.readout = GridReadout(channels)
        self.vectors = nn.Embedding(len(self.learned), vector_channels)
        self._free = [free_colours(one) for one in self.learned]
        self._pairs: GridLayout | None = None

    def check(self, make: Automaton, settings: AutomatonSettings) -> None:
        """Refuse a cell that cannot have weights for each task, lower precision than the states are kept in, and what
        its own rollout does not do."""
        super().check(make, settings)
        check_cell(make.cell)
        if settings.remat_every or settings.compile:
            raise ValueError(
                f"{type(self).__name__} rolls its cells out in a way of its own: training.remat_every must be 0 and "
                f"training.compile false, got {settings.remat_every} and {settings.compile}"
            )
        if self.fitting.last > settings.steps[0]:
            raise ValueError(
                "task.fitting.last, the steps that the loss is taken after, must be at most training.num_steps, "
                f"got {self.fitting.last} and {settings.steps[0]}"
            )
        if settings.precision != "32-true":
            raise ValueError(
                f"{type(self).__name__} runs its cells in float32, their products in bfloat16 with task.half_products: "
                f"training.precision must be 32-true, got {settings.precision}"
            )

    def lesson(self, settings: AutomatonSettings) -> AutomatonLesson:
        """A new training by these settings.

        Raises:
            ValueError: If there is a pool.
        """
        if self.pool is not None:
            raise ValueError(f"{type(self).__name__} draws each sample anew, a pool is of no use to it: leave it out")
        return super().lesson(settings)

    def sample(self, size: int, generator: torch.Generator) -> GridBatch:
        """Draw pairs of about the same number of cells, in which colours that may do so have changed places."""
        if self._pairs is None:
            owned = [(pair, number) for number, task in enumerate(self.learned) for pair in _all_pairs(task)]
            # Beside each other in the order are pairs of about one size.
            owned.sort(key=lambda one: one[0].cells)
            self._pairs = GridLayout.of([[pair] for pair, _ in owned], self.offsets)
            self._owner = torch.tensor([number for _, number in owned])
        among = min(NEAR * size, len(self._owner))
        first = int(torch.randint(len(self._owner) - among + 1, (), generator=generator))
        # Of fewer pairs than are asked for, each comes again once all have come.
        orders = [torch.randperm(among, generator=generator) for _ in range(0, size, among)]
        index = first + torch.cat(orders)[:size]
        layout, number = self._pairs.select(index), self._owner[index]
        free = [self._free[task] for task in number.tolist()]
        layout = layout.coloured(permuted(free, 1, generator))
        # Where states start takes the readout's weights, and what they are told the vectors.
        layout, number = layout.to(self.vectors.weight.device), number.to(self.vectors.weight.device)
        told = self.vectors(number)[:, None].expand(-1, layout.source.size(1), -1)
        there = colours_of(layout)
        return GridBatch(
            self.readout.start(there), layout.target, torch.cat([there, told], dim=-1), kind=number, layout=layout
        )

    def run(self, cell: Cell, batch: Batch, *, num_steps: int, trajectory: bool = False, **options: Any) -> Rollout:
        """The states that a cell comes to on the grids of a batch; the other options of a rollout are of no use."""
        known = check_cell(cell)
        assert isinstance(batch, GridBatch)
        assert batch.context is not None
        weights = {name: p.expand(len(batch), *p.shape) for name, p in cell.named_parameters()}
        states = walk(known, weights, batch.layout, batch.x, batch.context, num_steps=num_steps, half=self._half(cell))
        return Rollout(states[-1], None, num_steps, torch.stack(states) if trajectory else None)

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the cells of each task."""
        assert isinstance(batch, GridBatch)
        logits = self.readout.colour(F.rms_norm(x, x.shape[-1:])) + self.readout.keep * colours_of(batch.layout)
        return grid_loss(logits, batch.layout, balance=self.fitting.balance)

    def evaluate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """Fit automata to each task that is judged, and compare what they answer with the targets of its tests.

        Args:
            cell: The cell whose weights they start from; from scratch, one that is made as they are.
            num_steps: Steps of the automata.

        Returns:
            Of all tasks the share ``solved``: each of their tests by one attempt or the other, all its cells; the ends
            of its interval of 95 %; the shares ``solved_first``, by the first attempt alone, and ``fitted``, whose
            demonstrations some attempt has; the share of test ``grids`` solved; and seconds of a processor a task.
        """
        return self.examine(cell, num_steps=num_steps)[0]

    def examine(self, cell: Cell, *, num_steps: int) -> tuple[dict[str, float], Callable[[Path], list[Path]]]:
        """The figures, and what draws; automata are fitted once for both."""
        judgement, seconds = self.judge_tasks(cell, num_steps=num_steps)
        figures = {**judgement.figures(), "seconds": seconds}
        return figures, functools.partial(self._draw, judgement, num_steps=num_steps)

    def judge_tasks(self, cell: Cell, *, num_steps: int) -> tuple[Judgement, float]:
        """All attempts at the tasks that are judged, and seconds of a processor a task; see :meth:`evaluate`."""
        check_cell(cell)
        began, judgement = time.process_time(), Judgement()
        order = sorted(self.judged_tasks, key=_demonstrated)
        with progress_bar(len(self.turned) * len(order), enabled=True, doing="fitting", of="attempts") as advance:
            for number, turned in enumerate(self.turned):
                seed = self.seed * len(self.turned) + number
                for start in range(0, len(order), self.together):
                    tasks = order[start : start + self.together]
                    made = attempt(
                        self.starting(cell, len(tasks), seed),
                        tasks,
                        self.offsets,
                        self.fitting,
                        num_steps=num_steps,
                        turned=turned,
                        seed=seed,
                    )
                    judgement.add(made)
                    advance(len(tasks))
        return judgement, (time.process_time() - began) / len(order)

    def starting(self, cell: Cell, rows: int, seed: int) -> GridAutomata:
        """What an attempt starts from: of shared weights and the mean of the vectors, or of fresh ones.

        Args:
            cell: The cell.
            rows: How many automata.
            seed: The seed of fresh weights.
        """
        assert isinstance(cell, NCACell)
        readout, width = self.readout, self.vectors.embedding_dim
        if not self.scratch:
            vector = self.vectors.weight.mean(0).expand(rows, -1)
            return GridAutomata.alike(cell, readout, vector, half=self._half(cell))
        with own_generators(seed):
            fresh, readout = NCACell(cell.lattice, **cell.config()), GridReadout(cell.channels)
        device = cell.device
        return GridAutomata.alike(
            fresh.to(device), readout.to(device), torch.zeros(rows, width, device=device), half=self._half(cell)
        )

    def _half(self, cell: Cell) -> bool:
        return self.half_products and multiplies_bfloat16(cell.device.type)

    def draw(self, cell: Cell, folder: Path, *, num_steps: int) -> list[Path]:
        """Draw up to four tasks that were solved, or else judged, and write the tables of the figures, ``arc2d.md``,
        and of the answers of all attempts, ``arc2d.csv``.

        In ``arc2d_NAME.png`` each demonstration stands beside what it becomes; under them are the test, the automaton's
        colours after some of its steps, and the target.
        """
        return self.examine(cell, num_steps=num_steps)[1](folder)

    def _draw(self, judgement: Judgement, folder: Path, *, num_steps: int) -> list[Path]:
        files = []
        for name in list(dict.fromkeys([*judgement.solved(), *judgement.attempts]))[:4]:
            made = judgement.attempts[name]
            best = max(made, key=lambda one: one.right().sum())
            shown = [[pair.source, pair.target] for pair in best.task.demonstrations]
            lines = [*shown, self._steps(best, num_steps)]
            files.append(save_task(lines, folder / f"arc2d_{name}.png"))
        figures = judgement.figures()
        table, answers = folder / "arc2d.md", folder / "arc2d.csv"
        write_atomically(table, table_of_results(figures, self.judged, attempts=len(self.turned)).encode())
        write_atomically(answers, table_of_answers(judgement.attempts).encode())
        return [*files, table, answers]

    @torch.no_grad()
    def _steps(self, made: Attempt, num_steps: int) -> list[np.ndarray]:
        """The first test of a task, what an automaton makes of it at some steps, and the target."""
        test = made.task.tests[0]
        layout = GridLayout.of([[test]], self.offsets).to(made.automaton.vector.device)
        answers = made.automaton.answer(layout, num_steps, num_steps)
        some = sorted({round((num_steps - 1) * part / 4) for part in range(5)})
        steps = [answers[step].argmax(-1).view(test.source.shape).cpu().numpy() for step in some]
        return [test.source, *steps, test.target]


def _all_pairs(task: GridTask) -> tuple[GridPair, ...]:
    return (*task.demonstrations, *task.tests)


def _demonstrated(task: GridTask) -> int:
    return sum(pair.cells for pair in task.demonstrations)
