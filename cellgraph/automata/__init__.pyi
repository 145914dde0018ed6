from .animation import save_animation, save_picture
from .automaton import Automaton
from .batch import Batch
from .curriculum import Curriculum
from .lesson import AutomatonLesson
from .neighbourhoods import Neighbourhood, Neighbourhoods, rollout_near
from .penalties import drift, overflow
from .pool import SamplePool
from .resizing import on_lattice
from .run import train_automaton
from .settings import AutomatonSettings
from .task import Task

__all__ = [
    "Automaton",
    "AutomatonLesson",
    "AutomatonSettings",
    "Batch",
    "Curriculum",
    "Neighbourhood",
    "Neighbourhoods",
    "SamplePool",
    "Task",
    "drift",
    "on_lattice",
    "overflow",
    "rollout_near",
    "save_animation",
    "save_picture",
    "train_automaton",
]
