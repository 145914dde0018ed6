from .halo import Exchange, Line
from .split import DepthSplit, SplitCell

__all__ = ["DepthSplit", "Exchange", "Line", "SplitCell"]
