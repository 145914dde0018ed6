"""Tasks that come with the library."""

from cellgraph.automata.tasks.growing import Growing
from cellgraph.automata.tasks.majority import Majority

__all__ = ["Growing", "Majority"]
