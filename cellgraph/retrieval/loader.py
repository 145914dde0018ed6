"""The loader: batches of embedded dialogues whose place in the stream can be saved and restored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cellgraph import processes
from cellgraph.numbers import plain_numbers
from cellgraph.retrieval.embedded import Batch, EmbeddedPairs


class DialogueLoader:
    """A stream of batches that continues exactly where its state says.

    Everything is in memory and the order of an epoch follows from the seed and the epoch's number, so the state is
    few numbers. Without ``num_batches`` an iteration is one epoch, and the next iteration the next epoch. With it the
    stream runs through as many epochs as that takes, so that one pass of a training loop is the whole training and
    every update accumulates the same number of batches.

    Args:
        pairs: The data.
        batch_size: Dialogues a batch.
        seed: Seed of the shuffling; ``None`` keeps the order of the data.
        drop_last: Whether to leave out an incomplete batch at the end of an epoch, unless it is the only one.
        window: Turns a batch at most. Longer dialogues come as consecutive batches, all but the first with
            ``starts=False``: what truncated back-propagation through time needs.
        num_batches: Batches in the whole stream; an epoch's when absent.
        shared: Whether the processes that train together share each batch: every one has its part of the same batches
            in the same order.

    Raises:
        ValueError: If a size is not positive, or a batch has fewer dialogues than there are processes to share it.

    Example:
        >>> loader = DialogueLoader(EmbeddedPairs(torch.eye(5), torch.eye(5)), batch_size=2, num_batches=3)
        >>> stream = iter(loader)
        >>> _ = next(stream), next(stream)
        >>> loader.state_dict()["position"], len(next(stream)), loader.state_dict()["epoch"]
        (2, 1, 1)
    """

    @plain_numbers
    def __init__(
        self,
        pairs: EmbeddedPairs,
        batch_size: int,
        *,
        seed: int | None = None,
        drop_last: bool = False,
        window: int | None = None,
        num_batches: int | None = None,
        shared: bool = False,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("window", window), ("num_batches", num_batches)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be positive, got {value}")
        self.pairs, self.batch_size, self.seed, self.window = pairs, batch_size, seed, window
        self.num_batches, self.shared = num_batches, shared
        num_dialogues = len(pairs.dialogues)
        least = min(batch_size, num_dialogues) if drop_last else num_dialogues % batch_size or batch_size
        if shared:
            processes.check_shares(least)
        full = num_dialogues // batch_size
        self.batches_per_epoch = max(full, 1) if drop_last or num_dialogues % batch_size == 0 else full + 1
        # Single pairs need no padding: their batch is a slice of the order.
        single = all(len(rows) == 1 for rows in pairs.dialogues)
        self._single = torch.tensor([rows[0] for rows in pairs.dialogues]) if single else None
        self._order_of: tuple[int, Tensor] | None = None
        self._epoch = self._position = self._turn = self._delivered = 0

    def __len__(self) -> int:
        if self.num_batches is not None:
            return self.num_batches
        if self._single is not None or self.window is None:
            return self.batches_per_epoch
        return sum(-(-self._longest(position) // self.window) for position in range(self.batches_per_epoch))

    def __iter__(self) -> Iterator[Batch]:
        if self.num_batches is None:
            epoch = self._epoch
            while self._epoch == epoch:
                yield self._next()
        else:
            if self._delivered >= self.num_batches:
                self._epoch = self._position = self._turn = self._delivered = 0
            while self._delivered < self.num_batches:
                yield self._next()

    def state_dict(self) -> dict[str, Any]:
        """The place in the stream, and what it is a place in."""
        return {
            "epoch": self._epoch,
            "position": self._position,
            "turn": self._turn,
            "delivered": self._delivered,
            **self._identity(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a place in the stream.

        Raises:
            ValueError: If the state is of other data, or another batch size, seed or window.
        """
        for name, value in self._identity().items():
            if state[name] != value:
                raise ValueError(f"cannot continue the data stream: its {name} was {state[name]}, now it is {value}")
        self._epoch, self._position = state["epoch"], state["position"]
        self._turn, self._delivered = state["turn"], state["delivered"]

    def _identity(self) -> dict[str, Any]:
        sizes = {"num_pairs": len(self.pairs), "num_dialogues": len(self.pairs.dialogues)}
        return {**sizes, "batch_size": self.batch_size, "seed": self.seed, "window": self.window}

    def _next(self) -> Batch:
        epoch = self._epoch + self._position / self.batches_per_epoch
        chosen = self._chosen(self._position)
        starts = self._turn == 0
        if self._single is not None:
            index = self._single[chosen].unsqueeze(1)
            longest = last = 1
        else:
            longest = self._longest(self._position)
            last = longest if self.window is None else min(self._turn + self.window, longest)
            index = self._padded(chosen, self._turn, last)
        # The place moves on before the batch is out, so a state saved while the batch is used is the next one's.
        self._turn = last
        if self._turn >= longest:
            self._turn, self._position = 0, self._position + 1
        if self._position >= self.batches_per_epoch:
            self._position, self._epoch = 0, self._epoch + 1
        self._delivered += 1
        part = processes.share(len(index)) if self.shared and processes.world() > 1 else None
        return Batch.gather(self.pairs, index, part=part, starts=starts, epoch=epoch)

    def _chosen(self, position: int) -> Tensor:
        return self._order(self._epoch)[position * self.batch_size : (position + 1) * self.batch_size]

    def _longest(self, position: int) -> int:
        return max(len(self.pairs.dialogues[d]) for d in self._chosen(position).tolist())

    def _padded(self, chosen: Tensor, first: int, last: int) -> Tensor:
        rows = [self.pairs.dialogues[d][first:last] for d in chosen.tolist()]
        return torch.tensor([[*row, *[-1] * (last - first - len(row))] for row in rows])

    def _order(self, epoch: int) -> Tensor:
        if self.seed is None:
            epoch = 0
        if self._order_of is None or self._order_of[0] != epoch:
            num_dialogues = len(self.pairs.dialogues)
            if self.seed is None:
                order = torch.arange(num_dialogues)
            else:
                # The first draw of one generator seeds the epoch's, so that neighbouring seeds share no epochs.
                seeds = torch.Generator().manual_seed(self.seed)
                draws = torch.randint(2**62, (epoch + 1,), generator=seeds)
                order = torch.randperm(num_dialogues, generator=torch.Generator().manual_seed(int(draws[-1])))
            self._order_of = epoch, order
        return self._order_of[1]
