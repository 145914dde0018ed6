"""Build the 15 x 15 x 11 cube and watch a signal walk through it.

A new network carries its input face to its output face unchanged. This script prints how the signal moves from layer
to layer, step by step, and draws it.

    python examples/01_build_a_cube.py [picture.png]
"""

from __future__ import annotations

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from cellgraph import CellGraph, GMLPCell, Lattice


def main(picture: str = "cube.png") -> None:
    torch.manual_seed(0)
    lattice = Lattice((11, 15, 15), neighbourhood=6)
    cell = GMLPCell(lattice)
    model = CellGraph(cell, in_features=225, surface_channels=1, num_steps=14, adapter="linear", path="none")
    model.eval()
    print(lattice, f"{lattice.num_nodes:,} cells, {lattice.num_edges:,} edges")
    for part, count in model.parameter_counts().items():
        print(f"{part:>10}: {count:>9,} parameters")

    question = torch.nn.functional.normalize(torch.randn(1, 225), dim=1)
    with torch.no_grad():
        out = model(question, trajectory=True)
    assert out.trajectory is not None
    # Root mean square of the injected channel, by step and layer.
    strength = out.trajectory[:, 0, :, 0].unflatten(1, lattice.shape).flatten(2).square().mean(2).sqrt()
    print("\nstrength of the signal by layer, every second step")
    for step in range(0, len(strength), 2):
        print(f"step {step:2d}  " + " ".join(f"{value:4.2f}" for value in strength[step]))
    error = float((out.embedding - question).abs().max())
    print(f"\nlargest difference between what went in and what came out: {error:.1e}")

    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    image = axis.imshow(strength.T, aspect="auto", cmap="cividis", origin="lower")
    axis.set(xlabel="step", ylabel="layer (0 = input face)", title="A signal on its way through a new cube")
    figure.colorbar(image, label="root mean square of the injected channel")
    figure.savefig(picture, dpi=120)
    print(f"drawn in {picture}")


if __name__ == "__main__":
    main(*sys.argv[1:])
