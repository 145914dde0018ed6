"""Self-classification: the cells of an image come to agree on what it shows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib import colormaps
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from torch import Tensor

from cellgraph.automata.animation import save_animation, save_picture
from cellgraph.automata.task import Batch, Task
from cellgraph.automata.tasks.digit_images import CLASSES, SIDE, DigitImages, digit_images
from cellgraph.lattice import Lattice
from cellgraph.nn import Cell
from cellgraph.numbers import at_least, plain_numbers

#: What a cell's scores ``[..., 10]`` are worth, beside the classes ``[...]``.
CRITERIA: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": lambda scores, labels: F.cross_entropy(scores.movedim(-1, 1), labels, reduction="none"),
    "squared": lambda scores, labels: (scores - F.one_hot(labels, CLASSES)).square().sum(-1) / 2,
}


class SelfClassification(Task):
    r"""Every cell sees one pixel and must know the whole image's class, as in `"Self-classifying MNIST Digits"
    <https://distill.pub/2020/selforg/mnist/>`_ (Randazzo et al. 2020), background included.

    A cell is told its pixel at every step, as context, and starts with it in its channel 10; channels 0 to 9 are its
    scores of the classes. The loss is the mean over the cells of the cross-entropy, which asks for scores that grow for
    ever, or, as the same article does to make a decision last, of half the squared distance of the scores from one for
    the class and zero for the others. Damage shows settled cells an image that is drawn anew, mostly of another digit;
    their states stay.

    Args:
        channels: Channels of the state.
        neighbourhood: The lattice's.
        criterion: ``"cross_entropy"`` or ``"squared"``.
        seeds: Multi-layer perceptrons that the automaton is compared with, by their seeds; at 0 there are none.

    Raises:
        ValueError: If there is no channel beside the scores, the criterion is unknown or the number of seeds negative.

    Example:
        >>> task = SelfClassification(16)
        >>> batch = task.sample(2, torch.Generator().manual_seed(0))
        >>> batch.x.shape, batch.context.shape
        (torch.Size([2, 64, 16]), torch.Size([2, 64, 1]))
        >>> task.loss(batch.x, batch).exp()  # undecided among ten
        tensor([10.0000, 10.0000])
    """

    #: The pixel.
    context_channels = 1

    @plain_numbers
    def __init__(
        self, channels: int = 24, *, neighbourhood: int = 8, criterion: str = "cross_entropy", seeds: int = 3
    ) -> None:
        if channels <= CLASSES:
            raise ValueError(f"channels must be more than the {CLASSES} scores, got {channels}")
        if criterion not in CRITERIA:
            raise ValueError(f"criterion must be one of {list(CRITERIA)}, got {criterion!r}")
        at_least(0, seeds=seeds)
        super().__init__(Lattice((SIDE, SIDE), neighbourhood))
        self.channels, self.criterion, self.seeds = channels, criterion, seeds
        self.training_images, self.choosing_images, self.held_out = digit_images()

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        """Training images drawn with replacement."""
        return self._batch(self.training_images.draw(size, generator))

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        """The criterion on the cells' scores, in the mean over the cells."""
        assert batch.target is not None
        labels = batch.target[:, None].expand(x.shape[:2])
        return CRITERIA[self.criterion](x[..., :CLASSES], labels).mean(1)

    def damage(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Show the cells, as they are, images drawn anew."""
        others = self.training_images.draw(len(batch), generator)
        return replace(batch, target=others.labels, context=others.pixels[..., None])

    def agreement(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The class that most cells vote for, ``[size]``, and the share of cells that do."""
        votes = F.one_hot(x[..., :CLASSES].argmax(-1), CLASSES).float().mean(1)
        return votes.argmax(1), votes.amax(1)

    @torch.no_grad()
    def validate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """Loss and accuracy on the images to choose settings by."""
        batch = self._batch(self.choosing_images).to(cell.device)
        assert batch.target is not None
        x = self.run(cell, batch, num_steps=num_steps, generator=torch.Generator().manual_seed(2**31 + 1)).x
        return {
            "loss": float(self.loss(x, batch).mean()),
            "accuracy": float((self.agreement(x)[0] == batch.target).float().mean()),
        }

    @torch.no_grad()
    def evaluate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        """Figures on the held-out images, beside plain classifiers trained on the same images.

        ``accuracy`` is of the majority's vote, ``cell_accuracy`` of single cells, ``agreement`` the share of cells
        with the majority, ``unanimous`` the share of images on which all 64 agree; ``accuracy_later`` and
        ``agreement_later`` are after ten times as many steps. ``mlp_accuracy`` is the mean of multi-layer perceptrons
        with one hidden layer and at least as many parameters, ``linear_accuracy`` a logistic regression's.
        """
        batch, generator = self._batch(self.held_out).to(cell.device), torch.Generator().manual_seed(2**31)
        x = self.run(cell, batch, num_steps=num_steps, generator=generator).x
        later = self.run(cell, replace(batch, x=x), num_steps=9 * num_steps, generator=generator).x
        (voted, share), (voted_later, share_later) = self.agreement(x), self.agreement(later)
        assert batch.target is not None
        single = x[..., :CLASSES].argmax(-1) == batch.target[:, None]
        return {
            "accuracy": float((voted == batch.target).float().mean()),
            "cell_accuracy": float(single.float().mean()),
            "agreement": float(share.mean()),
            "unanimous": float((share == 1).float().mean()),
            "accuracy_later": float((voted_later == batch.target).float().mean()),
            "agreement_later": float(share_later.mean()),
            **self._plain(sum(p.numel() for p in cell.parameters())),
        }

    @torch.no_grad()
    def draw(self, cell: Cell, folder: Path, *, num_steps: int) -> list[Path]:
        """``digits.gif``: what each cell of ten held-out images takes it for, by colour, bright where there is ink;
        ``digits.png``: the images above the last of it."""
        first = torch.stack([(self.held_out.labels == digit).nonzero()[0, 0] for digit in range(CLASSES)])
        images = self.held_out.select(first)
        batch, generator = self._batch(images).to(cell.device), torch.Generator().manual_seed(1)
        states = self.run(cell, batch, num_steps=num_steps, trajectory=True, generator=generator).trajectory
        assert states is not None
        palette = torch.from_numpy(colormaps["tab10"](range(CLASSES))[:, :3]).float()
        colours = palette[states[..., :CLASSES].argmax(-1).cpu()] * (0.35 + 0.65 * images.pixels[..., None])
        frames = colours.unflatten(2, (SIDE, SIDE)).transpose(1, 2).flatten(2, 3)
        greys = images.pixels.unflatten(1, (SIDE, SIDE)).transpose(0, 1).flatten(1)[..., None].expand(-1, -1, 3)
        return [
            save_animation(frames, folder / "digits.gif", seconds=0.1),
            save_picture(torch.cat([greys, frames[-1]]), folder / "digits.png"),
        ]

    def _batch(self, images: DigitImages) -> Batch:
        x = torch.zeros(len(images), self.lattice.num_nodes, self.channels)
        x[..., CLASSES] = images.pixels
        return Batch(x, images.labels, images.pixels[..., None])

    def _plain(self, parameters: int) -> dict[str, float]:
        """Accuracies of classifiers that see the whole image at once."""
        hidden = -(-(parameters - CLASSES) // (SIDE * SIDE + 1 + CLASSES))
        pixels, labels = self.training_images.pixels.numpy(), self.training_images.labels.numpy()
        unseen, truth = self.held_out.pixels.numpy(), self.held_out.labels.numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            scores = [
                MLPClassifier(hidden, max_iter=400, random_state=seed).fit(pixels, labels).score(unseen, truth)
                for seed in range(self.seeds)
            ]
            linear = LogisticRegression(max_iter=1000).fit(pixels, labels).score(unseen, truth)
        perceptrons = {"mlp_accuracy": sum(scores) / len(scores), "mlp_hidden": hidden} if scores else {}
        return {**perceptrons, "linear_accuracy": float(linear)}
