"""The neighbour sum and its backends."""

from cellgraph.ops.backend import Backend, Case
from cellgraph.ops.neighbour_sum import NeighbourSum
from cellgraph.ops.registry import (
    AUTO,
    backend_names,
    backend_needs,
    candidates,
    check_backend,
    default_backend,
    find_backend,
    fitting_backends,
    register,
    usable_backend,
)

__all__ = [
    "AUTO",
    "Backend",
    "Case",
    "NeighbourSum",
    "backend_names",
    "backend_needs",
    "candidates",
    "check_backend",
    "default_backend",
    "find_backend",
    "fitting_backends",
    "register",
    "usable_backend",
]
