"""Tasks of the 1-D ARC, small and made up, and automata for them."""

import json
import os
from pathlib import Path

import numpy as np
import torch

from cellgraph.automata.tasks.arc1d.demonstrations import Arc1DDemonstrations
from cellgraph.nn import NCACell
from cellgraph.testing import randomise

DATA = Path(os.environ.get("CELLGRAPH_DATA", Path(__file__).parents[3] / "shared" / "data")) / "1d-arc" / "1d_arc.jsonl"
SMALL = {"width": 8, "narrow": 5, "channels": 12, "vector_channels": 6}
READER = {"reader_channels": 8, "reader_hidden": 8, "reader_steps": 2}


def pair(source, target):
    return {"input": [list(source)], "output": [list(target)]}


def recoloured(colour, other, length=5):
    """A task: what is drawn becomes another colour."""
    rows = [[0] * start + [colour] * (2 + start) + [0] * (length - 2 * start - 2) for start in (0, 1)]
    rows.append([0] * (length - 1) + [colour])
    return [pair(row, [other if c else 0 for c in row]) for row in rows]


def write(file, tasks):
    file.write_text("\n".join(json.dumps({"task": k, "train": t, "test": s}) for k, t, s in tasks))
    return file


def twelve_tasks(file):
    """Twelve tasks of two kinds, of two demonstrations or three, one of them with two tests."""
    tasks = []
    random = np.random.default_rng(0)
    for number in range(12):
        colour, other = random.choice(np.arange(1, 10), 2, replace=False).tolist()
        *shown, asked = recoloured(colour, other, length=5 + number % 4)
        shown = shown if number % 2 else [*shown, recoloured(colour, other)[2]]
        tasks.append((f"1d_{'ab'[number % 2]}", shown, [asked] * (1 + (number == 4))))
    return write(file, tasks)


def made(path, **options):
    torch.manual_seed(0)
    task = Arc1DDemonstrations(path, **SMALL | READER | options)
    cell = NCACell(
        task.lattice,
        12,
        perception={"name": "stencil", "num_filters": 1},
        update={"name": "mlp", "hidden": 16},
        norm="rms",
        step_size=0.5,
        context_channels=task.context_channels,
    )
    return task, cell


def stirred(path, **options):
    """A task and a cell that does something."""
    task, cell = made(path, **options)
    randomise(cell, std=0.3)
    randomise(task.reader, std=0.3)
    return task, cell
