"""Growing: a pattern from a single cell, that grows back where it is damaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from cellgraph.automata.animation import save_animation, save_picture
from cellgraph.automata.task import Batch, Task
from cellgraph.automata.tasks.shapes import flower, tree
from cellgraph.lattice import Lattice
from cellgraph.nn import Cell
from cellgraph.numbers import at_least, plain_numbers

SHAPES: dict[str, Callable[[int], Tensor]] = {"flower": flower, "tree": tree}

#: Channels that show: red, green and blue times the opacity, and the opacity, which says what lives.
VISIBLE = 4


class Growing(Task):
    r"""Grow a pattern or a voxel shape from one cell and keep it, as in `"Growing Neural Cellular Automata"
    <https://distill.pub/2020/growing-ca/>`_ (Mordvintsev et al. 2020).

    With :math:`x` the four visible channels and :math:`t` the shape, the loss is the error
    :math:`E = \lVert x - t \rVert^2 / \lVert t \rVert^2`, zero for the shape itself and one for nothing at all, and

    .. math::
        \mathrm{intactness} = 1 - E, \qquad
        \mathrm{regrowth} = \frac{\mathrm{final} - \mathrm{damaged}}{\mathrm{before} - \mathrm{damaged}}

    of the intactness before a damage, just after it, and after regrowing. The damage empties all channels within a
    ball around a cell of the shape, of a radius of 15 to 35 % of the lattice's size.

    Args:
        shape: ``"flower"``, in two dimensions, or ``"tree"``, in three.
        size: Cells along each axis.
        channels: Channels of the state; the fourth is the opacity.
        neighbourhood: The lattice's.
        damages: Damages that regrowth is measured on; at 0 it is not.
        long_run: Steps after which the shape must still stand; at 0 it is not looked at.

    Raises:
        ValueError: If the shape is unknown, the visible channels are not there or another number is out of range.

    Example:
        >>> task = Growing("flower", size=12, channels=8)
        >>> batch = task.sample(1, torch.Generator().manual_seed(0))
        >>> int((batch.x != 0).any(-1).sum())  # the seed
        1
        >>> task.intactness(torch.zeros(1, 144, 8))
        tensor([0.])
    """

    target: Tensor
    body: Tensor

    @plain_numbers
    def __init__(
        self,
        shape: str = "flower",
        *,
        size: int = 24,
        channels: int = 16,
        neighbourhood: int | Sequence[Sequence[int]] = 8,
        damages: int = 64,
        long_run: int = 10_000,
    ) -> None:
        if shape not in SHAPES:
            raise ValueError(f"shape must be one of {sorted(SHAPES)}, got {shape!r}")
        if channels <= VISIBLE:
            raise ValueError(f"channels must be more than the {VISIBLE} visible ones, got {channels}")
        at_least(1, size=size)
        at_least(0, damages=damages, long_run=long_run)
        target = SHAPES[shape](size)
        super().__init__(Lattice(target.shape[:-1], neighbourhood))
        self.shape, self.channels, self.damages, self.long_run = shape, channels, damages, long_run
        self.register_buffer("target", target.flatten(0, -2), persistent=False)
        self.register_buffer("body", (self.target[:, 3] > 0.1).nonzero().squeeze(1), persistent=False)

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """One living cell in the middle: opacity and hidden channels are one."""
        x = torch.zeros(size, self.lattice.num_nodes, self.channels)
        middle = torch.tensor([extent // 2 for extent in self.target_shape])
        x[:, (self.lattice.positions == middle).all(1).nonzero().squeeze(), 3:] = 1.0
        return Batch(x)

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        """The error, one less the intactness."""
        return 1.0 - self.intactness(x)

    def intactness(self, x: Tensor) -> Tensor:
        """How much of the shape stands, ``[size]``: one for the shape itself, zero for nothing."""
        error = (x[..., :VISIBLE] - self.target).square().sum((1, 2))
        return 1.0 - error / self.target.square().sum()

    def damage(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Empty a ball around a cell of the shape."""
        positions = self.lattice.positions.float()
        places = self.body.cpu()[torch.randint(len(self.body), (len(batch),), generator=generator)]
        radius = (0.15 + 0.2 * torch.rand(len(batch), 1, generator=generator)) * max(self.target_shape)
        kept = torch.cdist(positions[places], positions) > radius
        return replace(batch, x=batch.x * kept[..., None].to(batch.x))

    @property
    def target_shape(self) -> tuple[int, ...]:
        """The lattice's shape."""
        return tuple(self.lattice.shape)  # type: ignore[attr-defined]

    @torch.no_grad()
    def evaluate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """Intactness of the grown, damaged and regrown shape, regrowth, and intactness after a long run.

        Growing and regrowing take four times ``num_steps`` each, so that what is measured is where the automaton
        settles, not a moment of its training. ``regrowth`` is of the means over all damages, ``regrowth_worst`` of the
        worst one. Where a damage leaves no less than there was, as it does of what has gone far astray, there is
        nothing to grow back, and they are NaN.
        """
        generator = torch.Generator().manual_seed(2**31)
        figures = self._regrowth(cell, num_steps, generator) if self.damages else {}
        if self.long_run:
            seed = self.sample(1, generator).to(cell.device)
            late = self.run(cell, seed, num_steps=self.long_run, generator=generator).x
            figures[f"intactness_{self.long_run}"] = float(self.intactness(late))
            figures[f"greatest_{self.long_run}"] = float(late.abs().max())
        return figures

    def _regrowth(self, cell: Cell, num_steps: int, generator: torch.Generator) -> dict[str, float]:
        batch = self.sample(self.damages, generator).to(cell.device)
        grown = self.run(cell, batch, num_steps=4 * num_steps, generator=generator).x
        hurt = self.damage(replace(batch, x=grown), generator)
        regrown = self.run(cell, hurt, num_steps=4 * num_steps, generator=generator).x
        before, damaged, final = (self.intactness(x) for x in (grown, hurt.x, regrown))
        return {
            "before": float(before.mean()),
            "damaged": float(damaged.mean()),
            "final": float(final.mean()),
            "regrowth": float(_share((final - damaged).mean(), (before - damaged).mean())),
            # The least of several of which one is NaN is NaN.
            "regrowth_worst": float(_share(final - damaged, before - damaged).min()),
        }

    @torch.no_grad()
    def draw(self, cell: Cell, folder: Path, *, num_steps: int) -> list[Path]:
        """``growing.gif``: from the seed, then damaged, then grown back; ``growing.png``: shape, grown, damaged, back.

        A voxel shape is seen from its front, what lies behind through what is before it.
        """
        generator = torch.Generator().manual_seed(1)
        batch = self.sample(1, generator).to(cell.device)
        growing = self.run(cell, batch, num_steps=2 * num_steps, trajectory=True, generator=generator)
        hurt = self.damage(replace(batch, x=growing.x), generator)
        regrowing = self.run(cell, hurt, num_steps=2 * num_steps, trajectory=True, generator=generator)
        assert growing.trajectory is not None
        assert regrowing.trajectory is not None
        frames = torch.cat([growing.trajectory[:, 0], regrowing.trajectory[:, 0]])
        shown = [self.target, growing.x[0], hurt.x[0], regrowing.x[0]]
        scale = 8 if len(self.target_shape) == 2 else 12
        picture = torch.cat([self._colours(x) for x in shown], dim=1)
        movie = torch.stack([self._colours(x) for x in frames[::2]])
        return [
            save_animation(movie, folder / "growing.gif", scale=scale),
            save_picture(picture, folder / "growing.png", scale=scale),
        ]

    def _colours(self, x: Tensor) -> Tensor:
        """Visible channels ``[num_nodes, ...]`` as an image on white, ``[height, width, 3]``."""
        grid = x[:, :VISIBLE].clamp(0, 1).reshape(-1, *self.target_shape[-2:], VISIBLE).cpu()
        image, clear = torch.zeros(*grid.shape[1:3], 3), torch.ones(*grid.shape[1:3], 1)
        for depth, layer in enumerate(grid):
            # A little darker the further behind, so that depth is seen.
            image = image + clear * layer[..., :3] * (1 - 0.5 * depth / len(grid))
            clear = clear * (1 - layer[..., 3:])
        return image + clear


def _share(regrown: Tensor, lost: Tensor) -> Tensor:
    """What share of what was lost has regrown; NaN where nothing was lost."""
    return torch.where(lost > 0, regrown / lost, torch.nan)
