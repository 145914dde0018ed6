"""1-D ARC from demonstrations: rows of colours to be transformed as a few pairs show, judged by exact match."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph import processes
from cellgraph.automata.automaton import Automaton
from cellgraph.automata.batch import Batch
from cellgraph.automata.lesson import AutomatonLesson
from cellgraph.automata.settings import AutomatonSettings
from cellgraph.automata.tasks.arc1d.adapting import Adaptation
from cellgraph.automata.tasks.arc1d.copying import CopyingReadout
from cellgraph.automata.tasks.arc1d.judging import RowsTask
from cellgraph.automata.tasks.arc1d.low_rank import changed, layers
from cellgraph.automata.tasks.arc1d.reader import SYMBOLS, DemonstrationReader, cut_to
from cellgraph.automata.tasks.arc1d.rows import OUTSIDE, appearance, by_width, mirrored, moved, numbered, stretched
from cellgraph.automata.tasks.arc1d.shown import JUDGED, Queries, ShownBatch, ShownTasks
from cellgraph.lattice import Lattice
from cellgraph.nn import Cell
from cellgraph.numbers import at_least, plain_numbers
from cellgraph.unroll import Rollout

#: Cells by which pieces grow at most where tasks are stretched.
MOST_GROWN = 2


class Arc1DDemonstrations(RowsTask):
    r"""The 1-D ARC (`Xu et al. 2024 <https://arxiv.org/abs/2305.18354>`_) learned from demonstrations: the automaton is
    told no kind, only the two or three pairs of rows that each task shows.

    A second automaton, the reader, runs on each demonstration. What it comes to, in the mean of a task's, is the vector
    that all cells of the row in question are told at every step, beside the row; and a colour that the row has not is
    copied from a cell of a demonstration, see :class:`~cellgraph.automata.tasks.arc1d.copying.CopyingReadout`. Both
    know colours by their order of appearance, so nothing hangs on which colours they are.

    Training leaves one out: each demonstration of a task is to be told from its others. Test pairs are not looked at
    but to judge. A target's colour that neither the row nor the demonstrations have cannot be known and is not asked
    for.

    Args:
        path: The data, see :func:`~cellgraph.automata.tasks.arc1d.pairs.read_tasks`.
        width: Cells of the lattice; rows begin at its first.
        narrow: Rows no wider than this run on so many cells only; 0 runs all on the whole lattice.
        channels: Channels of the state.
        offsets: Offsets of the neighbourhood, of the reader's too.
        vector_channels: Width of the vector that the reader makes.
        reader_channels: Channels of the reader's state.
        reader_hidden: Hidden width of the reader's cell.
        reader_steps: Steps of the reader.
        reader_step_size: The factor of the reader's updates.
        reader_pooled: How many of the reader's channels have their maximum over the pair perceived.
        move: Whether what is drawn moves along the rows in training.
        mirror: Share of tasks that are mirrored in training.
        stretch: Share of tasks whose pieces grow by a cell or two in training, of those that only colour them: lengths
            that are learned by heart are not enough then, see
            :func:`~cellgraph.automata.tasks.arc1d.rows.stretched`.
        by_loss: Whether tasks are drawn by what they have cost of late, the square root of it and a twentieth; else all
            alike.
        kind_given: Whether the automaton is told the kind as well, by a learned vector.
        adaptation: What of a task is fitted at the test; by default nothing is.
        judged: ``"test"``: all tasks are trained on and their test pairs judged; ``"new"``: every sixth task is set
            aside whole, and its test pairs are judged; ``"validation"``: likewise, but its demonstrations are, each by
            the others, to choose settings.

    Attributes:
        kinds: Names of the kinds, for the table.
        context_channels: Width of the context that a cell must take.

    Raises:
        ValueError: If a name is unknown, a number out of range, a row wider than the lattice or a task has not two
            demonstrations.
    """

    title = "arc1d_demonstrations"
    beside_told = True
    cost: Tensor

    @plain_numbers
    def __init__(
        self,
        path: str | Path,
        *,
        width: int = 96,
        narrow: int = 34,
        channels: int = 64,
        offsets: Sequence[int] = (-1, 1),
        vector_channels: int = 32,
        reader_channels: int = 48,
        reader_hidden: int = 128,
        reader_steps: int = 8,
        reader_step_size: float = 0.25,
        reader_pooled: int = 0,
        move: bool = True,
        mirror: float = 0.0,
        stretch: float = 0.0,
        by_loss: bool = True,
        kind_given: bool = False,
        adaptation: Adaptation | None = None,
        judged: str = "test",
    ) -> None:
        lattice = Lattice((width,), [(offset,) for offset in offsets])
        super().__init__(lattice)
        if judged not in JUDGED:
            raise ValueError(f"judged must be one of {JUDGED}, got {judged!r}")
        if not 0 <= narrow <= width or not 0 <= mirror <= 1 or not 0 <= stretch <= 1:
            raise ValueError(
                f"narrow must be 0 to {width} and mirror and stretch 0 to 1, got {narrow}, {mirror} and {stretch}"
            )
        at_least(1, channels=channels)
        self.narrow, self.move, self.by_loss = narrow, move, by_loss
        self.mirror, self.stretch = mirror, stretch
        self.judged = judged
        self.learned, self.judged_tasks, self.kinds = ShownTasks.read(path, width, judged)
        # In the checkpoint, as what is drawn next hangs on it.
        self.register_buffer("cost", torch.ones(len(self.learned)))
        if judged == "validation":
            self.judged_tasks = self.judged_tasks.each_left_out()
        self.adaptation, self.vector_channels = adaptation or Adaptation(), vector_channels
        self.context_channels = SYMBOLS + vector_channels
        self.reader = DemonstrationReader(
            lattice,
            vector_channels,
            channels=reader_channels,
            hidden=reader_hidden,
            num_steps=reader_steps,
            step_size=reader_step_size,
            pooled=reader_pooled,
        )
        self.kind_vector = nn.Embedding(len(self.kinds), vector_channels) if kind_given else None
        self.start = nn.Linear(SYMBOLS, channels)
        self.readout = CopyingReadout(channels, reader_channels)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *how: Any) -> None:
        # What tasks cost is of one split: weights go from one to another without it.
        cost = state_dict.get(f"{prefix}cost")
        if cost is not None and cost.shape != self.cost.shape:
            state_dict[f"{prefix}cost"] = self.cost
        super()._load_from_state_dict(state_dict, prefix, *how)

    def sample(self, size: int, generator: torch.Generator) -> ShownBatch:
        """Draw demonstrations that others of their tasks are to tell."""
        weight = self.cost.cpu().sqrt() + 0.05 if self.by_loss else torch.ones(len(self.learned))
        drawn = torch.multinomial(weight, size, replacement=True, generator=generator)
        # What a demonstration says is read once for all the others of its task.
        tasks = self.learned.select(drawn[: self.learned.enough(drawn, size)])
        pairs = tasks.pairs
        if self.stretch:
            by = torch.randint(1, MOST_GROWN + 1, (len(tasks),), generator=generator)
            pairs = stretched(pairs, by * (torch.rand(len(tasks), generator=generator) < self.stretch), self.narrow)
        pairs = pairs.flatten(0, 1)
        if self.mirror:
            turned = torch.rand(len(tasks), generator=generator) < self.mirror
            turned = turned.repeat_interleave(tasks.pairs.size(1))
            pairs = torch.where(turned[:, None, None], mirrored(pairs), pairs)
        if self.move:
            pairs = moved(pairs, generator)
        tasks = tasks.with_pairs(pairs)
        queries = tasks.left_out().select(slice(size))
        return replace(self.batch(tasks, queries), number=drawn[queries.owner])

    @torch.no_grad()
    def notice(self, batch: Batch, loss: Tensor) -> None:
        """Keep what the tasks of a batch cost, by halves with what they did before."""
        assert isinstance(batch, ShownBatch)
        assert batch.number is not None
        number, loss = processes.gathered(batch.number.to(loss.device)), processes.gathered(loss).float()
        seen, place, count = number.unique(return_inverse=True, return_counts=True)
        mean = torch.zeros_like(count, dtype=loss.dtype).index_add(0, place, loss) / count
        self.cost[seen] = (self.cost[seen] + mean.to(self.cost)) / 2

    def check(self, make: Automaton, settings: AutomatonSettings) -> None:
        """Refuse, with what every task refuses, changes of low rank of a cell that has no layers for them."""
        super().check(make, settings)
        if self.adaptation.updates and self.adaptation.rank:
            layers(make.cell)

    def lesson(self, settings: AutomatonSettings) -> AutomatonLesson:
        """A new training by these settings.

        Raises:
            ValueError: If there is a pool: rows and what is read for them are given once.
        """
        if self.pool is not None:
            raise ValueError(f"{type(self).__name__} draws each sample anew, a pool is of no use to it: leave it out")
        return super().lesson(settings)

    def batch(self, tasks: ShownTasks, queries: Queries, *, own: Tensor | None = None) -> ShownBatch:
        """Start states and contexts of rows, and what was read in the demonstrations.

        Args:
            tasks: The tasks.
            queries: The rows, and which demonstrations of their tasks they are shown.
            own: What was fitted to their tasks, ``[num_queries, num_numbers]``: what comes to the vectors that were
                read, and after it changes of the cell, if any.
        """
        # Reading takes the reader's weights.
        tasks, queries = tasks.to(self.start.weight.device), queries.to(self.start.weight.device)
        states, summaries = self._read(tasks.pairs.flatten(0, 1))
        many = tasks.pairs.shape[:2]
        states, summaries = states.unflatten(0, many), summaries.unflatten(0, many)
        owner, shown, source = queries.owner, queries.shown, queries.source
        vector = self.reader.together(summaries[owner], shown)
        kind = tasks.kind[owner]
        if self.kind_vector is not None:
            vector = vector + self.kind_vector(kind)
        changes = None
        if own is not None:
            added, changes = own.to(vector).tensor_split([self.vector_channels], dim=1)
            vector = vector + added
        row = F.one_hot(numbered(source, appearance(source)), SYMBOLS).to(vector.dtype)
        told = vector[:, None].expand(-1, row.size(1), -1)
        return ShownBatch(
            self.start(row),
            queries.target,
            torch.cat([row, told], dim=-1),
            kind,
            source=source,
            keys=states[owner].flatten(1, 2),
            colours=tasks.pairs[owner, :, 1].masked_fill(~shown[..., None], OUTSIDE).flatten(1),
            changes=changes if changes is not None and changes.size(1) else None,
        )

    def run(self, cell: Cell, batch: Batch, *, num_steps: int, **options: Any) -> Rollout:
        """As of every task, short rows on a lattice that is cut to them."""
        assert isinstance(batch, ShownBatch)
        assert batch.context is not None
        parts = by_width(batch.source, self.narrow)
        ended = []
        for index, cells in parts:
            part = batch.select(index)
            assert isinstance(part, ShownBatch)
            assert part.context is not None
            part = replace(part, x=part.x[:, :cells], context=part.context[:, :cells])
            on = cut_to(cell, cells)
            if part.changes is not None:
                on = changed(on, part.changes)
            ended.append(super().run(on, part, num_steps=num_steps, **options))
        back = torch.cat([index for index, _ in parts]).argsort()

        def together(states: list[Tensor | None]) -> Tensor | None:
            known = [x for x in states if x is not None]
            # Cells that a cut lattice has not stay at zero.
            padded = [F.pad(x, (0, 0, 0, batch.x.size(1) - x.size(-2))) for x in known]
            return torch.cat(padded, dim=-3).index_select(-3, back) if padded else None

        x = together([end.x for end in ended])
        assert x is not None
        memory, trajectory = together([end.memory for end in ended]), together([end.trajectory for end in ended])
        return Rollout(x, memory, num_steps, trajectory)

    def logits(self, x: Tensor, batch: Batch) -> Tensor:
        """Logarithms of the colours' probabilities, ``[size, num_nodes, 10]``, in states of a batch."""
        assert isinstance(batch, ShownBatch)
        x = F.rms_norm(x, x.shape[-1:])
        return self.readout(x, batch.source, batch.keys, batch.colours)

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the cells, averaged over a row's own whose colour can be known."""
        assert isinstance(batch, ShownBatch)
        assert batch.target is not None
        there = torch.cat([batch.source, batch.colours], dim=1)
        known = F.one_hot(there, SYMBOLS).amax(1).gather(1, batch.target)
        asked = (batch.target != OUTSIDE) & (known > 0)
        target = batch.target.where(batch.target != OUTSIDE, 0)
        losses = F.nll_loss(self.logits(x, batch).transpose(1, 2).float(), target, reduction="none")
        return (losses * asked).sum(1) / asked.sum(1).clamp(min=1)

    def judged_batches(self, cell: Cell, *, num_steps: int) -> Iterator[ShownBatch]:
        """The rows that judge."""
        for index in torch.arange(len(self.judged_tasks)).split(32):
            yield self._tests(cell, self.judged_tasks.select(index), num_steps)

    def examples(self, cell: Cell, *, num_steps: int) -> tuple[ShownBatch, Tensor]:
        """A judged task of each kind, drawn with its demonstrations above, each row above what it becomes."""
        kind = self.judged_tasks.kind
        tasks = self.judged_tasks.select(torch.stack([(kind == number).nonzero()[0, 0] for number in kind.unique()]))
        tasks = replace(tasks, judges=tasks.judges[:, :1])
        gap = torch.full_like(tasks.judges[:, 0, 0], OUTSIDE)[None]
        shown = [rows for pairs in tasks.pairs.unbind(1) for rows in (pairs.transpose(0, 1), gap)]
        return self._tests(cell, tasks, num_steps), torch.cat([*shown, tasks.judges[None, :, 0, 0]])

    def _tests(self, cell: Cell, tasks: ShownTasks, num_steps: int) -> ShownBatch:
        """The tests of some tasks, with what is fitted to their demonstrations where something is to be."""
        tests, own = tasks.tests(), None
        if self.adaptation.updates:
            own = self.adaptation.fit(self, cell, tasks, num_steps=num_steps)[tests.owner]
        return self.batch(tasks, tests, own=own)

    def _read(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The reader's states and summaries of pairs, short ones on a lattice that is cut to them."""
        width, parts = pairs.size(2), by_width(pairs[:, 0], self.narrow)
        read = [self.reader(pairs[index, :, :cells]) for index, cells in parts]
        back = torch.cat([index for index, _ in parts]).argsort()
        states = torch.cat([F.pad(states, (0, 0, 0, width - states.size(1))) for states, _ in read])
        return states[back], torch.cat([summaries for _, summaries in read])[back]
