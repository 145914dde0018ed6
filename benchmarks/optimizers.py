"""What does each optimiser keep for each number that is learned?

``python -m cellgraph.benchmarks.optimizers`` makes the network of the main job, gives every optimiser one update of it
and counts the bytes of its state. Those of eight bits and without a schedule need
``pip install cellgraph[lean]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.training.optimizer import OPTIMIZERS, make_optimizer
from cellgraph.training.schedule import parameter_groups

from .entry import enter


def main(arguments: Sequence[str] | None = None) -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs="+", default=[11, 15, 15], help="layers, rows and columns")
    parser.add_argument("--features", type=int, default=384, help="width of questions and answers")
    given = parser.parse_args(arguments)
    cell = GMLPCell(Lattice(given.shape), 64, hidden=128)
    model = CellGraph(cell, in_features=given.features, num_steps=given.shape[0] + 3)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(f"{count:,} numbers are learned\n\n| optimiser | bytes of its state for each | MiB |\n| --- | ---: | ---: |")
    for name in OPTIMIZERS:
        size = state_bytes(name, model)
        print(f"| {name} | {size / count:.2f} | {size / 2**20:.1f} |")


def state_bytes(name: str, model: torch.nn.Module) -> int:
    """Bytes of an optimiser's state after an update.

    Args:
        name: One of :data:`~cellgraph.training.optimizer.OPTIMIZERS`.
        model: What it is for; gradients of zero are left in it.

    Raises:
        ValueError: If the package of the optimiser is not installed.
    """
    groups = parameter_groups(model.named_parameters(), lr=1e-3, weight_decay=0.01)
    optimizer = make_optimizer(name, groups, lr=1e-3, betas=(0.9, 0.98), fused=False)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    kept = {
        id(value): value.nbytes
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    }
    return sum(kept.values())


if __name__ == "__main__":
    enter(main)
