"""Tasks that come with the library."""

from cellgraph.automata.tasks.arc1d import Arc1D
from cellgraph.automata.tasks.majority import Majority

__all__ = ["Arc1D", "Majority"]
