"""Automata: cells trained from states to states, as neural cellular automata are."""

from cellgraph.automata.animation import save_animation, save_picture
from cellgraph.automata.task import Batch, Task

__all__ = ["Batch", "Task", "save_animation", "save_picture"]
