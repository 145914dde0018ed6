"""The sample pool: states that outlive an update, so that an automaton learns to stay where it has come to."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cellgraph.automata.batch import Batch
from cellgraph.nn.memory import memory_of, with_memory
from cellgraph.numbers import plain_numbers

if TYPE_CHECKING:
    from cellgraph.automata.task import Task


class SamplePool:
    """Keeps many samples with the states they have come to (Mordvintsev et al. 2020, `"Growing Neural Cellular
    Automata" <https://distill.pub/2020/growing-ca/>`_, experiments 2 and 3).

    A batch is drawn from the pool, and its final states go back into it. Of a batch the ``reseed`` samples with the
    greatest loss start anew, so that the way from the seed is not forgotten and what went astray is dropped; the
    ``damage`` samples with the least loss suffer the task's damage, so that growing back is learned. What
    heals badly is dropped so as well, before the healing is over: where it is the worst damage that counts, let chance
    choose (``ranked=False``).

    What comes in is detached: no gradient runs from one update into the one before, which is truncated
    back-propagation through time. With ``memory_channels`` samples are always new and only the last channels of
    their states, the cell's memory, are kept; the ``reseed`` that start with a new memory are then any.

    Args:
        size: Number of samples.
        reseed: Samples a batch that start anew.
        damage: Samples a batch that are damaged, of those that do not start anew; fewer where fewer are left.
        ranked: Whether the worst start anew and the best are damaged. Otherwise they are drawn at random, apart from
            samples whose loss is no number, which are always the first to start anew.
        max_age: Samples that have been through more steps than this start anew as well; ``None`` sets no limit.
        memory_channels: Keep so many channels only; 0 keeps the whole sample.
        device: Where the pool is; a batch is moved to the device it is drawn for.

    Attributes:
        samples: What is kept, once something was drawn.
        age: Steps that each sample has been through since it was new, ``[size]``.

    Raises:
        ValueError: If a number is out of range, or memory is to be damaged.

    Example:
        >>> from cellgraph import Lattice
        >>> from cellgraph.automata import Task
        >>> class Rest(Task):
        ...     def sample(self, size, generator):
        ...         return Batch(torch.zeros(size, self.lattice.num_nodes, 2))
        ...     def loss(self, x, batch):
        ...         return x.square().mean((1, 2))
        >>> pool, task = SamplePool(8), Rest(Lattice((4, 4)))
        >>> index, batch = pool.draw(task, 3, torch.Generator().manual_seed(0))
        >>> pool.put(index, batch.x + 1, steps=5)
        >>> pool.age.sum()
        tensor(15)
    """

    @plain_numbers
    def __init__(
        self,
        size: int = 1024,
        *,
        reseed: int = 1,
        damage: int = 0,
        ranked: bool = True,
        max_age: int | None = None,
        memory_channels: int = 0,
        device: str = "cpu",
    ) -> None:
        if size < 1 or min(reseed, damage, memory_channels) < 0 or (max_age is not None and max_age < 1):
            raise ValueError(
                "size and max_age must be positive and reseed, damage and memory_channels not negative, "
                f"got {size}, {max_age}, {reseed}, {damage}, {memory_channels}"
            )
        if memory_channels and damage:
            raise ValueError(f"what is damaged is a sample, and of these the memory alone is kept: got damage {damage}")
        self.size, self.reseed, self.damage, self.ranked, self.max_age = size, reseed, damage, ranked, max_age
        self.memory_channels, self.device = memory_channels, device
        self.reset()

    def reset(self) -> None:
        """Empty the pool."""
        self.samples: Batch | None = None
        self.age = torch.zeros(self.size, dtype=torch.long)

    @property
    def is_closed(self) -> bool:
        """Whether what it once drew is all that it will ever hand out."""
        return not self.memory_channels and not self.reseed and self.max_age is None

    def check(self, size: int) -> None:
        """Refuse batches of a size that cannot be drawn.

        Raises:
            ValueError: If the pool is too small, or a batch has fewer samples than start anew and are damaged.
        """
        if size > self.size or self.reseed + self.damage > size:
            raise ValueError(
                f"a batch must be at most the pool's {self.size} samples and at least the {self.reseed} + "
                f"{self.damage} that start anew and are damaged, got {size}"
            )

    def draw(
        self, task: Task, size: int, generator: torch.Generator, *, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Batch]:
        """Draw a batch.

        Args:
            task: Gives new samples, the loss by which samples are ranked, and the damage.
            size: How many.
            generator: Source of everything random, on the CPU.
            device: Where the batch is wanted.

        Returns:
            The places in the pool, for :meth:`put`, and the samples.

        Raises:
            ValueError: If the pool is too small, or keeps whole samples and new ones hang on what the task learns, of
                which nothing would be learned.
        """
        self.check(size)
        if self.samples is None:
            self.samples = self._new(task, self.size, generator).to(self.device)
        index = torch.randperm(self.size, generator=generator)[:size]
        too_old = torch.zeros(size, dtype=torch.bool) if self.max_age is None else self.age[index] > self.max_age
        if self.memory_channels:
            too_old[: self.reseed] = True
            self.age[index[too_old]] = 0
            return index, self._with_memory(task.sample(size, generator), index, ~too_old).to(device)
        rank = self._order(task, index, generator, device)
        too_old[rank[: self.reseed]] = True
        # Of those that start anew none is damaged.
        stays = rank[~too_old[rank]]
        damaged = index[stays[max(0, len(stays) - self.damage) :]]
        if len(damaged):
            self._write(damaged, _detached(task.damage(self.samples.select(damaged), generator)))
        renewed = index[too_old]
        if len(renewed):
            self._write(renewed, self._new(task, len(renewed), generator))
            self.age[renewed] = 0
        return index, self.samples.select(index).to(device)

    def put(self, index: Tensor, x: Tensor, *, steps: int) -> None:
        """Put final states back in their places.

        Args:
            index: The places, from :meth:`draw`.
            x: The states; they are detached here.
            steps: Steps they have been through since.
        """
        if self.samples is None:
            raise ValueError("states can be put back once a batch was drawn, none was")
        self.samples.x[index.to(self.samples.x.device)] = x.detach().to(self.samples.x)
        self.age[index] += steps

    def state_dict(self) -> dict[str, Any]:
        """The samples and their ages."""
        return {"samples": None if self.samples is None else self.samples.tensors(), "age": self.age}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them back.

        Raises:
            ValueError: If they are a pool's of another size.
        """
        if len(state["age"]) != self.size:
            raise ValueError(f"the pool has {self.size} samples, the saved one {len(state['age'])}")
        self.age = state["age"].clone()
        self.samples = None if state["samples"] is None else _detached(Batch(**state["samples"])).to(self.device)

    def _new(self, task: Task, size: int, generator: torch.Generator) -> Batch:
        batch = task.sample(size, generator)
        if beyond := batch.tensors().keys() - {field.name for field in fields(Batch)}:
            raise ValueError(
                f"a pool keeps x, target, context and kind of samples, and {type(task).__name__} gives them "
                f"{', '.join(sorted(beyond))}, too: train it without a pool"
            )
        learned = [name for name, tensor in batch.tensors().items() if tensor.requires_grad]
        if learned and not self.memory_channels:
            raise ValueError(
                f"a pool keeps samples without gradient, so that {type(task).__name__} would learn nothing of what its "
                f"{' and '.join(learned)} is made of: train it without a pool, or keep the memory alone "
                f"(memory_channels)"
            )
        return _detached(batch)

    def _order(self, task: Task, index: Tensor, generator: torch.Generator, device: torch.device | str) -> Tensor:
        """Places in the batch from those that start anew first to those that are damaged first."""
        assert self.samples is not None
        if not self.reseed and not self.damage:
            return torch.arange(len(index))
        drawn = self.samples.select(index).to(device)
        with torch.no_grad():
            loss = task.loss(drawn.x, drawn).float().cpu().nan_to_num(torch.inf, posinf=torch.inf)
        if not self.ranked:
            chance = torch.rand(len(index), generator=generator)
            loss = torch.where(loss.isinf(), loss, chance)
        return loss.argsort(descending=True, stable=True)

    def _write(self, index: Tensor, samples: Batch) -> None:
        assert self.samples is not None
        kept = self.samples.tensors()
        for name, tensor in samples.tensors().items():
            kept[name][index.to(kept[name].device)] = tensor.to(kept[name])

    def _with_memory(self, batch: Batch, index: Tensor, remembers: Tensor) -> Batch:
        """New samples, with the memory that is kept where they remember."""
        assert self.samples is not None
        kept = with_memory(batch.x, memory_of(self.samples.x[index.to(self.samples.x.device)], self.memory_channels))
        return replace(batch, x=torch.where(remembers.to(kept.device)[:, None, None], kept, batch.x))


def _detached(batch: Batch) -> Batch:
    # A copy: a task may hand out its own data, which the pool would write into.
    return Batch(**{name: tensor.detach().clone() for name, tensor in batch.tensors().items()})
