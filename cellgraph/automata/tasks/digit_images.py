"""Images of handwritten digits, shared out once and for all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor

SIDE, CLASSES = 8, 10

#: Held-out images; as many more are left for choosing settings, and the rest, 1,077 of 1,797, for training.
HELD_OUT = 360


@dataclass(frozen=True)
class DigitImages:
    """Images with their classes.

    Attributes:
        pixels: Greys from 0 to 1, ``[num_images, 64]``, row by row.
        labels: Digits, ``[num_images]``.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, index: Tensor) -> DigitImages:
        """Some of the images."""
        return DigitImages(self.pixels[index], self.labels[index])

    def draw(self, size: int, generator: torch.Generator) -> DigitImages:
        """Some of the images, drawn with replacement."""
        return self.select(torch.randint(len(self), (size,), generator=generator))


def digit_images() -> tuple[DigitImages, DigitImages, DigitImages]:
    """The digits of 8 x 8 pixels that come with `scikit-learn
    <https://scikit-learn.org/stable/modules/generated/sklearn.datasets.load_digits.html>`_ (Alpaydin and Kaynak 1998):
    those to train on, to choose settings by, and held out.

    Example:
        >>> [len(part) for part in digit_images()]
        [1077, 360, 360]
    """
    pixels, labels = load_digits(return_X_y=True)
    images = DigitImages(torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    held_out, choosing, training = order[:HELD_OUT], order[HELD_OUT : 2 * HELD_OUT], order[2 * HELD_OUT :]
    return images.select(training), images.select(choosing), images.select(held_out)
