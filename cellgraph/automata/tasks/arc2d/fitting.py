"""Fitting: automata that each learn the demonstrations of one task, many of them at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cellgraph.automata.tasks.arc2d.automata import GridAutomata, grid_loss
from cellgraph.automata.tasks.arc2d.colours import permuted
from cellgraph.automata.tasks.arc2d.grids import COLOURS, GridPair
from cellgraph.automata.tasks.arc2d.layout import GridLayout, turns
from cellgraph.numbers import settle_numbers


@dataclass(frozen=True)
class Fitting:
    """How an automaton is fitted to the demonstrations of a task.

    Attributes:
        updates: How many updates it takes.
        lr: Learning rate of AdamW, falling to a twentieth.
        weight_decay: Its weight decay.
        last: After how many of the last steps the loss is taken.
        balance: See :func:`~cellgraph.automata.tasks.arc2d.automata.grid_loss`.
        ema: Decay of the mean of the weights that answers.
        votes: Of how many permuted colourings, or turned grids, an answer is the mean.
    """

    updates: int = 150
    lr: float = 5e-3
    weight_decay: float = 0.01
    last: int = 4
    balance: float = 0.5
    ema: float = 0.97
    votes: int = 8

    def __post_init__(self) -> None:
        settle_numbers(self)
        if min(self.updates, self.last, self.votes) < 1 or not (0 < self.lr < math.inf > self.weight_decay >= 0):
            raise ValueError(
                "updates, last, votes and lr must be positive and weight_decay not negative, both rates finite, "
                f"got {self}"
            )
        if not 0 <= self.balance <= 1 or not 0 <= self.ema < 1:
            raise ValueError(f"balance and ema must be between 0 and 1, got {self.balance} and {self.ema}")


@torch.enable_grad()
def fit(
    automata: GridAutomata,
    demonstrations: Sequence[Sequence[GridPair]],
    offsets: Sequence[Sequence[int]],
    free: Sequence[Sequence[int]],
    settings: Fitting,
    *,
    num_steps: int,
    turned: bool,
    generator: torch.Generator,
) -> GridAutomata:
    """Fit automata to tasks: the gradients, the clipping and the weights of each are its own.

    Every update sees one demonstration of each task, drawn at random.

    Args:
        automata: What they start from.
        demonstrations: Those of each task.
        offsets: The offsets of the neighbours.
        free: Colours of each task that may change places.
        settings: How.
        num_steps: Steps of the automata.
        turned: Whether they see the grids in all rotations and mirrors.
        generator: Source of what is drawn.
    """
    learned = {name: p.detach().clone().requires_grad_() for name, p in automata.parameters().items()}
    mean = {name: p.detach().clone() for name, p in learned.items()}
    optimizer = torch.optim.AdamW(
        learned.values(), lr=settings.lr, weight_decay=settings.weight_decay, betas=(0.9, 0.98)
    )
    ways, device = turns(offsets) if turned else None, automata.vector.device
    layout = GridLayout.of([[pair] for shown in demonstrations for pair in shown], offsets)
    many = torch.tensor([len(shown) for shown in demonstrations])
    first = many.cumsum(0) - many
    for update in range(settings.updates):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * min(1.0, (update + 1) / 20) * (1 - 0.95 * update / settings.updates)
        chosen = first + (torch.rand(len(many), generator=generator) * many).long()
        seen = layout.select(chosen).coloured(permuted(free, 1, generator))
        if ways is not None:
            seen = seen.turned(ways[int(torch.randint(len(ways), (), generator=generator))])
        seen = seen.to(device)
        answers = automata.with_parameters(learned).answer(seen, num_steps, settings.last)
        loss = torch.stack([grid_loss(logits, seen, balance=settings.balance) for logits in answers]).mean(0)
        optimizer.zero_grad()
        loss.sum().backward()
        _clip([p.grad for p in learned.values() if p.grad is not None])
        optimizer.step()
        decay = min(settings.ema, (update + 1) / (update + 10))
        for name, p in learned.items():
            mean[name].lerp_(p.detach(), 1 - decay)
    return automata.with_parameters(mean)


@torch.no_grad()
def answered(
    automata: GridAutomata,
    layout: GridLayout,
    offsets: Sequence[Sequence[int]],
    free: Sequence[Sequence[int]],
    settings: Fitting,
    *,
    num_steps: int,
    turned: bool,
    generator: torch.Generator,
) -> Tensor:
    """Colours that automata answer with, ``[rows, cells]``: those most probable in the mean over other colourings of
    the grids and, where they were fitted so, over turned ones.

    Args:
        automata: The automata.
        layout: The grids, a row for each automaton.
        offsets, free, settings, num_steps, turned, generator: As of :func:`fit`.
    """
    ways, grids = turns(offsets), int(layout.grid.max()) + 1
    votes = torch.zeros(())
    for vote in range(settings.votes):
        colours = permuted(free, grids, generator)
        if not vote:
            colours = torch.arange(COLOURS).expand_as(colours)
        seen = layout.coloured(colours.to(layout.grid.device))
        if turned:
            seen = seen.turned(ways[vote % len(ways)])
        (logits,) = automata.answer(seen, num_steps)
        # The probability of each colour is that of what it has become.
        back = colours.to(layout.grid.device).gather(1, layout.grid.clamp(min=0)[..., None].expand(-1, -1, COLOURS))
        votes = votes + logits.softmax(-1).gather(2, back)
    return votes.argmax(-1)


def _clip(grads: Sequence[Tensor], norm: float = 1.0) -> None:
    """Cut the gradients of each row to a norm."""
    squares = torch.stack([grad.reshape(len(grad), -1).square().sum(1) for grad in grads])
    factor = (norm / squares.sum(0).sqrt().clamp(min=1e-12)).clamp(max=1.0)
    for grad in grads:
        grad.mul_(factor.view(-1, *[1] * (grad.dim() - 1)))
