"""CellGraph: a vector enters the lattice on one surface, the cells talk, and a vector leaves on another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cellgraph.cone import LightCone
from cellgraph.ends import Ends
from cellgraph.lattice import Lattice
from cellgraph.nn import Cell, Surface
from cellgraph.nn.kinds import built_cell
from cellgraph.nn.surface import Places
from cellgraph.nn.transported import Transported
from cellgraph.numbers import integer, plain_numbers, span
from cellgraph.older import upgraded
from cellgraph.ops import AUTO, usable_backend
from cellgraph.transport import Conveyor
from cellgraph.unroll import rollout

INJECTIONS = ("once", "clamped")
#: Above this share of the cell updates the full rollout is as fast as its light cone; compiled, which the cone's step
#: is not, it is so sooner (3.2 x slower than the cone at a share of 1 / 11, 1.8 x faster than itself uncompiled).
WORTHWHILE, WORTHWHILE_COMPILED = 0.9, 0.5


@dataclass
class CellGraphOutput:
    """What a forward pass returns.

    Attributes:
        embedding: Predicted answer embedding, ``[batch, in_features]``.
        surface: What was extracted from the output surface, with a path what the query is there,
            ``[batch, surface_width]``.
        states: Final state of the cells, ``[batch, num_nodes, channels]``; ``None`` where nobody asked for them, and
            for models without cells.
        memory: Memory for the next call, ``[batch, num_nodes, memory_channels]``, or ``None``.
        num_steps: Steps taken.
        trajectory: All states, ``[num_steps + 1, batch, num_nodes, channels]``, when asked for.
        query: What finds the answer: it is compared, by the cosine, with what the network's ``key`` makes of answers,
            ``[batch, in_features]``; by default, as without a path, the embedding.
    """

    embedding: Tensor
    surface: Tensor
    states: Tensor | None = None
    memory: Tensor | None = None
    num_steps: int = 0
    trajectory: Tensor | None = None
    query: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.query is None:
            self.query = self.embedding


# So that torch.export takes a network as it is.
torch.export.register_dataclass(CellGraphOutput)


class CellGraph(Ends):
    r"""Question embedding to answer embedding through a lattice of cells.

    .. math::
        x_0 = \mathrm{inject}(\mathrm{encode}(e)), \qquad x_T = \mathrm{rollout}(x_0), \qquad
        e' = \mathrm{decode}(\mathrm{extract}(x_T))

    A new lattice is a :class:`~cellgraph.transport.Conveyor`: it carries the input surface to the output surface
    unchanged, if all its cells update at once and live. With ``path="none"`` the signal goes through it alone, and
    training starts from what the adapters would say without it. With ``path="linear"`` it stands beside a linear map
    from question to answer,

    .. math::
        y = \mathrm{path}(q) + \mathrm{readout}(x_T), \qquad x_0 = \mathrm{inject}(\mathrm{encode}(q)),

    where the readout takes channels of the cells that it reads, and is zero at the start: training starts from the
    linear map, and the cells are free to compute something else. The query y finds the answer among keys, which are a
    learned linear map of answers, and the answer's embedding is a calibration of y, see
    :class:`~cellgraph.nn.LinearPath`.

    Args:
        cell: The cell, with its lattice.
        in_features: Width of the teacher's embeddings.
        input_nodes: Cells that take the question: a face's name, several, or a node mask.
        output_nodes: Cells that give the answer.
        surface_channels: Number of values each surface cell takes and gives; 1 is the classic form.
        path: ``"linear"``: a :class:`~cellgraph.nn.LinearPath` beside the lattice, off which a
            :class:`~cellgraph.nn.Readout` reads; ``"none"``: the lattice carries all of the signal.
        key: With a linear path, ``"linear"``: answers are found by learned keys; ``"none"``: by themselves.
        readout: The cells that are read, with a linear path: ``"surface"``, those of the output; ``"all"``; or as
            ``output_nodes``.
        readout_channels: How many of their channels are read, the first ones; all that are not memory by default.
        adapter: ``"linear"``, ``"pca"``, ``"autoencoder"`` or ``"matryoshka"``, see :mod:`cellgraph.nn`; or keyword
            arguments of the adapter beside its ``name``.
        num_steps: Steps of a rollout; two numbers are the least and the most of a range that training draws from and
            of which evaluation takes the most.
        injection: ``"once"``, or ``"clamped"``: the input surface is set back to the question after every step.
        remat_every: See :func:`~cellgraph.unroll.rollout`.
        tolerance: See :func:`~cellgraph.unroll.rollout`.

    Shapes:
        - **question:** ``[batch, in_features]``
        - **output:** :class:`CellGraphOutput`

    Raises:
        ValueError: If the surfaces differ in width, a name is unknown, a number is negative, or the output surface is
            further from the input surface than the least number of steps.

    Example:
        >>> from cellgraph import GMLPCell
        >>> cell = GMLPCell(Lattice((3, 4, 4)), channels=8, hidden=16)
        >>> model = CellGraph(cell, in_features=16, num_steps=4, path="none")
        >>> question = torch.randn(2, 16)
        >>> torch.allclose(model(question).embedding, question, atol=1e-5)
        True
    """

    @plain_numbers
    def __init__(
        self,
        cell: Cell,
        *,
        in_features: int,
        input_nodes: Any = "front",
        output_nodes: Any = "back",
        surface_channels: int = 8,
        path: str = "linear",
        key: str = "linear",
        readout: Any = "surface",
        readout_channels: int | None = None,
        adapter: str | Mapping[str, Any] = "pca",
        num_steps: int | Sequence[int] = 10,
        injection: str = "once",
        remat_every: int = 0,
        tolerance: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(cell, Cell):
            raise ValueError(f"cell must be a {Cell.__module__}.{Cell.__name__}, got {cell!r:.80}")
        lattice = cell.lattice
        if not isinstance(lattice, Lattice):
            raise ValueError(f"a network's cells sit on a Lattice, whose faces are its surfaces, got {lattice}")
        if cell.context_channels:
            raise ValueError(f"a network's cells are told nothing beside, got context_channels={cell.context_channels}")
        self.cell: Any = cell if hasattr(cell, "set_conveyor") else Transported(cell)
        if injection not in INJECTIONS:
            raise ValueError(f"injection must be one of {INJECTIONS}, got {injection!r}")
        if remat_every < 0 or tolerance < 0:
            raise ValueError(f"remat_every and tolerance must not be negative, got {remat_every} and {tolerance}")
        self.num_steps = span("num_steps", num_steps)
        self.injection, self.remat_every, self.tolerance = injection, remat_every, tolerance
        self.add_ends(
            lattice,
            cell.free_channels,
            in_features=in_features,
            surfaces=[Surface(lattice, nodes, channels=surface_channels) for nodes in (input_nodes, output_nodes)],
            adapter=adapter,
            path=path,
            key=key,
            readout=readout,
            readout_channels=readout_channels,
        )
        self._install_conveyor()
        self.conveyor.check_reach(self.num_steps[0])
        self._cones: dict[tuple[int, bool], tuple[LightCone, Places]] = {}

    def _install_conveyor(self, share: float | None = None) -> None:
        surfaces, clamped = (self.input_surface, self.output_surface), self.injection == "clamped"
        options = {"num_steps": self.num_steps[1], "clamped": clamped, "share": share}
        self.conveyor = Conveyor.install(self.cell, *surfaces, **options)  # type: ignore[arg-type]

    @property
    def lattice(self) -> Lattice:
        """The lattice the cells sit on."""
        return self.cell.lattice

    @property
    def remembers(self) -> bool:
        """Whether an answer depends on the turns before, which the memory hands on."""
        return self.cell.memory_channels > 0

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
        """Answer a batch of questions.

        Args:
            question: Question embeddings, ``[batch, in_features]``.
            memory: What the call before returned as memory.
            num_steps: Steps of this call; drawn from the range in training and its upper end otherwise.
            generator: Source of the random number of steps and update masks.
            states: Also return the final state of all the cells. Without it, cells that cannot reach the answer are
                left out, see :meth:`cone`.
            trajectory: Also return the states of all steps.
        """
        if num_steps is None:
            num_steps = self._draw_steps(generator)
        else:
            if not torch.compiler.is_compiling():
                num_steps = integer("num_steps", num_steps)
            self.conveyor.check_reach(num_steps)
        surface = self.encode(question)
        looks_at_all = states or trajectory or memory is not None
        cone, places = (None, None) if looks_at_all else self._cone(num_steps)
        run = rollout(
            self.cell,
            self.input_surface.inject(surface, num_channels=self.cell.channels, places=places),
            memory,
            num_steps=num_steps,
            clamped=self.input_surface if self.injection == "clamped" else None,
            remat_every=self.remat_every,
            tolerance=0.0 if self.training else self.tolerance,
            trajectory=trajectory,
            generator=generator,
            cone=cone,
        )
        cells = run.x if cone is not None else run.x.index_select(1, self.read_index)
        # At a fixed point, where fewer steps were taken, the states are those after all of them.
        embedding, extracted, query = self.decode(cells, question, num_steps=num_steps)
        return CellGraphOutput(
            embedding=embedding,
            surface=extracted,
            query=query,
            states=run.x if cone is None else None,
            memory=run.memory,
            num_steps=run.num_steps,
            trajectory=run.trajectory,
        )

    def cone(self, num_steps: int) -> LightCone | None:
        """The light cone that a call takes which asks for the answer alone; ``None`` where the full rollout runs.

        That is with memory, which all cells hand on; with an early stop at a fixed point, which looks at all of them;
        for cells that cannot be computed one without the other; and where nearly every cell can reach the answer.
        """
        return self._cone(num_steps)[0]

    def _cone(self, num_steps: int) -> tuple[LightCone | None, Places | None]:
        if self.cell.memory_channels or not self.cell.fits_cone or (self.tolerance and not self.training):
            return None, None
        random = self.cell.updates_at_random
        key = num_steps, random
        if key not in self._cones:
            source = None if random else self.input_surface.mask
            read = torch.zeros(self.lattice.num_nodes, dtype=torch.bool)
            read[self.read_index.cpu()] = True
            cone = LightCone(self.lattice, read, num_steps, source=source)
            self._cones[key] = cone, self.input_surface.places(cone.own[0])
        most = WORTHWHILE_COMPILED if self.cell.will_compile else WORTHWHILE
        return self._cones[key] if self._cones[key][0].share < most else (None, None)

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters of the cells' parts and of the parts in use of what stands around them."""
        return {**self.cell.parameter_counts(), **super().parameter_counts()}

    def compile_step(self, *, compiling: bool = True) -> None:
        """Make the step fast, in place, see :meth:`Cell.compile_step <cellgraph.nn.Cell.compile_step>`."""
        self.cell.compile_step(compiling=compiling)

    def config(self) -> dict[str, Any]:
        """All that it takes to build the network again, as plain types."""
        cell = self.cell.inner if isinstance(self.cell, Transported) else self.cell
        return {
            "lattice": self.lattice.config(),
            "cell": {"kind": cell.kind(), **cell.config()},
            **self.ends_config(),
            "num_steps": list(self.num_steps),
            "injection": self.injection,
            "remat_every": self.remat_every,
            "tolerance": self.tolerance,
            # It stays what it is where steps or rates are changed later.
            "share": self.conveyor.share,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> CellGraph:
        """A new network from what :meth:`config` gave, whichever version it was."""
        options = dict(upgraded(config))
        lattice, cell = Lattice(**options.pop("lattice")), dict(options.pop("cell"))
        cell["backend"] = usable_backend(cell.get("backend", AUTO))
        share = options.pop("share", None)
        network = cls(built_cell(lattice, cell), **options)
        if share is not None:
            network._install_conveyor(share)
        return network

    def extra_repr(self) -> str:
        cone = self.cone(self.num_steps[1])
        computed = "full rollout" if cone is None else f"light cone of {cone.share:.0%} of the cell updates"
        settings = f"num_steps={self.num_steps}, injection={self.injection}, remat_every={self.remat_every}"
        return f"{settings}, {computed}"

    def _draw_steps(self, generator: torch.Generator | None) -> int:
        least, most = self.num_steps
        if not self.training or least == most:
            return most
        device = generator.device if generator is not None else "cpu"
        return int(torch.randint(least, most + 1, (), generator=generator, device=device))
