"""Mixing blocks: what else a sequence can be read with, made of PyTorch's and transformers' own parts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cellgraph.numbers import plain_numbers
from cellgraph.sequence.block import Block


class Perceptron(Block):
    """A residual perceptron of each place by itself: nothing is mixed.

    Args:
        width: Features of a place.
        hidden: Units of the hidden layer.
    """

    kind = "perceptron"

    @plain_numbers
    def __init__(self, width: int, *, hidden: int = 128) -> None:
        super().__init__(width, hidden=hidden)
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The sequence that follows."""
        return (x + self.layers(x)) * mask[..., None], mask


class Convolution(Block):
    """A residual convolution along the sequence.

    Args:
        width: Features of a place.
        hidden: Features that the convolution gives.
        kernel: Its length, odd.

    Raises:
        ValueError: If the kernel is even.
    """

    kind = "convolution"

    @plain_numbers
    def __init__(self, width: int, *, hidden: int = 128, kernel: int = 3) -> None:
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd and positive, got {kernel}")
        super().__init__(width, hidden=hidden, kernel=kernel)
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, hidden, kernel, padding=kernel // 2)
        self.output = nn.Linear(hidden, width)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The sequence that follows."""
        heard = (self.norm(x) * mask[..., None]).transpose(1, 2)
        changed = self.output(nn.functional.gelu(self.convolution(heard).transpose(1, 2)))
        return (x + changed) * mask[..., None], mask


class Transformer(Block):
    """Layers of a transformer encoder (`Vaswani et al. 2017 <https://arxiv.org/abs/1706.03762>`_), PyTorch's own, norms
    first, with learned positions.

    Args:
        width: Features of a place.
        heads: Heads of the attention; they divide the width.
        hidden: Units of the perceptrons.
        layers: How many layers.
        max_length: The longest sequence, for which there are positions.

    Raises:
        ValueError: If the heads do not divide the width.
    """

    kind = "transformer"

    @plain_numbers
    def __init__(
        self, width: int, *, heads: int = 4, hidden: int = 128, layers: int = 1, max_length: int = 512
    ) -> None:
        if heads < 1 or width % heads:
            raise ValueError(f"heads must divide the width {width}, got {heads}")
        super().__init__(width, heads=heads, hidden=hidden, layers=layers, max_length=max_length)
        self.capacity = max_length
        self.positions = nn.Parameter(torch.randn(max_length, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The sequence that follows."""
        # Of a sequence without anything the softmax would be of nothing.
        absent = ~mask & mask.any(1, keepdim=True)
        mixed = self.layers(x + self.positions[: x.size(1)], src_key_padding_mask=absent)
        return mixed * mask[..., None], mask


class Mamba(Block):
    """A selective state space model (`Gu and Dao 2023 <https://arxiv.org/abs/2312.00752>`_,
    `Dao and Gu 2024 <https://arxiv.org/abs/2405.21060>`_), that of transformers.

    Args:
        width: Features of a place.
        state: Size of the state of each feature.
        expand: Inner features a feature.
        layers: How many layers.
        version: 1, or 2 for Mamba-2, whose inner features are divided among heads.
        head_width: Inner features of a head of Mamba-2.

    Raises:
        ValueError: If the version is unknown, or the heads do not divide the inner features.
    """

    kind = "mamba"

    @plain_numbers
    def __init__(
        self,
        width: int,
        *,
        state: int = 16,
        expand: int = 2,
        layers: int = 1,
        version: int = 1,
        head_width: int = 32,
    ) -> None:
        super().__init__(width, state=state, expand=expand, layers=layers, version=version, head_width=head_width)
        common: dict[str, Any] = {
            "hidden_size": width,
            "state_size": state,
            "expand": expand,
            "num_hidden_layers": layers,
            "vocab_size": 1,
            "use_cache": False,
        }
        if version == 1:
            from transformers import MambaConfig, MambaModel

            self.model: Any = MambaModel(MambaConfig(**common))
        elif version == 2:
            from transformers import Mamba2Config, Mamba2Model

            if head_width < 1 or expand * width % head_width:
                raise ValueError(f"head_width must divide the {expand * width} inner features, got {head_width}")
            heads = expand * width // head_width
            self.model = Mamba2Model(
                Mamba2Config(**common, num_heads=heads, head_dim=head_width, n_groups=1, chunk_size=16)
            )
        else:
            raise ValueError(f"version must be 1 or 2, got {version}")
        # What is read are vectors, not numbers of tokens.
        del self.model.embeddings

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The sequence that follows."""
        mixed = self.model(inputs_embeds=x, attention_mask=mask.to(x.dtype)).last_hidden_state
        return mixed * mask[..., None], mask


class Recurrence(Block):
    """A gated recurrent unit (`Cho et al. 2014 <https://arxiv.org/abs/1406.1078>`_) along the sequence.

    Args:
        width: Features of a place.
        hidden: Size of its state.
    """

    kind = "gru"

    @plain_numbers
    def __init__(self, width: int, *, hidden: int = 64) -> None:
        super().__init__(width, hidden=hidden)
        self.norm, self.unit = nn.LayerNorm(width), nn.GRU(width, hidden, batch_first=True)
        self.output = nn.Linear(hidden, width)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The sequence that follows."""
        states, _ = self.unit(self.norm(x))
        return (x + self.output(states)) * mask[..., None], mask


class Window(Block):
    """A residual perceptron of each place and those before it, side by side.

    Args:
        width: Features of a place.
        hidden: Units of the hidden layer.
        size: How many places are heard, the place itself among them.
    """

    kind = "window"

    @plain_numbers
    def __init__(self, width: int, *, hidden: int = 128, size: int = 2) -> None:
        if size < 1:
            raise ValueError(f"size must be positive, got {size}")
        super().__init__(width, hidden=hidden, size=size)
        self.layers = nn.Sequential(
            nn.LayerNorm(size * width), nn.Linear(size * width, hidden), nn.GELU(), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The sequence that follows."""
        size = self.options["size"]
        padded = nn.functional.pad(x, (0, 0, size - 1, 0))
        heard = torch.cat([padded[:, place : place + x.size(1)] for place in range(size)], dim=-1)
        return (x + self.layers(heard)) * mask[..., None], mask
