"""A cell of your own: two methods, and it trains, resumes, compiles, fills pools and draws like those of the library.

python examples/08_write_your_own_cell.py
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from cellgraph import Lattice, rollout
from cellgraph.automata import AutomatonSettings, SamplePool
from cellgraph.automata.experiment import AutomatonExperiment
from cellgraph.automata.tasks import Majority
from cellgraph.diagnostics import KeptTensors, trajectory_summary
from cellgraph.nn import Cell


class Gossip(Cell):
    """Hears a learned blend of its neighbours, and answers through a small network."""

    def __init__(self, lattice: Lattice, channels: int, *, hidden: int = 32, update_rate: float = 1.0) -> None:
        super().__init__(lattice, channels, update_rate=update_rate)
        self.blend = nn.Parameter(torch.randn(lattice.num_directions + 1, 1, channels) / 2)
        self.inner, self.outer = nn.Linear(2 * channels, hidden), nn.Linear(hidden, channels)

    def perceive(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return torch.cat([x, self.neighbour_sum(x, self.blend)], dim=-1)

    def change(self, x: Tensor, perceived: Tensor, context: Tensor | None = None) -> Tensor:
        return self.outer(torch.tanh(self.inner(perceived))) - 0.1 * x


def main() -> None:
    torch.manual_seed(0)
    task = Majority(9, channels=8, size=200)
    cell = Gossip(task.lattice, 8, update_rate=0.8)

    x = task.sample(4, torch.Generator().manual_seed(0)).x
    for every in (0, 8):
        with KeptTensors(cell) as kept:
            rollout(cell, x, num_steps=16, checkpoint_every=every)
        print(f"checkpoint_every={every}: {sum(kept.bytes_per_step()):,} bytes kept for backward")

    settings = AutomatonSettings(
        max_steps=300,
        batch_size=32,
        num_steps=(12, 20),
        lr=1e-2,
        val_every=150,
        # Compiling takes a C++ compiler, and half a minute.
        compile=shutil.which("c++") is not None,
        accelerator="cpu",
    )
    with tempfile.TemporaryDirectory() as folder:
        AutomatonExperiment(Path(folder), cell, task, settings, pool=SamplePool(256, reseed=8)).run()
        print("in the run folder:", ", ".join(sorted(path.name for path in Path(folder).iterdir())))

    states = rollout(cell.eval(), x, num_steps=100, trajectory=True).trajectory
    print({name: round(value, 3) for name, value in trajectory_summary(states, bound=2.0).items()})


if __name__ == "__main__":
    main()
