"""What does each training pattern do to accuracy and to stability? Density classification, one change at a time.

python -m cellgraph.benchmarks.automata_ablation --seeds 0 1 2 --json figures.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cellgraph.automata import AutomatonSettings, Batch, Curriculum, SamplePool, train_automaton
from cellgraph.automata.tasks import Majority
from cellgraph.files import write_atomically
from cellgraph.nn import NCACell
from cellgraph.texts import markdown_table
from cellgraph.training import NonFiniteError

from .entry import enter

STEPS = (12, 20)

#: The figures, and after how many rollouts in a row they are taken: a stable automaton keeps what it knew.
HORIZONS = {"accuracy": 1, "after 2 x": 2, "after 20 x": 20}


@dataclass(frozen=True)
class Variant:
    """What differs from the base: a cell of filters and an MLP that starts at zero, new samples in every batch."""

    cell: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    pool: dict[str, Any] | None = None
    curriculum: dict[str, Any] | None = None


VARIANTS: dict[str, Variant] = {
    "base": Variant(),
    "random updates, rate 0.5": Variant(cell={"fire_rate": 0.5}),
    "sequential updates": Variant(cell={"order": "sequential"}),
    "step size 0.5": Variant(cell={"step_size": 0.5}),
    "last layer not zero at the start": Variant(cell={"update": {"name": "mlp", "zero_init": False}}),
    "what is perceived normalised": Variant(cell={"norm": "rms"}),
    "learned stencil": Variant(cell={"perception": "stencil"}),
    "attention": Variant(cell={"perception": "attention"}),
    "GRU": Variant(cell={"update": "gru"}),
    "pool": Variant(pool={"size": 256}),
    "pool, a quarter of a batch new": Variant(pool={"size": 256, "reseed": 8}),
    "fixed number of steps": Variant(settings={"num_steps": STEPS[1]}),
    "loss at four states": Variant(settings={"supervise": 4}),
    "overflow penalty": Variant(settings={"overflow": 0.1}),
    "drift penalty": Variant(settings={"drift": 0.1}),
    "noise on the start": Variant(settings={"noise": 0.1}),
    "gradients normalised": Variant(settings={"normalise": True}),
    "no clipping": Variant(settings={"clip": 0.0}),
    "averaged weights": Variant(settings={"ema": 0.99}),
    "few steps first": Variant(curriculum={"num_steps": 4}),
    "small rings first": Variant(curriculum={"shapes": {0.25: [7], 0.5: [11]}}),
}


def measure(variant: Variant, *, seed: int, updates: int, width: int) -> dict[str, float]:
    """Train one variant; the share of 500 rings of another draw on which all cells are right, at each horizon."""
    torch.manual_seed(seed)
    task = Majority(width, channels=16)
    cell = NCACell(task.lattice, 16, **{"update": {"name": "mlp", "hidden": 64}, **variant.cell})
    options = {"batch_size": 32, "num_steps": STEPS, "lr": 2e-3, "min_lr": 0.02, "accelerator": "cpu"}
    settings = AutomatonSettings(
        **{**options, "max_steps": updates, "val_every": updates, "seed": seed, **variant.settings}
    )
    pool = SamplePool(**variant.pool) if variant.pool else None
    curriculum = Curriculum(**variant.curriculum) if variant.curriculum else None
    try:
        result = train_automaton(cell, task, settings, pool=pool, curriculum=curriculum, progress=False)
    except NonFiniteError:
        return {**dict.fromkeys(HORIZONS, 0.0), "seconds": float("nan")}
    return {**horizons(cell, task), "seconds": result.seconds}


@torch.no_grad()
def horizons(cell: NCACell, task: Majority) -> dict[str, float]:
    """The accuracy after one rollout and after several in a row."""
    own = torch.rand(500, task.lattice.num_nodes, generator=torch.Generator().manual_seed(2**31)) < 0.5
    x = torch.zeros(*own.shape, task.channels)
    x[..., 0] = own.float() * 2 - 1
    target = x[..., 0].sum(1).sign()
    found, done = {}, 0
    for name, rollouts in HORIZONS.items():
        x = task.run(cell, Batch(x), num_steps=(rollouts - done) * STEPS[1]).x
        done = rollouts
        found[name] = float((x[..., 1].sign() == target[:, None]).all(1).float().mean())
    return found


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown: means over the seeds, the least and the most in brackets."""
    rows = []
    for variant, seeds in figures.items():
        cells = []
        for name in HORIZONS:
            values = [100 * found[name] for found in seeds.values()]
            cells.append(f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
        seconds = statistics.median(found["seconds"] for found in seeds.values())
        rows.append([variant, *cells, f"{seconds:.0f}"])
    return "\n".join(markdown_table(["variant", *HORIZONS, "seconds"], rows))


def read_kept(path: Path, settings: dict[str, int]) -> dict[str, dict[str, dict[str, float]]]:
    """The figures that a file keeps, by variant and seed.

    Raises:
        ValueError: If they are of other settings, or of settings that the file does not tell.
    """
    kept = json.loads(path.read_text())
    told = {name: kept.get(name) for name in settings}
    if told != settings:
        raise ValueError(f"{path} must keep figures of {settings}, got some of {told}: name another file")
    return kept["figures"]


def main() -> None:
    """Measure all variants and print the table; figures that the JSON file has already are not measured again."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--width", type=int, default=15, help="cells of the ring")
    parser.add_argument("--json", type=Path, help="where the figures are kept")
    options = parser.parse_args()
    settings = {"updates": options.updates, "width": options.width}
    figures: dict[str, dict[str, dict[str, float]]] = {}
    if options.json is not None and options.json.exists():
        try:
            figures = read_kept(options.json, settings)
        except ValueError as error:
            parser.error(str(error))
    # Seed by seed: what is interrupted has all variants on as many seeds as there was time for.
    for seed in options.seeds:
        for name in options.variants:
            found = figures.setdefault(name, {})
            if str(seed) not in found:
                found[str(seed)] = measure(VARIANTS[name], seed=seed, **settings)
                print(f"{name}, seed {seed}: {found[str(seed)]}", flush=True)
                if options.json is not None:
                    write_atomically(options.json, json.dumps({**settings, "figures": figures}, indent=1).encode())
    print(table(figures))


if __name__ == "__main__":
    enter(main)
