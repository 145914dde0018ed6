"""The judging: rows of colours that count if all of their cells are right, kind by kind, drawn and in a table."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph.automata.batch import Batch
from cellgraph.automata.task import Task
from cellgraph.automata.tasks.arc1d.picture import save_blocks
from cellgraph.automata.tasks.arc1d.rows import OUTSIDE
from cellgraph.automata.tasks.arc1d.table import table_of_kinds
from cellgraph.files import write_atomically
from cellgraph.nn import Cell


class RowsTask(Task):
    """A task on rows of colours, ``[size, width]``, of several kinds: judged by exact match.

    Attributes:
        kinds: Names of the kinds.
        title: Name of the picture's and the table's file.
        judged: What is judged: ``"test"``, or other rows to choose settings by.
        beside_told: Whether the table shows the automaton that is told the kind, too.
    """

    kinds: list[str]
    title: str
    judged: str
    beside_told = False

    @abstractmethod
    def logits(self, x: Tensor, batch: Batch) -> Tensor:
        """Log-odds of the colours, ``[size, num_nodes, 10]``, in states ``x`` of a batch."""

    @abstractmethod
    def judged_batches(self, cell: Cell, *, num_steps: int) -> Iterator[Batch]:
        """The rows that judge, a few at a time, with their kinds, as a cell is given them that takes so many steps."""

    @abstractmethod
    def examples(self, cell: Cell, *, num_steps: int) -> tuple[Batch, Tensor]:
        """A judged row of each kind that has one, and what is drawn above its steps, the row itself last,
        ``[height, num_kinds, width]``."""

    # What runs a few times, and in batches of another size, is not worth a compilation.
    @torch.compiler.set_stance("force_eager")
    def validate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """The loss of fresh training samples; what judges stays unseen until the end."""
        return super().validate(cell, num_steps=num_steps)

    @torch.no_grad()
    @torch.compiler.set_stance("force_eager")
    def predict(self, cell: Cell, batch: Batch, *, num_steps: int, generator: torch.Generator | None = None) -> Tensor:
        """Colours that the automaton comes to, ``[size, width]``; outside of rows they mean nothing."""
        return self.logits(self.run(cell, batch, num_steps=num_steps, generator=generator).x, batch).argmax(-1)

    @torch.no_grad()
    def evaluate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """Exact match on what is judged, in the mean over the rows and by kind."""
        right, kind, generator = [], [], torch.Generator().manual_seed(2**31)
        for batch in self.judged_batches(cell, num_steps=num_steps):
            assert batch.target is not None
            assert batch.kind is not None
            found = self.predict(cell, batch, num_steps=num_steps, generator=generator)
            right.append(((found == batch.target) | (batch.target == OUTSIDE)).all(1))
            kind.append(batch.kind)
        exact, kinds = torch.cat(right).double(), torch.cat(kind)
        # Some kind may have nothing that is judged.
        of_kind = {self.kinds[number]: float(exact[kinds == number].mean()) for number in kinds.unique().tolist()}
        return {"accuracy": float(exact.mean()), **of_kind}

    def examine(self, cell: Cell, *, num_steps: int) -> tuple[dict[str, float], Callable[[Path], list[Path]]]:
        """The figures, and what draws; the table is of the same figures, nothing is judged again for it."""
        figures = self.evaluate(cell, num_steps=num_steps)
        return figures, functools.partial(self._draw, cell, figures, num_steps=num_steps)

    def draw(self, cell: Cell, folder: Path, *, num_steps: int) -> list[Path]:
        """Draw a judged row of each kind over the steps, and write the table of kinds, for which all is judged.

        A block is a kind, in the order of the table: the row under what it is shown, the automaton's colours after each
        step, and the target under a gap.
        """
        return self.examine(cell, num_steps=num_steps)[1](folder)

    @torch.no_grad()
    @torch.compiler.set_stance("force_eager")
    def _draw(self, cell: Cell, figures: Mapping[str, float], folder: Path, *, num_steps: int) -> list[Path]:
        batch, above = self.examples(cell, num_steps=num_steps)
        generator = torch.Generator().manual_seed(1)
        states = self.run(cell, batch, num_steps=num_steps, trajectory=True, generator=generator)
        assert states.trajectory is not None
        assert batch.target is not None
        steps = torch.stack([self.logits(x, batch).argmax(-1) for x in states.trajectory[1:]])
        above, target = above.to(steps.device), batch.target.to(steps.device)
        gap = torch.full_like(target, OUTSIDE)[None]
        blocks = torch.cat([above, steps.where(above[-1] != OUTSIDE, OUTSIDE), gap, target[None], gap, gap])
        drawn = (blocks != OUTSIDE).any(0).any(0).nonzero()
        blocks = F.pad(blocks[..., int(drawn.min()) : int(drawn.max()) + 1], (0, 2), value=OUTSIDE)
        table = folder / f"{self.title}.md"
        told = table_of_kinds(list(figures)[1:], figures, told=self.beside_told, judged=self.judged)
        write_atomically(table, told.encode())
        return [save_blocks(blocks, folder / f"{self.title}.png"), table]
