"""Token states: a vector for each token of many texts, in half precision, and where they are kept on disk."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cellgraph.numbers import plain_numbers

#: What they are kept in.
KEPT = torch.float16


class TokenStates:
    """Sequences of vectors of different lengths, end to end; rows are given padded with zeros to the longest.

    Args:
        states: All the vectors, one sequence after another, ``[num_vectors, width]``, of any dtype, in one tensor or in
            several; not copied, they may be mapped from files.
        lengths: How many of them each sequence has; at least one.
        longest: To how many rows are padded; the longest of these sequences by default. Longer ones are cut.

    Raises:
        ValueError: If the lengths do not add up, or a sequence is empty.

    Example:
        >>> states = TokenStates(torch.ones(3, 2), [1, 2])
        >>> states[torch.tensor([0, 1])].sum(-1)
        tensor([[2., 0.],
                [2., 2.]])
    """

    @plain_numbers
    def __init__(
        self, states: Tensor | Sequence[Tensor], lengths: Sequence[int], *, longest: int | None = None
    ) -> None:
        self.parts = [states] if isinstance(states, Tensor) else list(states)
        self.lengths = torch.as_tensor(lengths, dtype=torch.long)
        widths = {tuple(part.shape[1:]) for part in self.parts}
        if len(widths) != 1 or len(next(iter(widths))) != 1 or int(self.lengths.sum()) != sum(map(len, self.parts)):
            shapes = [list(part.shape) for part in self.parts]
            raise ValueError(f"{int(self.lengths.sum())} vectors expected by the lengths, got {shapes}")
        if len(self.lengths) and int(self.lengths.min()) < 1:
            raise ValueError("every sequence needs at least one vector, got an empty one")
        self._starts = self.lengths.cumsum(0) - self.lengths
        top = int(self.lengths.max()) if len(self.lengths) else 1
        self.longest = top if longest is None else longest

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Sequences by number, ``[..., longest, width]``, float32."""
        place = torch.arange(self.longest)
        lengths, starts = self.lengths[rows], self._starts[rows]
        there = place < lengths[..., None]
        wanted = torch.where(there, starts[..., None] + place, -1)
        found = torch.zeros(*wanted.shape, self.width)
        first = 0
        for part in self.parts:
            inside = (wanted >= first) & (wanted < first + len(part))
            found[inside] = part[wanted[inside] - first].float()
            first += len(part)
        return found

    @property
    def width(self) -> int:
        """Components of a vector."""
        return self.parts[0].size(1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of all of them, padded."""
        return len(self), self.longest, self.width

    def padded(self) -> Tensor:
        """All of them, ``[num_sequences, longest, width]``, float32."""
        return self[torch.arange(len(self))]

    def pooled(self) -> Tensor:
        """The mean of what is given of each, ``[num_sequences, width]``, float32."""
        parts = [self[rows] for rows in torch.arange(len(self)).split(512)]
        sums = torch.cat([part.sum(1) for part in parts])
        return sums / self.lengths.clamp(max=self.longest)[:, None]

    def moments(self) -> tuple[Tensor, Tensor]:
        """The mean of all the vectors, ``[width]``, and the root mean square of what is left without it, ``[]``."""
        count = max(sum(map(len, self.parts)), 1)
        mean, squares = torch.zeros(self.width, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for part in self._pieces():
            mean += part.double().sum(0) / count
        for part in self._pieces():
            squares += (part.double() - mean).square().sum() / (count * self.width)
        return mean.float(), squares.sqrt().clamp_min(1e-6).float()

    def finite(self) -> bool:
        """Whether all the vectors are."""
        return all(bool(part.isfinite().all()) for part in self._pieces())

    def _pieces(self) -> list[Tensor]:
        return [piece for part in self.parts for piece in part.split(65_536)]
