"""Analysis: what a lattice learned, and what a rollout keeps, carries and moves.

Nothing here runs unless it is called, and nothing stays on a cell afterwards.
"""

from cellgraph.analysis.layers import layer_influence
from cellgraph.analysis.saved import SavedTensor, SavedTensors
from cellgraph.analysis.stale import StaleGraph, StaleGraphs
from cellgraph.analysis.trajectory import (
    dead_cells,
    growth_rate,
    period,
    saturated_share,
    settling_step,
    trajectory_summary,
)

__all__ = [
    "SavedTensor",
    "SavedTensors",
    "StaleGraph",
    "StaleGraphs",
    "dead_cells",
    "growth_rate",
    "layer_influence",
    "period",
    "saturated_share",
    "settling_step",
    "trajectory_summary",
]
