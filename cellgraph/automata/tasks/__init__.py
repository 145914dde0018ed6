"""Tasks: what automata are trained for, each with its held-out figures and its picture."""

from cellgraph.automata.tasks.arc1d import Arc1D

__all__ = ["Arc1D"]
