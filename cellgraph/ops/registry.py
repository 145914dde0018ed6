"""The registry of backends: the one place that knows their names."""

from __future__ import annotations

import warnings

from cellgraph.graph import Graph
from cellgraph.lattice import Lattice
from cellgraph.ops.backend import Backend, Case
from cellgraph.ops.conv import Conv
from cellgraph.ops.fused.backend import Fused
from cellgraph.ops.scatter import Scatter
from cellgraph.ops.segment import Segment
from cellgraph.ops.stencil import Stencil
from cellgraph.ops.triton.backend import Triton

#: The name that leaves the choice to the library.
AUTO = "auto"

_BACKENDS: dict[str, Backend] = {}


def register(backend: Backend) -> None:
    """Add a backend, or put one in the place of another of its name."""
    _BACKENDS[backend.name] = backend


# The fastest first, where they run, by the measurements in benchmarks/RESULTS.md.
for _backend in (Triton(), Fused(), Stencil(), Conv(), Segment(), Scatter()):
    register(_backend)


def backend_names() -> tuple[str, ...]:
    """Names of all backends, ``auto`` first."""
    return (AUTO, *_BACKENDS)


def find_backend(name: str) -> Backend:
    """The backend of a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in _BACKENDS:
        raise ValueError(f"backend must be one of {backend_names()}, got {name!r}")
    return _BACKENDS[name]


def backend_needs() -> dict[str, str | None]:
    """For each name what is missing here, ``None`` where nothing is."""
    return {AUTO: None, **{name: backend.needs() for name, backend in _BACKENDS.items()}}


def fitting_backends(case: Case) -> list[Backend]:
    """The backends that fit a case, whether or not there is here what they need, the fastest first."""
    return [backend for backend in _BACKENDS.values() if backend.fits(case) is None]


def candidates(case: Case) -> list[Backend]:
    """The backends that fit a case and run here, the fastest first.

    Example:
        >>> from cellgraph import Lattice
        >>> [backend.name for backend in candidates(Case(Lattice((4, 4)), shared=False))][-1]
        'scatter'
    """
    return [backend for backend in fitting_backends(case) if backend.needs() is None and not backend.is_simulated]


def default_backend(graph: Graph) -> Backend:
    """What ``auto`` takes as long as nothing was chosen: the stencil of a lattice, on other graphs the reference."""
    return find_backend("stencil" if isinstance(graph, Lattice) else "scatter")


def reference_backend() -> Backend:
    """What all backends are to compute, on any graph and device and under any transform."""
    return find_backend("scatter")


def check_backend(name: str, case: Case) -> None:
    """Refuse a backend that was asked for by name and cannot do what it is asked for.

    Raises:
        ValueError: If there is none of that name, or it lacks something here, or does not fit the case.
    """
    if name == AUTO:
        return
    backend = find_backend(name)
    if obstacle := backend.needs() or backend.fits(case):
        raise ValueError(f"backend {name!r} {obstacle}")


def usable_backend(name: str) -> str:
    """A name that was saved, perhaps on another machine: ``auto``, with a warning, where that backend does not run.

    Raises:
        ValueError: If there is none of that name.
    """
    if name == AUTO:
        return name
    lacking = find_backend(name).needs()
    if lacking is not None:
        warnings.warn(f"backend {name!r} {lacking}; what was saved with it takes {AUTO!r} here", stacklevel=3)
    return name if lacking is None and find_backend(name).load() else AUTO
