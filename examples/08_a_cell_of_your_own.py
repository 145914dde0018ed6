"""A cell of your own in fifteen lines and a task in ten: trained with a pool, random updates and checkpoints, compiled
where there is a compiler, drawn and looked into.

python examples/08_a_cell_of_your_own.py
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from cellgraph import Lattice, RunFolder
from cellgraph.analysis import SavedTensors, trajectory_summary
from cellgraph.automata import Automaton, AutomatonSettings, Batch, SamplePool, Task, save_picture
from cellgraph.nn import Cell
from cellgraph.runs import Experiment


class MeanCell(Cell):
    """Hears the mean over its neighbours and itself, and changes by a small network of both."""

    def __init__(self, lattice: Lattice, channels: int = 16, *, hidden: int = 32, fire_rate: float = 1.0) -> None:
        super().__init__(lattice, channels, fire_rate=fire_rate)
        self.network = nn.Sequential(nn.Linear(2 * channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        nn.init.zeros_(self.network[-1].weight)

    def perceive(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        weight = x.new_ones(self.lattice.num_directions + 1, 1, self.channels)
        return self.neighbour_sum(x, weight) / len(weight)

    def update(self, x: Tensor, perceived: Tensor, context: Tensor | None = None) -> Tensor:
        return self.network(torch.cat([x, perceived], dim=-1))


class GrowDisc(Task):
    """From one seed in the middle to a disc in the first channel."""

    def __init__(self, size: int = 9, *, radius: float = 2.5) -> None:
        super().__init__(Lattice((size, size), 8))
        distance = (self.lattice.positions - size // 2).float().norm(dim=1)
        self.register_buffer("disc", (distance < radius).float(), persistent=False)
        self.register_buffer("seed", (distance == 0).float(), persistent=False)

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        return Batch(self.seed[None, :, None].repeat(size, 1, 16))

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        return (x[..., 0] - self.disc).square().mean(1)

    def evaluate(self, cell: Cell, *, num_steps: int) -> dict[str, float]:
        return {f"loss after {n} steps": self.validate(cell, num_steps=n)["loss"] for n in (num_steps, 10 * num_steps)}

    def draw(self, cell: Cell, folder: Path, *, num_steps: int) -> list[Path]:
        grown = self.run(cell, self.sample(1, torch.Generator()), num_steps=num_steps).x[0, :, 0].reshape(9, 9)
        print("\n".join("".join("#" if value > 0.5 else "." for value in row) for row in grown.tolist()))
        return [save_picture(grown, folder / "disc.png", scale=24)]


def main() -> None:
    torch.manual_seed(0)
    task = GrowDisc()
    cell = MeanCell(task.lattice, fire_rate=0.8)
    seeds = task.sample(4, torch.Generator())
    for every in (0, 4):
        with SavedTensors(cell) as kept:
            task.run(cell, seeds, num_steps=16, remat_every=every)
        print(f"remat_every={every}: {sum(kept.bytes_per_step()):,} bytes kept for backward")

    settings = AutomatonSettings(
        max_steps=400,
        batch_size=8,
        num_steps=(10, 16),
        lr=1e-2,
        normalise=True,
        # Compiling takes a C++ compiler, and some seconds.
        compile=shutil.which("c++") is not None,
        accelerator="cpu",
    )
    print("loss before:", task.validate(cell.eval(), num_steps=12))
    with tempfile.TemporaryDirectory() as folder:
        task.pool = pool = SamplePool(32, reseed=2, damage=1)
        Experiment(RunFolder(folder), task, Automaton(cell.train(), task), settings).run()
        print("in the run folder:", ", ".join(sorted(path.name for path in Path(folder).iterdir())))
    print("steps that samples of the pool have been through:", pool.age.tolist())

    states = task.run(cell, seeds, num_steps=120, trajectory=True).trajectory
    print({name: round(value, 3) for name, value in trajectory_summary(states).items()})


if __name__ == "__main__":
    main()
