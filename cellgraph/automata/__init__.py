"""Automata: cells trained from states to states, as neural cellular automata are."""

from cellgraph.automata.animation import save_animation, save_picture
from cellgraph.automata.curriculum import Curriculum
from cellgraph.automata.experiment import AutomatonExperiment
from cellgraph.automata.module import AutomatonModule
from cellgraph.automata.penalties import drift, overflow
from cellgraph.automata.pool import SamplePool
from cellgraph.automata.resizing import on_lattice
from cellgraph.automata.run import AutomatonSettings, train_automaton
from cellgraph.automata.task import Batch, Task

__all__ = [
    "AutomatonExperiment",
    "AutomatonModule",
    "AutomatonSettings",
    "Batch",
    "Curriculum",
    "SamplePool",
    "Task",
    "drift",
    "on_lattice",
    "overflow",
    "save_animation",
    "save_picture",
    "train_automaton",
]
