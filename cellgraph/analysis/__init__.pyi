from .layers import layer_influence
from .saved import SavedTensor, SavedTensors
from .stale import StaleGraph, StaleGraphs
from .trajectory import (
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
