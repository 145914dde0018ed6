"""Controls: networks without a lattice, trained by the same code, loss and number of updates as the lattice.

A table without the row "adapters alone" proves nothing: it tells what the linear adapters do without the cube.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cellgraph.ends import ADAPTERS
from cellgraph.model import CellGraph, CellGraphOutput
from cellgraph.nn import LinearAdapter, LinearPath
from cellgraph.numbers import plain_numbers
from cellgraph.pretrained import Pretrained
from cellgraph.retrieval.perceptron import ResidualPerceptron
from cellgraph.sequence import SequenceGraph, mean_token


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
        name = next(name for name, kind in ADAPTERS.items() if type(self.answer_adapter) is kind)
        return {"kind": type(self).__name__, "adapter": {"name": name, **self.answer_adapter.config()}}

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


def alone(model: CellGraph | SequenceGraph) -> Control:
    """A network without its lattice: what is left has the same parts, not copies of them."""
    if model.path is not None:
        return PathAlone(model.path, model.answer_adapter)
    assert isinstance(model, CellGraph)
    return AdaptersAlone(model.question_adapter, model.answer_adapter)


def with_perceptron(model: CellGraph | SequenceGraph, **options: Any) -> Control:
    """A network with a perceptron in its lattice's place, on copies of the same parts.

    Args:
        model: The network.
        options: Of the perceptron; by default it has one layer, of as many parameters as the lattice.
    """
    counts, adapter = model.parameter_counts(), copy.deepcopy(model.answer_adapter)
    if model.path is not None:
        lattice = sum(count for name, count in counts.items() if name not in model.path.parts())
        hidden = LinearMLP.hidden_for(lattice, model.in_features)
        return PathAlone(copy.deepcopy(model.path), adapter, **{"hidden": hidden, **options})
    assert isinstance(model, CellGraph)
    hidden = LinearMLP.hidden_for(sum(counts.values()) - counts["adapters"], model.input_surface.width)
    return LinearMLP(copy.deepcopy(model.question_adapter), adapter, **{"hidden": hidden, **options})


def with_chain(model: CellGraph | SequenceGraph, chain: Any) -> SequenceGraph:
    """A new network that is a chain of blocks, with copies of a network's path.

    It is over tokens if that is, else over turns.

    Args:
        model: The network.
        chain: The blocks, see :class:`~cellgraph.sequence.SequenceGraph`; or a mapping with these as ``blocks``, and
            their ``width``.

    Raises:
        ValueError: If a block is unknown, or the network has no path.
    """
    given = chain if isinstance(chain, Mapping) else {"blocks": chain}
    if "blocks" not in given or given.keys() - {"blocks", "width"}:
        raise ValueError(f"a chain is a list of blocks, or a mapping with blocks and width; got {chain!r}")
    if isinstance(model, SequenceGraph):
        return model.with_blocks(**given)
    if model.path is None:
        raise ValueError("a chain of blocks stands beside a linear path, and the network has model.path=none")
    surface = model.answer_adapter.out_features
    features = model.in_features
    twin = SequenceGraph(in_features=features, over="turns", key=model.key_kind, surface_width=surface, **given)
    twin.path.load_state_dict(model.path.state_dict())
    twin.answer_adapter.load_state_dict(model.answer_adapter.state_dict())
    twin.token_mean.copy_(model.path.question_mean)
    twin.token_scale.copy_(model.path.question_scale)
    return twin


def with_frozen_cell(model: CellGraph) -> CellGraph:
    """A copy of a new network whose cell stays as it is, random: what it is worth that the cell is learned.

    What starts at zero, and would leave the cell without effect, is drawn from a normal distribution instead, as wide
    as a linear layer's.
    """
    twin = copy.deepcopy(model)
    for parameter in twin.cell.parameters():
        if not parameter.any() and parameter.dim() > 1:
            nn.init.normal_(parameter, std=parameter.size(-1) ** -0.5)
    twin.cell.requires_grad_(False)
    return twin


def without_lateral_messages(model: CellGraph) -> CellGraph:
    """A copy of a new network whose cells hear those before and behind them alone: what it is worth that they mix.

    Before and behind is along the way from the input to the output surface.

    Raises:
        ValueError: If no shift leads from the one to the other.
    """
    direction, lattice = model.conveyor.direction, model.lattice
    if direction is None or not model.conveyor.hops:
        raise ValueError("no one direction leads from the input to the output surface: all messages are lateral")
    ahead = lattice.offsets[direction]
    behind = tuple(-step for step in ahead)
    config = model.config()
    config["lattice"] = {**config["lattice"], "neighbourhood": [list(ahead), list(behind)]}
    twin = CellGraph.from_config(config)
    for name in ("question_adapter", "answer_adapter", "path"):
        part = getattr(model, name)
        if part is not None:
            getattr(twin, name).load_state_dict(part.state_dict())
    return twin.to(model.cell.dtype)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
