"""How much memory does a training step take, with checkpointing and without?

One process a row, so that peaks do not mix. The figure is the peak resident set less that of the same process before
the step: activations, gradients and workspace.

    python benchmarks/checkpoint_memory.py [--batch 8] [--steps 12 48] [--checkpoint 0 4]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch

from cellgraph import GMLPCell, Lattice, rollout


def measure(num_steps: int, checkpoint_every: int, batch: int) -> None:
    """Print the peak in MiB and the seconds of one training step after a warm-up."""
    cell = GMLPCell(Lattice((11, 15, 15)))
    cell.set_conveyor(0, 1.0)
    cell.compile(dynamic=False)
    x = torch.randn(batch, 2475, 64)

    def step(samples: int, steps: int) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            y = rollout(cell, x[:samples], num_steps=steps, checkpoint_every=checkpoint_every).x
        y.square().mean().backward()

    step(batch, 1)  # compiles
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    step(batch, num_steps)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"| {num_steps} | {checkpoint_every or 'off'} | {peak / 1024:,.0f} | {batch / seconds:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, nargs="+", default=[12, 48])
    parser.add_argument("--checkpoint", type=int, nargs="+", default=[0, 4])
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(*arguments.one, arguments.batch)
        return
    print("| steps | checkpoint every | peak, MiB | samples/s |\n| ---: | ---: | ---: | ---: |", flush=True)
    for steps in arguments.steps:
        for every in arguments.checkpoint:
            one = ["--one", str(steps), str(every), "--batch", str(arguments.batch)]
            subprocess.run([sys.executable, __file__, *one], check=True)


if __name__ == "__main__":
    main()
