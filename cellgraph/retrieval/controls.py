"""Controls: networks without a lattice, trained by the same code, loss and number of updates as the lattice.

A table without the row "adapters alone" proves nothing: it tells what the linear adapters do without the cube.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cellgraph.model import ADAPTERS, CellGraphOutput
from cellgraph.nn import LinearAdapter
from cellgraph.numbers import plain_numbers
from cellgraph.pretrained import Pretrained


class AdaptersAlone(Pretrained):
    r"""The model with the identity in the lattice's place.

    .. math::
        s = \mathrm{encode}_q(q), \qquad \hat a = \mathrm{decode}_a(s)

    It is called as :class:`~cellgraph.model.CellGraph` is and returns the same, without states and memory.

    Args:
        question_adapter: From question embedding to surface. Not copied: pass copies of the lattice's fitted adapters,
            or training one trains the other.
        answer_adapter: From surface to answer embedding.

    Shapes:
        - **question:** ``[batch, in_features]``
        - **output.surface:** ``[batch, surface_width]``
        - **output.embedding:** ``[batch, in_features]``

    Raises:
        ValueError: If the adapters' surfaces differ in width.
    """

    def __init__(self, question_adapter: LinearAdapter, answer_adapter: LinearAdapter) -> None:
        super().__init__()
        if question_adapter.out_features != answer_adapter.out_features:
            raise ValueError(
                f"both adapters need one surface width, got {question_adapter.out_features} "
                f"and {answer_adapter.out_features}"
            )
        self.question_adapter = question_adapter
        self.answer_adapter = answer_adapter
        # Only its decoder is in use; its encoder sets the target, which must not move.
        self.answer_adapter.encoder.requires_grad_(False)

    def config(self) -> dict[str, Any]:
        """All that it takes to build the model again, as plain types."""
        name = next(name for name, kind in ADAPTERS.items() if type(self.question_adapter) is kind)
        return {"adapter": {"name": name, **self.question_adapter.config()}}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> AdaptersAlone:
        """A new model from what :meth:`config` gave."""
        options = dict(config)
        adapter = dict(options.pop("adapter"))
        kind = ADAPTERS[adapter.pop("name")]
        return cls(kind(**adapter), kind(**adapter), **options)

    @property
    def surface_width(self) -> int:
        """Width of the surface between the adapters."""
        return self.answer_adapter.out_features

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters of the adapters' parts in use."""
        return {"adapters": _count(self.question_adapter.encoder) + _count(self.answer_adapter.decoder)}

    def forward(
        self,
        question: Tensor,
        memory: Tensor | None = None,
        *,
        num_steps: int | None = None,
        generator: torch.Generator | None = None,
        states: bool = False,
        trajectory: bool = False,
    ) -> CellGraphOutput:
        """Answer questions; the keyword arguments steer a lattice and mean nothing here.

        Raises:
            ValueError: If a memory is given.
        """
        if memory is not None:
            raise ValueError(f"{type(self).__name__} has no memory, got one of shape {list(memory.shape)}")
        surface = self.transform(self.question_adapter.encode(question))
        return CellGraphOutput(embedding=self.answer_adapter.decode(surface), surface=surface)

    def transform(self, surface: Tensor) -> Tensor:
        """What stands in the lattice's place: from input surface to output surface."""
        return surface

    def target_surface(self, answer: Tensor) -> Tensor:
        """The surface that stands for an answer embedding, without gradient: what training aims at."""
        with torch.no_grad():
            return self.answer_adapter.encode(answer)


class LinearMLP(AdaptersAlone):
    r"""The model with a residual two-layer perceptron in the lattice's place.

    .. math::
        s' = s + W_2\, \mathrm{GELU}(W_1\, \mathrm{LayerNorm}(s) + b_1) + b_2

    New, :math:`W_2 = 0` and :math:`b_2 = 0`: it is the identity, as a new lattice is.

    Args:
        question_adapter: From question embedding to surface; not copied.
        answer_adapter: From surface to answer embedding; not copied.
        hidden: Width of the hidden layer: :meth:`hidden_for` gives the one that matches a lattice.

    Shapes:
        - **question:** ``[batch, in_features]``
        - **output.surface:** ``[batch, surface_width]``
        - **output.embedding:** ``[batch, in_features]``

    Raises:
        ValueError: If ``hidden`` is not positive or the adapters' surfaces differ in width.
    """

    @plain_numbers
    def __init__(self, question_adapter: LinearAdapter, answer_adapter: LinearAdapter, *, hidden: int) -> None:
        super().__init__(question_adapter, answer_adapter)
        if hidden < 1:
            raise ValueError(f"hidden must be positive, got {hidden}")
        self.hidden = hidden
        output = nn.Linear(hidden, self.surface_width)
        nn.init.zeros_(output.weight)
        nn.init.zeros_(output.bias)
        self.mlp = nn.Sequential(
            nn.LayerNorm(self.surface_width), nn.Linear(self.surface_width, hidden), nn.GELU(), output
        )

    @staticmethod
    def hidden_for(num_parameters: int, surface_width: int) -> int:
        r"""The hidden width whose perceptron comes nearest to a number of parameters.

        A hidden unit costs :math:`2 S + 1` parameters, the norm and the last bias :math:`3 S`; so the nearest is at
        most :math:`S + \tfrac{1}{2}` parameters away, 0.9 % of 25,000 at :math:`S = 225`, unless a single hidden unit
        is already more.

        Args:
            num_parameters: Parameters of what the perceptron replaces: the sum of the cell's ``parameter_counts()``.
            surface_width: Width of the surface, :math:`S`.

        Raises:
            ValueError: If a number is not positive.

        Example:
            >>> LinearMLP.hidden_for(25_415, 225)
            55
        """
        if min(num_parameters, surface_width) < 1:
            raise ValueError(f"hidden_for needs positive numbers, got {num_parameters} and {surface_width}")
        return max(1, round((num_parameters - 3 * surface_width) / (2 * surface_width + 1)))

    def config(self) -> dict[str, Any]:
        """All that it takes to build the model again, as plain types."""
        return {**super().config(), "hidden": self.hidden}

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters of the adapters' parts in use and of the perceptron."""
        return super().parameter_counts() | {"mlp": _count(self.mlp)}

    def transform(self, surface: Tensor) -> Tensor:
        """From input surface to output surface."""
        return surface + self.mlp(surface)

    def extra_repr(self) -> str:
        """The hidden width."""
        return f"hidden={self.hidden}"


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
