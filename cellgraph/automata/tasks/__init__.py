"""Tasks that come with the library."""

from cellgraph.automata.tasks.arc1d import Arc1D
from cellgraph.automata.tasks.growing import Growing
from cellgraph.automata.tasks.life import Life
from cellgraph.automata.tasks.majority import Majority
from cellgraph.automata.tasks.passage import Passage
from cellgraph.automata.tasks.rule import RuleTask
from cellgraph.automata.tasks.self_classification import SelfClassification
from cellgraph.automata.tasks.voronoi import Voronoi

__all__ = ["Arc1D", "Growing", "Life", "Majority", "Passage", "RuleTask", "SelfClassification", "Voronoi"]
