"""Rebuilding: a cell knows its kind and its arguments, so that it is saved, loaded and moved to another lattice."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from torch import Tensor, nn

from cellgraph.generators import generator_states, restore_generators
from cellgraph.graph import Graph
from cellgraph.nn.stepping import Stepping

if TYPE_CHECKING:
    from typing_extensions import Self

    from cellgraph.nn.cell import Cell

Constructor = TypeVar("Constructor", bound=Callable[..., None])


def hands_on(to: Callable[..., Any]) -> Callable[[Constructor], Constructor]:
    """Decorate a constructor that hands its ``**options`` on: its signature has the other's keyword arguments.

    Args:
        to: Who takes them.

    Example:
        >>> def outer(*, loud: bool = False) -> None: ...
        >>> @hands_on(outer)
        ... def inner(self, size: int, **options) -> None: ...
        >>> list(inspect.signature(inner).parameters)
        ['self', 'size', 'loud']
    """

    def decorate(constructor: Constructor) -> Constructor:
        own = inspect.signature(constructor)
        kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        theirs = [p for p in inspect.signature(to).parameters.values() if p.kind is p.KEYWORD_ONLY]
        constructor.__signature__ = own.replace(parameters=[*kept, *theirs])  # type: ignore[attr-defined]
        return constructor

    return decorate


def check_taken(part: str, maker: Callable[..., Any], options: Collection[str], *, given: Collection[str]) -> None:
    """Refuse options that a part does not take.

    Args:
        part: The part, in words.
        maker: Who makes it.
        options: Names of the options.
        given: Arguments that are no options: they are given by who has it made.

    Raises:
        ValueError: If it does not take one of them.
    """
    taken = [name for name in inspect.signature(maker).parameters if name not in given]
    if unknown := sorted(set(options) - set(taken)):
        raise ValueError(f"{part} takes {', '.join(taken) or 'no options'}; got {', '.join(unknown)}")


class Rebuildable(Stepping):
    """A cell that can be built again from its :meth:`config`, by the name of its :meth:`kind`."""

    #: The kinds of cells that are known, by name: the library's by the class's, all others with their module's before
    #: it. What is saved names its kind, and is built again where that kind was defined or imported.
    kinds: ClassVar[dict[str, type[Cell]]] = {}

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        Rebuildable.kinds[cls.kind()] = cls  # type: ignore[assignment]

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        """Note the arguments."""
        cell = super().__new__(cls)
        object.__setattr__(cell, "_arguments", (arguments, options))
        return cell

    @classmethod
    def kind(cls) -> str:
        """The name of this kind of cell among :attr:`kinds`."""
        return cls.__name__ if cls.__module__.startswith("cellgraph.") else f"{cls.__module__}.{cls.__qualname__}"

    def config(self) -> dict[str, Any]:
        """The constructor's arguments but the lattice, as plain types.

        They are those that the cell was built with, and where it keeps one under the argument's name as it is now.
        """
        given = self._given().items()
        return {name: self._as_now(name, value) for name, value in given if not isinstance(value, (Graph, Rebuildable))}

    def on(self, lattice: Graph) -> Self:
        """The same cell on another lattice.

        It is built with the same arguments and has a copy of the weights, on the same device and of the same dtype;
        weights that another lattice gives another shape, such as those of each node, are new. Where none are, the
        process's generator is left alone.

        Args:
            lattice: A lattice with the same directions.

        Raises:
            ValueError: If the cell was not given its lattice, so that it cannot be given another.

        Example:
            >>> from cellgraph import GMLPCell, Lattice
            >>> cell = GMLPCell(Lattice((4, 4)), 8, hidden=8).on(Lattice((6, 6)))
            >>> cell.lattice.shape, cell.position.shape
            ((6, 6), torch.Size([36, 8]))
        """
        arguments: dict[str, Any] = {}
        moved = False
        for name, value in self._given().items():
            if value is self.lattice:
                arguments[name], moved = lattice, True
            elif isinstance(value, Rebuildable):
                arguments[name], moved = value.on(lattice), True
            else:
                arguments[name] = copy.deepcopy(self._as_now(name, value))
        if not moved:
            raise ValueError(f"{type(self).__name__} made its lattice itself: it cannot be built on another")
        before = generator_states(cuda=False)
        other = type(self)(**arguments).to(self.device, self.dtype).train(self.training)
        there, here = other.state_dict(), self.state_dict()
        same = {name for name, value in here.items() if name in there and there[name].shape == value.shape}
        other.load_state_dict({name: here[name] for name in same}, strict=False)
        if same == there.keys():
            restore_generators(before)
        trained = {name: parameter.requires_grad for name, parameter in self.named_parameters()}
        for name, parameter in other.named_parameters():
            parameter.requires_grad_(trained.get(name, True))
        return other

    def _given(self) -> dict[str, Any]:
        """The constructor's arguments by name, as they were given."""
        arguments, options = self._arguments
        bound = inspect.signature(type(self).__init__).bind(self, *arguments, **options)
        bound.apply_defaults()
        given: dict[str, Any] = {}
        for name, value in list(bound.arguments.items())[1:]:
            # What a cell takes as **options are arguments like the others.
            passed_on = bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
            given |= value if passed_on else {name: value}
        return given

    def _as_now(self, name: str, given: Any) -> Any:
        now = getattr(self, name, given)
        # Under an argument's name a cell may well keep the module that it has built by it.
        if isinstance(now, (Tensor, nn.Module)) or callable(now):
            now = given
        return list(now) if isinstance(now, tuple) else now
