"""Passage: an image through a cube with a wall in the middle and a small hole in the wall."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from cellgraph.automata.animation import save_animation, save_picture
from cellgraph.automata.task import Batch, Task
from cellgraph.automata.tasks.digit_images import SIDE, DigitImages, digit_images
from cellgraph.lattice import Lattice
from cellgraph.nn import Cell
from cellgraph.numbers import at_least, plain_numbers


class Passage(Task):
    r"""A digit enters the front face of a cube and must appear on the back one, as shown without a figure in `"CAX:
    Cellular Automata Accelerated in JAX" <https://arxiv.org/abs/2410.02651>`_ ("Self-autoencoding MNIST digits").

    The layer in the middle has no cells but those of a square hole: all that the back half ever hears has come
    through them. The image is clamped: cells of the front face are told their pixel at every step. Beside it, every
    cell is told a few numbers of its own, the same for all images and learned with the cell, so that one shared rule
    acts differently by place. The loss looks at the first channel of the back face alone:

    .. math:: \ell(x) = \frac{1}{64} \sum_{i \in \mathrm{back}} (x_{i,0} - t_i)^2

    Args:
        depth: Layers, an odd number.
        hole: Width of the hole, in cells.
        channels: Channels of the state, at least 1.
        substrate: Numbers that each cell is told beside its pixel; at 0 none.
        neighbourhood: The lattice's.

    Raises:
        ValueError: If the depth is even or less than three, the hole not smaller than the face or another number out
            of range.

    Example:
        >>> task = Passage(5, hole=2)
        >>> task.lattice.num_nodes  # four layers and the hole
        260
        >>> int(task.lattice.face("back").sum())
        64
    """

    @plain_numbers
    def __init__(
        self, depth: int = 7, *, hole: int = 2, channels: int = 16, substrate: int = 8, neighbourhood: int = 6
    ) -> None:
        if depth < 3 or depth % 2 == 0 or not 0 < hole < SIDE:
            raise ValueError(f"depth must be odd and at least 3 and hole in 1 to {SIDE - 1}, got {depth} and {hole}")
        at_least(1, channels=channels)
        at_least(0, substrate=substrate)
        mask = np.ones((depth, SIDE, SIDE), dtype=bool)
        start = (SIDE - hole) // 2
        mask[depth // 2] = False
        mask[depth // 2, start : start + hole, start : start + hole] = True
        lattice = Lattice((depth, SIDE, SIDE), neighbourhood, mask=mask)
        super().__init__(lattice)
        self.hole, self.channels = hole, channels
        # The pixel, and what is each cell's own.
        self.context_channels = 1 + substrate
        self.front, self.back = lattice.face("front"), lattice.face("back")
        self.substrate = nn.Parameter(torch.randn(1, lattice.num_nodes, substrate))
        self.training_images, self.choosing_images, self.held_out = digit_images()

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """Training images drawn with replacement."""
        return self._batch(self.training_images.draw(size, generator))

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        """The mean squared error on the back face."""
        assert batch.target is not None
        return (self._seen(x) - batch.target).square().mean(1)

    @torch.no_grad()
    def validate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """The loss on the images to choose settings by."""
        batch = self._batch(self.choosing_images).to(cell.device)
        x = self.run(cell, batch, num_steps=num_steps, generator=torch.Generator().manual_seed(2**31 + 1)).x
        return {"loss": float(self.loss(x, batch).mean())}

    @torch.no_grad()
    def evaluate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """Figures on the held-out images.

        ``error`` is the mean squared error and ``explained`` the share of the variance explained, beside those of the
        training images' first principal components (one for each cell of the hole, and 16 for each);
        ``digit_accuracy`` is a logistic regression's, trained on the images themselves, on what arrives, beside the
        images' own.
        """
        batch, generator = self._batch(self.held_out).to(cell.device), torch.Generator().manual_seed(2**31)
        seen = self._seen(self.run(cell, batch, num_steps=num_steps, generator=generator).x).cpu()
        images, mean = self.held_out.pixels, self.training_images.pixels.mean(0)
        variance = (images - mean).square().mean()
        judge = LogisticRegression(max_iter=1000)
        judge.fit(self.training_images.pixels.numpy(), self.training_images.labels.numpy())
        truth = self.held_out.labels.numpy()
        error = (seen - images).square().mean()
        figures = {
            "error": float(error),
            "explained": float(1 - error / variance),
            "mean_image_error": float(variance),
            "digit_accuracy": float(judge.score(seen.numpy(), truth)),
            "images_accuracy": float(judge.score(images.numpy(), truth)),
        }
        for components in {self.hole**2, min(16 * self.hole**2, SIDE * SIDE - 1)}:
            linear = PCA(components).fit(self.training_images.pixels.numpy())
            restored = torch.from_numpy(linear.inverse_transform(linear.transform(images.numpy())))
            figures[f"pca{components}_explained"] = float(1 - (restored - images).square().mean() / variance)
        return figures

    @torch.no_grad()
    def draw(self, cell: Cell, folder: Path, *, num_steps: int) -> list[Path]:
        """``passage.gif``: for three held-out digits, the image, then the layers from front to back, step by step, by
        the first channel; ``passage.png``: ten held-out digits above what has arrived of them."""
        firsts = torch.stack([(self.held_out.labels == digit).nonzero()[0, 0] for digit in range(10)])
        images = self.held_out.select(firsts)
        batch, generator = self._batch(images).to(cell.device), torch.Generator().manual_seed(1)
        states = self.run(cell, batch, num_steps=num_steps, trajectory=True, generator=generator).trajectory
        assert states is not None
        arrived = torch.stack([images.pixels, self._seen(states[-1]).cpu()])
        rows = arrived.unflatten(2, (SIDE, SIDE)).permute(0, 2, 1, 3)
        shape = self.lattice.shape  # type: ignore[attr-defined]
        voxels = torch.full((len(states), 3, shape[0] * SIDE * SIDE), 0.5, dtype=states.dtype)
        voxels[..., self.lattice.grid_index] = states[:, :3, :, 0].cpu()  # type: ignore[attr-defined]
        layers = voxels.reshape(len(states), 3, shape[0], SIDE, SIDE)
        entering = images.pixels[:3].reshape(1, 3, 1, SIDE, SIDE).expand(len(states), -1, -1, -1, -1)
        framed = nn.functional.pad(torch.cat([entering, layers], dim=2), (0, 1, 0, 1), value=0.5)
        frames = framed.permute(0, 1, 3, 2, 4).flatten(3).flatten(1, 2)
        return [
            save_animation(frames, folder / "passage.gif", seconds=0.15),
            save_picture(rows.flatten(2).flatten(0, 1), folder / "passage.png"),
        ]

    def _seen(self, x: Tensor) -> Tensor:
        return x[:, self.back, 0]

    def _batch(self, images: DigitImages) -> Batch:
        entering = images.pixels.new_zeros(len(images), self.lattice.num_nodes, 1)
        entering[:, self.front, 0] = images.pixels
        own = self.substrate.expand(len(images), -1, -1)
        context = torch.cat([entering.to(own.device), own], dim=-1)
        return Batch(torch.zeros(len(images), self.lattice.num_nodes, self.channels), images.pixels, context)
