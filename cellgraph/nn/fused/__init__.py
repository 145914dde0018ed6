"""The fused step: several steps of the shared gMLP cell as one operator on a CPU."""

from cellgraph.nn.fused.build import load_operators
from cellgraph.nn.fused.steps import FusedSteps

__all__ = ["FusedSteps", "load_operators"]
