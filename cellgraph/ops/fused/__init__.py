"""The fused step: several steps of the shared gMLP cell as one operator on a CPU."""

from cellgraph.ops.fused.build import load_operators
from cellgraph.ops.fused.steps import FusedSteps

__all__ = ["FusedSteps", "load_operators"]
