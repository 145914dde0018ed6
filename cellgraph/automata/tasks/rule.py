"""Rules: a cell is to learn the transition rule of a cellular automaton of two states from examples."""

from __future__ import annotations

import math
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cellgraph.automata.animation import save_animation
from cellgraph.automata.automaton import Automaton
from cellgraph.automata.settings import AutomatonSettings
from cellgraph.automata.task import Batch, Task
from cellgraph.nn import Cell
from cellgraph.numbers import at_least, plain_numbers

if TYPE_CHECKING:
    from typing_extensions import TypedDict

    class RuleOptions(TypedDict, total=False):
        """The keyword arguments of every rule."""

        channels: int
        size: int
        horizon: int
        signed: bool
        worst: float


class RuleTask(Task):
    r"""Base of the tasks whose rule is known: one step of the cell is to be one step of the rule.

    Cells are 0 or 1, or -1 or 1, in their first channel and zero in the others; nothing is rounded between the steps of
    a cell. One whose update is bounded, trained on single steps with a little noise on the states, learns to aim beyond
    the two values and then lies on them exactly: so it can run on by itself.

    .. math:: \ell(x) = \frac{1}{N} \sum_i e_i + w \max_i e_i, \quad e_i = (s_i - \mathrm{rule}(x^0)_i)^2

    with :math:`s` the first channel, or half of it and 1/2 where cells are -1 or 1. The error of the worst cell, of a
    weight :math:`w`, makes what is rare and difficult count.

    The target is the rule's after one step, so training takes one step, from states that are new each time.

    Args:
        lattice: Where the cells are.
        channels: Channels of the state, at least 1.
        size: Unseen states that the cell is judged on, at least 1.
        horizon: Steps that it is then left to run by itself, at least 1.
        signed: Whether a dead cell is -1 and not 0. Means of neighbours are then about zero, and a threshold between
            two shares that are near each other is learned sooner.
        worst: The weight :math:`w` of a state's worst cell.

    Raises:
        ValueError: If a number is out of range.
    """

    @plain_numbers
    def __init__(
        self,
        lattice: Any,
        *,
        channels: int = 1,
        size: int = 100,
        horizon: int = 100,
        signed: bool = False,
        worst: float = 0.0,
    ) -> None:
        super().__init__(lattice)
        at_least(1, channels=channels, size=size, horizon=horizon)
        if not 0 <= worst < math.inf:
            raise ValueError(f"worst must be 0 or more and finite, got {worst}")
        self.channels, self.size, self.horizon, self.signed, self.worst = channels, size, horizon, signed, worst
        self.dead = -1.0 if signed else 0.0

    def check(self, make: Automaton, settings: AutomatonSettings) -> None:
        """Refuse, with what every task refuses, what would train on other states than one step before the target.

        Raises:
            ValueError: If rollouts take more than one step, at the start or later, or the pool keeps whole samples.
        """
        super().check(make, settings)
        told = f"{type(self).__name__} learns a rule, and a rule is one step"
        if settings.steps != (1, 1):
            least, most = settings.steps
            raise ValueError(f"{told}: expected training.num_steps=1, got {most if least == most else [least, most]}")
        if self.curriculum is not None and self.curriculum.start not in (None, (1, 1)):
            raise ValueError(f"{told}: expected no curriculum on steps, got one from {self.curriculum.start}")
        if self.pool is not None and not self.pool.memory_channels:
            raise ValueError(
                f"{told}: expected no pool, or one of the cell's memory alone, got one that keeps whole samples, which "
                "would go on with the targets of where they started"
            )

    @abstractmethod
    def rule(self, alive: Tensor) -> Tensor:
        """One exact step, on truth values ``[size, num_nodes]``."""

    @abstractmethod
    def draw_states(self, size: int, generator: torch.Generator) -> Tensor:
        """Random truth values ``[size, num_nodes]`` to learn from and to be judged on."""

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """Random states, and what the rule makes of them."""
        alive = self.draw_states(size, generator)
        return Batch(self.states(alive), self.rule(alive).float())

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        """The mean squared error of the first channel, and that of the worst cell by its weight."""
        assert batch.target is not None
        errors = (self._shares(x) - batch.target).square()
        return errors.mean(1) + self.worst * errors.amax(1) if self.worst else errors.mean(1)

    def states(self, alive: Tensor) -> Tensor:
        """Truth values ``[size, num_nodes]`` as states of the cells."""
        x = torch.zeros(*alive.shape, self.channels)
        x[..., 0] = alive.float() * (1.0 - self.dead) + self.dead
        return x

    def read(self, x: Tensor) -> Tensor:
        """The truth values that states stand for."""
        return (self._shares(x) > 0.5).cpu()

    def _shares(self, x: Tensor) -> Tensor:
        """How far cells are on the way from dead, 0, to alive, 1."""
        return (x[..., 0] - self.dead) / (1.0 - self.dead)

    @torch.no_grad()
    def wrong_cells(
        self,
        cell: Cell,
        alive: Tensor,
        *,
        num_steps: int,
        rounded: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Number of cells that differ from the rule's after each of several steps.

        Args:
            cell: The cell.
            alive: Where to start.
            num_steps: Steps.
            rounded: Whether states are set to 0 or 1 after each step; otherwise the cell runs freely.
            generator: Source of the random update masks.

        Shapes:
            - **alive:** ``[size, num_nodes]``, boolean
            - **output:** ``[num_steps, size]``
        """
        x = self.states(alive).to(cell.device)
        wrong = []
        for _ in range(num_steps):
            alive, x = self.rule(alive), self.run(cell, Batch(x), num_steps=1, generator=generator).x
            found = self.read(x)
            wrong.append((found != alive).sum(1))
            x = self.states(found).to(x.device) if rounded else x
        return torch.stack(wrong)

    @torch.no_grad()
    def validate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """Figures after one step, on states to choose weights by: the loss, the shares of cells and whole states that
        are right, and ``closeness``, one less the greatest distance of any cell of them from its 0 or 1; at one, a
        cell that runs freely has no error that could grow.

        Args:
            cell: The cell, in evaluation mode.
            num_steps: Not used: a step is a step.
        """
        generator = torch.Generator().manual_seed(2**31 + 1)
        alive = self.draw_states(5 * self.size, generator)
        batch, exact = Batch(self.states(alive).to(cell.device)), self.rule(alive)
        x = self.run(cell, batch, num_steps=1, generator=generator).x
        wrong = self.read(x) != exact
        return {
            **super().validate(cell, num_steps=1),
            "cell_accuracy": 1.0 - float(wrong.float().mean()),
            "state_accuracy": float((~wrong).all(1).float().mean()),
            "closeness": 1.0 - float((self._shares(x).cpu() - exact.float()).abs().max()),
        }

    def evaluate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """Shares of cells and of whole states that are right after one step from unseen states, and of the states that
        are right after every step up to the horizon, rounded at each or running freely.

        Args:
            cell: The trained cell.
            num_steps: Not used: a step is a step.
        """
        generator = torch.Generator().manual_seed(2**31)
        alive = self.draw_states(self.size, generator)
        free = self.wrong_cells(cell, alive, num_steps=self.horizon, generator=generator)
        rounded = self.wrong_cells(cell, alive, num_steps=self.horizon, rounded=True, generator=generator)
        return {
            "cell_accuracy": 1.0 - float(free[0].float().mean()) / self.lattice.num_nodes,
            "state_accuracy": float((free[0] == 0).float().mean()),
            f"exact_for_{self.horizon}_rounded_steps": float((rounded == 0).all(0).float().mean()),
            f"exact_for_{self.horizon}_free_steps": float((free == 0).all(0).float().mean()),
        }

    @abstractmethod
    def picture(self, alive: Tensor) -> Tensor:
        """Values of the cells as images: ``[num_frames, num_nodes]`` to ``[num_frames, height, width]``."""

    @torch.no_grad()
    def draw_course(self, cell: Cell, alive: Tensor, path: Path, *, num_steps: int, scale: int) -> Path:
        """Draw an animation from one state ``[1, num_nodes]``: the cell on the left, running freely, the rule on the
        right."""
        states, exact, generator = [self.states(alive).to(cell.device)], [alive], torch.Generator().manual_seed(1)
        for _ in range(num_steps):
            states.append(self.run(cell, Batch(states[-1]), num_steps=1, generator=generator).x)
            exact.append(self.rule(exact[-1]))
        learned, right = self.picture(self._shares(torch.cat(states)).cpu()), self.picture(torch.cat(exact).float())
        gap = right.new_full((*right.shape[:2], 2), 0.5)
        return save_animation(torch.cat([learned, gap, right], dim=-1), path, scale=scale, seconds=0.1)
