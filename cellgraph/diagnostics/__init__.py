"""Diagnostics: what a rollout keeps, what a memory carries, how states move, which layer moves which.

Nothing here runs unless it is called, and nothing stays on a cell afterwards.
"""

from cellgraph.diagnostics.carried import CarriedGraph, CarriedGraphs
from cellgraph.diagnostics.kept import KeptTensor, KeptTensors
from cellgraph.diagnostics.layers import layer_influence
from cellgraph.diagnostics.trajectory import (
    dead_cells,
    growth_rate,
    period,
    saturated_share,
    settling_step,
    trajectory_summary,
)

__all__ = [
    "CarriedGraph",
    "CarriedGraphs",
    "KeptTensor",
    "KeptTensors",
    "dead_cells",
    "growth_rate",
    "layer_influence",
    "period",
    "saturated_share",
    "settling_step",
    "trajectory_summary",
]
