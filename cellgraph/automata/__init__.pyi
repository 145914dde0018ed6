from .animation import save_animation, save_picture
from .curriculum import Curriculum
from .experiment import AutomatonExperiment
from .module import AutomatonModule
from .penalties import drift, overflow
from .pool import SamplePool
from .resizing import on_lattice
from .run import AutomatonSettings, train_automaton
from .task import Batch, Task

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
