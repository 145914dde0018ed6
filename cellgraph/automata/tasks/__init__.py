"""Tasks that come with the library."""

from cellgraph.automata.tasks.growing import Growing
from cellgraph.automata.tasks.majority import Majority
from cellgraph.automata.tasks.passage import Passage
from cellgraph.automata.tasks.self_classification import SelfClassification

__all__ = ["Growing", "Majority", "Passage", "SelfClassification"]
