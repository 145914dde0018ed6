"""The perceptron: what stands in the lattice's place in a control."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cellgraph.numbers import plain_numbers

#: Modules of a layer.
_PARTS = 4


class ResidualPerceptron(nn.Sequential):
    r"""What residual perceptrons, one after the other, add to their input.

    .. math::
        x_{l+1} = x_l + W_2\, \mathrm{dropout}(\mathrm{GELU}(W_1\, \mathrm{LayerNorm}(x_l) + b_1)) + b_2, \qquad
        y = x_L - x_0

    New, every :math:`W_2` and :math:`b_2` is zero: nothing is added.

    Args:
        width: Width of the input.
        hidden: Width of the hidden layers.
        layers: How many there are.
        dropout: Share of the hidden units that are left out in training.

    Shapes:
        - **x**, **output:** ``[..., width]``

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> sum(p.numel() for p in ResidualPerceptron(8, hidden=16, layers=2).parameters())
        592
    """

    @plain_numbers
    def __init__(self, width: int, *, hidden: int, layers: int = 1, dropout: float = 0.0) -> None:
        self.check(hidden=hidden, layers=layers, dropout=dropout)
        super().__init__()
        # Not nested: the weights of one layer have the names that they always had.
        for _ in range(layers):
            output = nn.Linear(hidden, width)
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)
            activation = nn.Sequential(nn.GELU(), nn.Dropout(dropout))
            self.extend((nn.LayerNorm(width), nn.Linear(width, hidden), activation, output))

    @staticmethod
    @plain_numbers
    def check(*, hidden: int = 1, layers: int = 1, dropout: float = 0.0) -> None:
        """Refuse numbers that are out of range."""
        for name, value in (("hidden", hidden), ("layers", layers)):
            if value < 1:
                raise ValueError(f"{name} must be positive, got {value}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")

    def forward(self, x: Tensor) -> Tensor:
        """What they add."""
        change, parts = torch.zeros_like(x), list(self.children())
        for start in range(0, len(parts), _PARTS):
            y = x + change
            for part in parts[start : start + _PARTS]:
                y = part(y)
            change = change + y
        return change
