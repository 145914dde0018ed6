from .arc1d.demonstrations import Arc1DDemonstrations
from .arc1d.kinds import Arc1D
from .arc2d.task import Arc2D
from .growing import Growing
from .life import Life
from .majority import Majority
from .passage import Passage
from .rule import RuleTask
from .self_classification import SelfClassification
from .voronoi import Voronoi

__all__ = [
    "Arc1D",
    "Arc1DDemonstrations",
    "Arc2D",
    "Growing",
    "Life",
    "Majority",
    "Passage",
    "RuleTask",
    "SelfClassification",
    "Voronoi",
]
