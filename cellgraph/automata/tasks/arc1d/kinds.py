"""1-D ARC: rows of colours to be transformed as their kind of task asks, judged by exact match."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.automata.batch import Batch
from cellgraph.automata.tasks.arc1d.judging import RowsTask
from cellgraph.automata.tasks.arc1d.pairs import COLOURS, RowPair, read_arc1d, renumber
from cellgraph.automata.tasks.arc1d.rows import OUTSIDE
from cellgraph.lattice import Lattice
from cellgraph.nn import Cell
from cellgraph.numbers import at_least, plain_numbers

ENCODINGS = ("learned", "fixed")
JUDGED = ("test", "validation")


class Arc1D(RowsTask):
    r"""The 1-D ARC (`Xu et al. 2024 <https://arxiv.org/abs/2305.18354>`_): 901 tasks of 18 kinds, learned from their
    training pairs, judged on their test pairs: a row counts if all of its cells are right.

    The automaton is told the kind, as in `"CAX: Cellular Automata Accelerated in JAX"
    <https://arxiv.org/abs/2410.02651>`_ (section 5.3), whose table stands beside its own; it never sees a test task's
    demonstrations. Kinds that recolour ask for colours that only those show, so 15 of the 18 can be solved.

    Args:
        path: The data, see :func:`read_arc1d`.
        width: Cells of the lattice; rows lie in its middle.
        channels: Channels of the state.
        offsets: Offsets of the neighbourhood.
        encoding: ``"learned"``: the row, one-hot, and a learned vector of the kind are given to every cell at every
            step, a linear map of the row is the start, and a linear map of the normalised state is read; ``"fixed"``:
            random vectors of colour (3 channels) and kind (8 channels), which are not learned, are the start, and the
            last ten channels are read.
        kind_channels: Width of the learned vector of the kind.
        renumbered: Whether colours are numbered by their first appearance, see :func:`renumber`.
        judged: ``"test"``, or ``"validation"`` to choose settings: the pairs set aside are judged. They are trained on
            in the first case only.
        seed: Of the fixed vectors.

    Attributes:
        kinds: Names of the kinds.
        context_channels: Width of the context that a cell must take.

    Raises:
        ValueError: If a name is unknown, a row is wider than the lattice, the channels are too few, or no pair is left
            to train on or to judge.
    """

    title = "arc1d"
    source: Tensor
    target: Tensor
    kind: Tensor
    judged_source: Tensor
    judged_target: Tensor
    judged_kind: Tensor
    colour_code: Tensor
    kind_code: Tensor

    @plain_numbers
    def __init__(
        self,
        path: str | Path,
        *,
        width: int = 96,
        channels: int = 64,
        offsets: Sequence[int] = (-1, 1),
        encoding: str = "learned",
        kind_channels: int = 16,
        renumbered: bool = True,
        judged: str = "test",
        seed: int = 0,
    ) -> None:
        super().__init__(Lattice((width,), [(offset,) for offset in offsets]))
        if encoding not in ENCODINGS or judged not in JUDGED:
            raise ValueError(f"expected one of {ENCODINGS} and one of {JUDGED}, got {encoding!r} and {judged!r}")
        if encoding == "fixed" and channels < 3 + 8 + COLOURS:
            raise ValueError(f"channels must be at least {3 + 8 + COLOURS} for fixed vectors, got {channels}")
        at_least(1, channels=channels, kind_channels=kind_channels)
        self.encoding, self.channels, self.renumbered, self.judged = encoding, channels, renumbered, judged
        training, validation, test = read_arc1d(path)
        # A kind may have no pair but one that is set aside.
        self.kinds = sorted({pair.kind for pair in training + validation + test})
        if judged == "test":
            training = training + validation
        judges = test if judged == "test" else validation
        if not training or not judges:
            raise ValueError(
                f"there must be pairs to train on and pairs to judge, got {len(training)} and {len(judges)} in {path}"
            )
        for name, pairs in (("", training), ("judged_", judges)):
            for part, tensor in zip(("source", "target", "kind"), self._tensors(pairs), strict=True):
                self.register_buffer(name + part, tensor, persistent=False)
        if encoding == "learned":
            self.context_channels = OUTSIDE + 1 + kind_channels
            self.kind_vector = nn.Embedding(len(self.kinds), kind_channels)
            self.start = nn.Linear(OUTSIDE + 1, channels)
            self.readout = nn.Linear(channels, COLOURS)
        else:
            self.context_channels = 0
            generator = torch.Generator().manual_seed(seed)
            self.register_buffer("colour_code", torch.randn(COLOURS, 3, generator=generator))
            self.register_buffer("kind_code", torch.randn(len(self.kinds), 8, generator=generator))

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """Draw training pairs."""
        index = torch.randint(len(self.source), (size,), generator=generator).to(self.source.device)
        return self.batch(self.source[index], self.target[index], self.kind[index])

    def batch(self, source: Tensor, target: Tensor, kind: Tensor) -> Batch:
        """Start states and contexts of rows.

        Args:
            source: Colours, ``[size, width]``.
            target: What they are to become, ``[size, width]``.
            kind: Numbers of their kinds, ``[size]``.
        """
        if self.encoding == "learned":
            row = F.one_hot(source, OUTSIDE + 1).to(self.start.weight.dtype)
            told = self.kind_vector(kind)[:, None].expand(-1, row.size(1), -1)
            return Batch(self.start(row), target, torch.cat([row, told], dim=-1), kind)
        # Beyond a row there is background, as there is where it was published.
        colour = self.colour_code[source.where(source != OUTSIDE, 0)]
        told = self.kind_code[kind][:, None].expand(-1, colour.size(1), -1)
        rest = colour.new_zeros(*colour.shape[:2], self.channels - colour.size(2) - told.size(2))
        return Batch(torch.cat([colour, told, rest], dim=-1), target, None, kind)

    def logits(self, x: Tensor, batch: Batch) -> Tensor:
        """Log-odds of the colours, ``[size, num_nodes, 10]``, in states of a batch."""
        if self.encoding == "learned":
            return self.readout(F.rms_norm(x, x.shape[-1:]))
        return x[..., -COLOURS:]

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the cells, averaged over a sample's own; with fixed vectors over all of the lattice."""
        assert batch.target is not None
        inside = batch.target != OUTSIDE
        if self.encoding == "fixed":
            inside = torch.ones_like(inside)
        target = batch.target.where(batch.target != OUTSIDE, 0)
        losses = F.cross_entropy(self.logits(x, batch).transpose(1, 2).float(), target, reduction="none")
        return (losses * inside).sum(1) / inside.sum(1)

    def judged_batches(self, cell: Cell, *, num_steps: int) -> Iterator[Batch]:
        """The pairs that judge."""
        parts = (tensor.split(36) for tensor in (self.judged_source, self.judged_target, self.judged_kind))
        return (self.batch(*part) for part in zip(*parts, strict=True))

    def examples(self, cell: Cell, *, num_steps: int) -> tuple[Batch, Tensor]:
        """A judged pair of each kind that has one, drawn with its row above."""
        kind = self.judged_kind
        first = torch.stack([(kind == number).nonzero()[0, 0] for number in kind.unique()])
        source = self.judged_source[first]
        return self.batch(source, self.judged_target[first], self.judged_kind[first]), source[None]

    def _tensors(self, pairs: Sequence[RowPair]) -> tuple[Tensor, Tensor, Tensor]:
        """Rows and targets, ``[num_pairs, width]``, in the middle of the lattice, and numbers of the kinds."""
        width = self.lattice.num_nodes
        rows = np.full((2, len(pairs), width), OUTSIDE)
        for number, pair in enumerate(pairs):
            if len(pair.source) > width:
                raise ValueError(f"the lattice must be as wide as every row, {len(pair.source)} cells, got {width}")
            values = np.array([pair.source, pair.target])
            if self.renumbered:
                values = renumber(pair.source)[values]
            left = (width - len(pair.source)) // 2
            rows[:, number, left : left + len(pair.source)] = values
        kinds = torch.tensor([self.kinds.index(pair.kind) for pair in pairs])
        return torch.from_numpy(rows[0]), torch.from_numpy(rows[1]), kinds
