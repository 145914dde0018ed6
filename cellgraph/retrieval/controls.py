"""Controls: networks without a lattice, trained by the same code, loss and number of updates as the lattice.

A table without the row "adapters alone" proves nothing: it tells what the linear adapters do without the cube.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cellgraph.ends import ADAPTERS
from cellgraph.model import CellGraphOutput
from cellgraph.nn import LinearAdapter, LinearPath
from cellgraph.numbers import plain_numbers
from cellgraph.pretrained import Pretrained
from cellgraph.retrieval.perceptron import ResidualPerceptron
from cellgraph.sequence import mean_token


class Control(Pretrained):
    """A network without a lattice, called as :class:`~cellgraph.model.CellGraph` is.

    Args:
        answer_adapter: Its encoder gives the surface of an answer, and does not move. Not copied.

    Shapes:
        - **question:** ``[batch, in_features]``
        - **output.surface:** ``[batch, surface_width]``
        - **output.embedding:** ``[batch, in_features]``
    """

    #: No control has a memory.
    remembers: ClassVar[bool] = False
    #: The kinds of controls by name.
    kinds: ClassVar[dict[str, type[Control]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        Control.kinds[cls.__name__] = cls

    def __init__(self, answer_adapter: LinearAdapter) -> None:
        super().__init__()
        self.answer_adapter = answer_adapter
        # It sets the target.
        self.answer_adapter.encoder.requires_grad_(False)

    def config(self) -> dict[str, Any]:
        """All that it takes to build the model again, as plain types."""
        names, kind = {made: name for name, made in ADAPTERS.items()}, type(self.answer_adapter)
        if kind not in names:
            raise ValueError(f"the adapter must be one of {sorted(ADAPTERS)} to be saved, got a {kind.__name__}")
        return {"kind": type(self).__name__, "adapter": {"name": names[kind], **self.answer_adapter.config()}}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Control:
        """A new model of the kind that :meth:`config` names."""
        options = dict(config)
        adapter = dict(options.pop("adapter"))
        kind = ADAPTERS[adapter.pop("name")]
        return Control.kinds[options.pop("kind")].new(lambda: kind(**adapter), **options)

    @classmethod
    def new(cls, adapter: Callable[[], LinearAdapter], **options: Any) -> Control:
        """A new one, its parts made by ``adapter``."""
        raise NotImplementedError

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
        # Of token states what the network would read as one vector.
        embedding, surface, query = self.answer(mean_token(question) if question.dim() == 3 else question)
        return CellGraphOutput(embedding=embedding, surface=surface, query=query)

    def answer(self, question: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The answers, their surfaces and their queries."""
        raise NotImplementedError

    def key(self, answer: Tensor) -> Tensor:
        """What queries are compared with to find answers."""
        return answer

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters, by part."""
        raise NotImplementedError

    def target_surface(self, answer: Tensor) -> Tensor:
        """The surface that stands for an answer embedding, without gradient: what training aims at."""
        with torch.no_grad():
            return self.answer_adapter.encode(answer)


class AdaptersAlone(Control):
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
        super().__init__(answer_adapter)
        if question_adapter.out_features != answer_adapter.out_features:
            raise ValueError(
                f"both adapters need one surface width, got {question_adapter.out_features} "
                f"and {answer_adapter.out_features}"
            )
        self.question_adapter = question_adapter

    @classmethod
    def new(cls, adapter: Callable[[], LinearAdapter], **options: Any) -> AdaptersAlone:
        """A new one, its adapters made by ``adapter``."""
        return cls(adapter(), adapter(), **options)

    @property
    def surface_width(self) -> int:
        """Width of the surface between the adapters."""
        return self.answer_adapter.out_features

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters of the adapters' parts in use."""
        return {"adapters": _count(self.question_adapter.encoder) + _count(self.answer_adapter.decoder)}

    def answer(self, question: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The answers, their surfaces and their queries."""
        surface = self.transform(self.question_adapter.encode(question))
        embedding = self.answer_adapter.decode(surface)
        return embedding, surface, embedding

    def transform(self, surface: Tensor) -> Tensor:
        """What stands in the lattice's place: from input surface to output surface."""
        return surface


class LinearMLP(AdaptersAlone):
    """The model with a :class:`~cellgraph.retrieval.perceptron.ResidualPerceptron` in the lattice's place.

    New, it is the identity, as a new lattice is.

    Args:
        question_adapter: From question embedding to surface; not copied.
        answer_adapter: From surface to answer embedding; not copied.
        hidden: Width of the hidden layer: :meth:`hidden_for` gives the one that matches a lattice.
        layers, dropout: Of the perceptron.

    Shapes:
        - **question:** ``[batch, in_features]``
        - **output.surface:** ``[batch, surface_width]``
        - **output.embedding:** ``[batch, in_features]``

    Raises:
        ValueError: If a number is out of range or the adapters' surfaces differ in width.
    """

    @plain_numbers
    def __init__(
        self,
        question_adapter: LinearAdapter,
        answer_adapter: LinearAdapter,
        *,
        hidden: int,
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(question_adapter, answer_adapter)
        self.mlp_options = {"hidden": hidden, "layers": layers, "dropout": dropout}
        self.mlp = ResidualPerceptron(self.surface_width, hidden=hidden, layers=layers, dropout=dropout)

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
        return {**super().config(), **self.mlp_options}

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters of the adapters' parts in use and of the perceptron."""
        return super().parameter_counts() | {"mlp": _count(self.mlp)}

    def transform(self, surface: Tensor) -> Tensor:
        """From input surface to output surface."""
        return surface + self.mlp(surface)


class PathAlone(Control):
    """The model with a linear path and no lattice beside it, or a
    :class:`~cellgraph.retrieval.perceptron.ResidualPerceptron` in its place.

    Answers are found and embedded as those of the network.

    Args:
        path: The path; not copied.
        answer_adapter: Gives the surface of an answer; not copied.
        hidden: Width of the perceptron's hidden layer; 0 is none.
        layers, dropout: Of the perceptron.

    Raises:
        ValueError: If a number is out of range.
    """

    @plain_numbers
    def __init__(
        self,
        path: LinearPath,
        answer_adapter: LinearAdapter,
        *,
        hidden: int = 0,
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(answer_adapter)
        self.answer_adapter.requires_grad_(False)
        self.path, self.mlp = path, None
        self.mlp_options = {"hidden": hidden, "layers": layers, "dropout": dropout} if hidden else {}
        if hidden:
            width = path.linear.in_features
            self.mlp = ResidualPerceptron(width, hidden=hidden, layers=layers, dropout=dropout)

    @classmethod
    def new(cls, adapter: Callable[[], LinearAdapter], **options: Any) -> PathAlone:
        """A new one, its answer adapter made by ``adapter``."""
        answer_adapter, key = adapter(), options.pop("key")
        return cls(LinearPath(answer_adapter.in_features, key=key), answer_adapter, **options)

    def config(self) -> dict[str, Any]:
        """All that it takes to build the model again, as plain types."""
        return {**super().config(), **self.mlp_options, "key": "none" if self.path.keys is None else "linear"}

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters of the path's parts and of the perceptron."""
        counts = {name: sum(map(_count, found)) for name, found in self.path.parts().items()}
        return counts if self.mlp is None else counts | {"mlp": _count(self.mlp)}

    def answer(self, question: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The answers, their surfaces and their queries."""
        z = self.path.question(question)
        y = self.path(z) if self.mlp is None else self.path(z) + self.mlp(z)
        return self.path.embedding(z, y), self.answer_adapter.encode(y), y

    def key(self, answer: Tensor) -> Tensor:
        """What queries are compared with to find answers."""
        return self.path.key(answer)

    def target_surface(self, answer: Tensor) -> Tensor:
        """The surface that stands for an answer embedding, without gradient: what training aims at."""
        return super().target_surface(self.path.answer(answer))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
