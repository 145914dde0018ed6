"""The convolutional tokeniser: neighbouring tokens made one."""

from __future__ import annotations

from torch import Tensor, nn

from cellgraph.numbers import plain_numbers
from cellgraph.sequence.block import Block


class ConvTokenizer(Block):
    """Convolution, ReLU and max-pooling along the sequence, as the compact convolutional transformer has them
    (`Hassani et al. 2021 <https://arxiv.org/abs/2104.05704>`_, section 3.3).

    Args:
        width: Features of a place.
        kernel: Length of the convolution, odd.
        pool: Length of the pooling, odd.
        stride: By how much the pooling shortens the sequence.

    Raises:
        ValueError: If a length is even, a number not positive, or the stride longer than what a place hears.
    """

    kind = "cct"

    @plain_numbers
    def __init__(self, width: int, *, kernel: int = 3, pool: int = 3, stride: int = 1) -> None:
        for name, value in (("kernel", kernel), ("pool", pool)):
            if value < 1 or value % 2 == 0:
                raise ValueError(f"{name} must be odd and positive, got {value}")
        if stride < 1:
            raise ValueError(f"stride must be positive, got {stride}")
        # A place hears as many tokens on either side, and none comes after the last one's.
        if stride > (kernel + pool) // 2:
            heard = f"kernel={kernel} and pool={pool} hear {(kernel + pool) // 2 - 1} tokens on either side"
            raise ValueError(f"stride={stride} would leave tokens unheard: {heard}")
        super().__init__(width, kernel=kernel, pool=pool, stride=stride)
        self.stride = stride
        self.convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.pool = nn.MaxPool1d(pool, stride, padding=pool // 2)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The sequence that follows, ``ceil(length / stride)`` long."""
        # After a ReLU zero is the least, so that what is not there never is the greatest.
        made = nn.functional.relu(self.convolution(x.transpose(1, 2))) * mask[:, None]
        mask = mask[:, :: self.stride]
        return self.pool(made).transpose(1, 2)[:, : mask.size(1)] * mask[..., None], mask
