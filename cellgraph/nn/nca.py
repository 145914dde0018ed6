"""The neural cellular automaton: a cell put together from a perception and an update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.graph import Graph
from cellgraph.nn.cell import Cell
from cellgraph.nn.perception import AttentionPerception, FilterPerception, PooledPerception, StencilPerception
from cellgraph.nn.rebuilding import check_taken, hands_on
from cellgraph.nn.update import BoundedUpdate, GRUUpdate, MLPUpdate
from cellgraph.numbers import plain, plain_numbers

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from cellgraph.nn.cell import CellOptions

PERCEPTIONS: dict[str, type[nn.Module]] = {
    "filters": FilterPerception,
    "stencil": StencilPerception,
    "pooled": PooledPerception,
    "attention": AttentionPerception,
}
UPDATES: dict[str, type[nn.Module]] = {"mlp": MLPUpdate, "bounded": BoundedUpdate, "gru": GRUUpdate}
NORMS = ("none", "rms")
#: What a cell gives its parts itself.
GIVEN = ("lattice", "channels", "in_channels", "context_channels")


class NCACell(Cell):
    r"""A neural cellular automaton as in `"Growing Neural Cellular Automata" <https://distill.pub/2020/growing-ca/>`_,
    with a choice of its parts.

    .. math::
        x_i \leftarrow x_i + m_i \, \epsilon \, \mathrm{update}(\mathrm{perceive}(\mathrm{Norm}(x))_i, c_i)

    Args:
        lattice: The lattice or other graph.
        channels: Channels of the state.
        perception: ``"filters"``, ``"stencil"`` (learned), ``"pooled"`` (that and maxima over all cells) or
            ``"attention"``; or keyword arguments of the perception beside its ``name``, see
            :mod:`cellgraph.nn.perception`.
        update: ``"mlp"``, ``"bounded"`` or ``"gru"``, likewise, see :mod:`cellgraph.nn.update`.
        norm: ``"rms"``: what is perceived is the state divided by its root mean square over the channels
            (`Zhang and Sennrich 2019 <https://arxiv.org/abs/1910.07467>`_), so that the update does not grow with the
            state; ``"none"``.
        options: Those of every :class:`Cell`.

    Raises:
        ValueError: If a name is unknown or a part refuses its arguments.

    Example:
        >>> import torch
        >>> from cellgraph import Lattice
        >>> cell = NCACell(Lattice((8, 8), 8), 16, update={"name": "mlp", "hidden": 64}, fire_rate=0.5)
        >>> x = torch.randn(2, 64, 16)
        >>> torch.equal(cell(x), x)  # a new cell does nothing
        True
    """

    @plain_numbers
    @hands_on(Cell.__init__)
    def __init__(
        self,
        lattice: Graph,
        channels: int = 16,
        *,
        perception: str | Mapping[str, Any] = "filters",
        update: str | Mapping[str, Any] = "mlp",
        norm: str = "none",
        **options: Unpack[CellOptions],
    ) -> None:
        super().__init__(lattice, channels, **options)
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {NORMS}, got {norm!r}")
        self.norm = norm
        self.parts = {
            "perception": _options("perception", perception, PERCEPTIONS),
            "update": _options("update", update, UPDATES),
        }
        name, given = _split(self.parts["perception"])
        self.perception: Any = PERCEPTIONS[name](lattice, channels, **given)
        name, given = _split(self.parts["update"])
        self.updating: Any = UPDATES[name](
            self.perception.out_channels, channels, context_channels=self.context_channels, **given
        )

    @property
    def hears_all(self) -> bool:
        """Whether a cell hears all others in one step, and not its neighbours alone."""
        return getattr(self.perception, "hears_all", False)

    def perceive(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """What the perception makes of the neighbourhoods, ``[batch, num_nodes, perception.out_channels]``."""
        if self.norm == "rms":
            x = F.rms_norm(x, x.shape[-1:])
        return self.perception(x, self.neighbour_sum)

    def update(self, x: Tensor, perceived: Tensor, context: Tensor | None = None) -> Tensor:
        """What the update makes of that."""
        return self.updating(x, perceived, context)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments but the lattice, as plain types."""
        return {**super().config(), **self.parts}


def _options(role: str, given: str | Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, (str, Mapping)):
        raise ValueError(f"{role} must be a name or a mapping with one, got {given!r:.80}")
    options = (
        {"name": given}
        if isinstance(given, str)
        else {key: value.tolist() if isinstance(value, Tensor) else plain(value) for key, value in given.items()}
    )
    name = options.get("name")
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{role} must be one of {sorted(known)}, got {name!r}")
    check_taken(f"the {role} {name}", known[name], options.keys() - {"name"}, given=GIVEN)
    return options


def _split(options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return options["name"], {key: value for key, value in options.items() if key != "name"}
