from .backend import Backend, Case
from .neighbour_sum import NeighbourSum
from .registry import (
    AUTO,
    backend_names,
    backend_needs,
    candidates,
    check_backend,
    default_backend,
    find_backend,
    fitting_backends,
    reference_backend,
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
    "reference_backend",
    "register",
    "usable_backend",
]
