"""Tasks that come with the library."""

from cellgraph.automata.tasks.majority import Majority

__all__ = ["Majority"]
