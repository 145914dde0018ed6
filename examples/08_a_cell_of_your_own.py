"""A cell of your own in fifteen lines and a task in ten, trained with a pool, random updates and checkpoints.

python examples/08_a_cell_of_your_own.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

from cellgraph import Lattice
from cellgraph.automata import AutomatonSettings, Batch, SamplePool, Task, train_automaton
from cellgraph.nn import Cell


class MeanCell(Cell):
    """Hears the mean over its neighbours and itself, and changes by a small network of both."""

    def __init__(self, lattice, channels=16, *, hidden=32, **options):
        super().__init__(lattice, channels, **options)
        self.network = nn.Sequential(nn.Linear(2 * channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        nn.init.zeros_(self.network[-1].weight)

    def perceive(self, x, context=None):
        weight = x.new_ones(self.lattice.num_directions + 1, 1, self.channels)
        return self.neighbour_sum(x, weight) / len(weight)

    def change(self, x, perceived, context=None):
        return self.network(torch.cat([x, perceived], dim=-1))


class GrowDisc(Task):
    """From one seed in the middle to a disc in the first channel."""

    def __init__(self, size=9, radius=2.5):
        super().__init__(Lattice((size, size), 8))
        distance = (self.lattice.positions - size // 2).float().norm(dim=1)
        self.register_buffer("disc", (distance < radius).float(), persistent=False)
        self.register_buffer("seed", (distance == 0).float(), persistent=False)

    def sample(self, size, generator):
        return Batch(self.seed[None, :, None].repeat(size, 1, 16))

    def loss(self, x, batch):
        return (x[..., 0] - self.disc).square().mean(1)


def main() -> None:
    torch.manual_seed(0)
    task = GrowDisc()
    cell = MeanCell(task.lattice, update_rate=0.8)
    settings = AutomatonSettings(max_steps=400, batch_size=8, num_steps=(10, 16), lr=1e-2, normalise=True)
    print("loss before:", task.validate(cell.eval(), num_steps=12))
    with tempfile.TemporaryDirectory() as folder:
        pool = SamplePool(32, reseed=2, damage=1)
        result = train_automaton(cell.train(), task, settings, pool=pool, folder=folder, progress=False)
        print("in the run folder:", ", ".join(sorted(path.name for path in Path(folder).iterdir())))
    for steps in (12, 120):
        print(f"loss after {result.steps} updates, {steps} steps from the seed:", task.validate(cell, num_steps=steps))
    print("steps that samples of the pool have been through:", pool.age.tolist())
    grown = task.run(cell, task.sample(1, torch.Generator()), num_steps=12).x[0, :, 0].reshape(9, 9)
    print("\n".join("".join("#" if value > 0.5 else "." for value in row) for row in grown.tolist()))


if __name__ == "__main__":
    main()
