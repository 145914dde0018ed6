"""The conveyor: the initialisation by which a new network carries a surface to another unchanged."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cellgraph.lattice import Lattice
from cellgraph.nn import Surface


@dataclass(frozen=True)
class Conveyor:
    r"""A leaky shift from the input surface to the output surface.

    Each step a cell hands on the share :math:`a` of its state in one direction. With :math:`n` hops between the
    surfaces, a value injected once is at the output after :math:`T` steps with the binomial amplitude

    .. math::
        g(T) = \binom{T}{n} a^n (1 - a)^{T - n}

    (plus the same for whole turns around a periodic axis); clamped, with the probability that :math:`T` steps hold at
    least :math:`n` hops. Dividing what is extracted by :math:`g` makes a new network the identity, provided no input
    cell lies behind another one. Amplitudes stay at or below one everywhere, and :math:`a = n / T` makes :math:`g` the
    largest.

    Attributes:
        direction: The direction signals come from; ``None`` where no shift maps one surface on the other. Then the
            transport mixes all neighbours: the signal arrives, but the network is not the identity.
        hops: Number of shifts from surface to surface.
        turn: Number of shifts that lead around the lattice and back, 0 if none do, as where cells are missing there.
        share: Share of the state that moves on in a step, averaged over random updates.
        clamped: Whether the input is clamped rather than injected once.
        distance: Steps from the nearest input cell to the furthest output cell.
        route: The two surfaces, in words.
    """

    direction: int | None
    hops: int
    turn: int
    share: float
    clamped: bool
    distance: int
    route: str

    @classmethod
    def install(
        cls,
        cell: Any,
        source: Surface,
        target: Surface,
        *,
        num_steps: int,
        clamped: bool,
        share: float | None = None,
    ) -> Conveyor:
        """Set a cell's transport, by its ``set_conveyor``, to carry one surface to another in ``num_steps`` steps, or
        with a share of the state that moves on.

        Raises:
            ValueError: If no path leads from the input surface to some output cell.
        """
        lattice = cell.lattice
        route = f"{_name(source, 'input')} to {_name(target, 'output')} of {lattice}"
        away = lattice.hops(source.mask)[target.mask]
        if (away < 0).any():
            raise ValueError(f"no path leads from {route}: {int((away < 0).sum())} of {len(away)} cells are cut off")
        direction, hops, turn = _shift(lattice, source, target, clamped=clamped)
        if hops > num_steps:
            # Offsets that are mixed may arrive where one alone does not: nothing is carried by it.
            direction, hops, turn = None, 0, 0
        # Of what an update brings a cell takes the share `step_size`, which the weights make up for.
        if share is not None:
            moved = share / cell.fire_rate
        else:
            moved = min(1.0, hops / (num_steps * cell.fire_rate)) if direction is not None else 0.5
        cell.set_conveyor(direction, moved / cell.step_size)
        return cls(direction, hops, turn, moved * cell.fire_rate, clamped, int(away.max()), route)

    def check_reach(self, num_steps: int) -> None:
        """Refuse a number of steps in which no signal can arrive everywhere.

        Raises:
            ValueError: If ``num_steps`` is less than the distance.
        """
        if num_steps < self.distance:
            raise ValueError(
                f"num_steps={num_steps} cannot carry a signal over the {self.distance} steps from {self.route}: "
                f"use num_steps >= {self.distance}"
            )

    def gain(self, num_steps: int) -> float:
        """Amplitude at the output after ``num_steps`` steps of what was 1 at the input.

        Raises:
            ValueError: If nothing is left there: a signal that was to arrive in the fewest steps has passed.
        """
        if self.direction is None or self.hops == 0:
            return 1.0
        if self.clamped:
            found = math.fsum(self._binomial(num_steps, n) for n in range(self.hops, num_steps + 1))
        else:
            last = num_steps + 1 if self.turn else self.hops + 1
            found = math.fsum(self._binomial(num_steps, n) for n in range(self.hops, last, self.turn or 1))
        if not found:
            raise ValueError(
                f"after num_steps={num_steps} nothing is left of a signal from {self.route}, of which the share "
                f"{self.share:g} moves on at each step: take fewer steps, or make the network for as many"
            )
        return found

    def _binomial(self, num_steps: int, hops: int) -> float:
        stays = num_steps - hops
        if stays < 0:
            return 0.0
        try:
            return math.comb(num_steps, hops) * self.share**hops * (1 - self.share) ** stays
        except OverflowError:
            # More ways than a float can hold, each of next to no amplitude.
            parts = math.log(math.comb(num_steps, hops)), hops * math.log(self.share), stays * math.log1p(-self.share)
            return math.exp(math.fsum(parts))


def _name(surface: Surface, role: str) -> str:
    return f"the {role} cells {surface.faces or 'of the mask'}"


def _shift(lattice: Lattice, source: Surface, target: Surface, *, clamped: bool) -> tuple[int | None, int, int]:
    """The direction and the number of shifts that take each output cell to its input cell, all of them on cells; and
    the number that take it around the lattice to itself, where its value is not set anew at each step."""
    if torch.equal(source.index, target.index):
        return 0, 0, 0
    if source.index.numel() == target.index.numel():
        size = torch.tensor(lattice.shape)
        periodic = torch.tensor([kind == "periodic" for kind in lattice.boundary])
        first, wanted = lattice.positions[target.index], lattice.positions[source.index]

        def on_cells(offset: tuple[int, ...], shifts: int) -> Tensor:
            """Of each output cell, whether so many shifts meet cells alone."""
            places = first + torch.arange(1, shifts + 1)[:, None, None] * torch.tensor(offset)
            return lattice.mask[torch.where(periodic, places % size, places).unbind(-1)].all(0)

        for hops, (k, offset) in itertools.product(range(1, max(lattice.shape)), enumerate(lattice.offsets)):
            there = first + hops * torch.tensor(offset)
            if not torch.equal(torch.where(periodic, there % size, there), wanted) or not on_cells(offset, hops).all():
                continue
            along = [row for row in zip(offset, lattice.shape, lattice.boundary, strict=True) if row[0]]
            if clamped or not all(boundary == "periodic" for _, _, boundary in along):
                return k, hops, 0
            turn = math.lcm(*(size // math.gcd(size, move) for move, size, _ in along))
            around = on_cells(offset, turn)
            if around.all() or not around.any():
                return k, hops, turn if around.all() else 0
            # What comes round to some of the cells alone gives no one amplitude.
    return None, 0, 0
