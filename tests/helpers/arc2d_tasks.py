"""Tasks of the 2-D ARC, small and made up, and automata for them."""

import json

import numpy as np
import torch

from cellgraph.automata.tasks.arc2d.fitting import Fitting
from cellgraph.automata.tasks.arc2d.grids import GridPair, GridTask
from cellgraph.automata.tasks.arc2d.task import Arc2D
from cellgraph.lattice import Lattice
from cellgraph.nn import NCACell
from cellgraph.testing import randomise

OFFSETS = Lattice((3, 3), 8).offsets
PARTS = {"perception": {"name": "stencil", "num_filters": 2}, "update": {"name": "mlp", "hidden": 7}, "norm": "rms"}
QUICK = {"updates": 2, "votes": 2, "last": 1}


def made(lattice, context_channels, channels=5):
    """A cell that does something."""
    cell = NCACell(lattice, channels, **PARTS, step_size=0.5, context_channels=context_channels)
    randomise(cell, std=0.4)
    return cell


def drawn(height, width, seed=0):
    random = np.random.default_rng(seed)
    return GridPair(*(random.integers(0, 10, (height, width)) for _ in range(2)))


def recoloured(name, colour, other, tests=1, sizes=((3, 4), (2, 5))):
    """A task: a colour becomes another one."""
    random = np.random.default_rng(colour)
    pairs = []
    for shape in (*sizes, *[(3, 3)] * tests):
        source = random.integers(0, 2, shape) * colour
        source.flat[0] = colour
        pairs.append(GridPair(source, np.where(source == colour, other, source)))
    return GridTask(name, tuple(pairs[: len(sizes)]), tuple(pairs[len(sizes) :]))


def as_json(task):
    parts = {"train": task.demonstrations, "test": task.tests}
    return {n: [{"input": p.source.tolist(), "output": p.target.tolist()} for p in pairs] for n, pairs in parts.items()}


def experiment(path, **options):
    torch.manual_seed(0)
    task = Arc2D(path, channels=5, vector_channels=3, fitting=Fitting(**QUICK), **options)
    return task, made(task.lattice, task.context_channels)


def ten_tasks(file):
    """Eight tasks to learn from, two to judge, and one of each set whose grids change their shapes."""
    tasks = {"train": [recoloured(f"t{c}", c, 9 - c) for c in range(1, 9)]}
    tasks["eval"] = [recoloured("e1", 1, 3, tests=2), recoloured("e2", 5, 3)]
    sets = {part: {task.name: as_json(task) for task in some} for part, some in tasks.items()}
    for some in sets.values():
        some["other"] = {"train": [{"input": [[1]], "output": [[1, 1]]}], "test": [{"input": [[1]], "output": [[1]]}]}
    file.write_text(json.dumps(sets))
    return file
