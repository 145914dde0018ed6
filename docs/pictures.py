"""Draw the pictures of the documentation that are drawn by code: ``python docs/pictures.py``.

The layers are those of the contract that import-linter holds; the light cone is the one that networks compute. It needs
Python 3.11.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import tomllib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from cellgraph import Lattice
from cellgraph.cone import LightCone

DOCS = Path(__file__).parent
#: What each layer is for; a box beside another one has no room for it.
TOLD = {
    "cli": "verbs; the only importer of hydra",
    "integrations": "ONNX, torch.export, scikit-learn, PyG, transformers",
    "studies": "the runs of a sweep in one table",
    "runs": "one experiment for every task, and how it is loaded",
    "training": "the engine: knows neither questions nor automata",
    "sequence": "token states and turns through chains of blocks",
    "model": "CellGraph: any cell, tensors in, tensors out",
    "ends": "what stands around a lattice",
    "nn": "cells, perceptions, updates, surfaces, adapters",
    "ops": "the neighbour sum and its backends",
    "lattice": "shape, neighbourhood, boundary, mask",
    "cone": "which cells a rollout has to compute",
    "graph": "cells and who hears whom",
    "configuration": "from plain types to parts",
    "folder": "RunFolder: the only one that knows a run's paths",
}
INK, PALE, EDGE = "#1b2a41", "#dbe7f3", "#7d9bb8"
BESIDE, BESIDE_EDGE = "#f6e8d5", "#c79a5b"


def main() -> None:
    # Text stays text: it is read, searched and tested.
    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "cellgraph", "font.family": "sans-serif"}
    for draw in (layers, light_cone, neighbourhoods):
        figure = draw()
        path = DOCS / f"{draw.__name__}.svg"
        figure.savefig(path, metadata={"Date": None}, facecolor="white", bbox_inches="tight")
        # Matplotlib ends lines with blanks, which editors and hooks take away.
        path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
        print(path)


def contract() -> list[list[str]]:
    """The layers of the package, from the top, each the names that stand beside one another."""
    settings = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())
    rows = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return [[name.strip().removeprefix("cellgraph.") for name in row.split("|")] for row in rows]


def layers() -> plt.Figure:
    """Who may import whom: from above to below."""
    rows = contract()
    figure, axes = plt.subplots(figsize=(9.5, 0.44 * len(rows)))
    width, beside = 10.0, 2.6
    for number, names in enumerate(rows):
        y = len(rows) - number
        for place, name in enumerate(names):
            size = width / len(names)
            label = name if len(names) > 1 or name not in TOLD else f"{name}:  {TOLD[name]}"
            _box(axes, place * size, y, size - 0.12, 0.74, label, PALE, EDGE, fontsize=9 if len(names) < 7 else 6.5)
    for number, (name, told) in enumerate({"teacher": "texts to vectors", "data": "pairs and splits"}.items()):
        label = f"{name}\n{told};\nknows nothing\nof the lattice"
        _box(axes, width + 0.5, len(rows) - 6 - 4 * number, beside, 2.74, label, BESIDE, BESIDE_EDGE)
    axes.annotate("", (-0.45, 1), (-0.45, len(rows) + 0.7), arrowprops={"arrowstyle": "-|>", "color": INK})
    axes.text(-0.75, len(rows) / 2 + 1, "imports", rotation=90, ha="center", va="center", color=INK)
    axes.set(xlim=(-1.1, width + beside + 0.7), ylim=(0.6, len(rows) + 1.1))
    axes.axis("off")
    return figure


def light_cone() -> plt.Figure:
    """The cells that are computed, step by step, on the way from one side of a sheet to the other."""
    depth, width, num_steps = 11, 15, 14
    lattice = Lattice((depth, width), neighbourhood=4)
    first = lattice.layer == 0
    cone = LightCone(lattice, lattice.layer == depth - 1, num_steps, source=first)
    figure, panels = plt.subplots(1, 4, figsize=(9.5, 2.4))
    for axes, step in zip(panels, (0, 5, 10, 14), strict=True):
        grid = [[0.0] * width for _ in range(depth)]
        for nodes, value in ((cone.lent[step], 0.45), (cone.own[step], 1.0)):
            for node in nodes.tolist():
                grid[node // width][node % width] = value
        axes.imshow(grid, cmap="Blues", vmin=0, vmax=1.25, aspect="equal")
        axes.set(xticks=[], yticks=[], title=f"after step {step}")
    panels[0].set_ylabel("from face to face")
    figure.suptitle(f"{cone.share:.0%} of the cell updates: own cells dark, cells alike in all samples pale", y=1.04)
    return figure


def neighbourhoods() -> plt.Figure:
    """The 6, 18 and 26 neighbours of a cell, layer by layer."""
    figure, panels = plt.subplots(1, 3, figsize=(9.5, 3.4), subplot_kw={"projection": "3d"})
    for axes, count in zip(panels, (6, 18, 26), strict=True):
        offsets = Lattice((3, 3, 3), count).offsets
        for z, y, x in offsets:
            axes.plot([0, x], [0, y], [0, z], color=EDGE, linewidth=1)
        axes.scatter(*zip(*((x, y, z) for z, y, x in offsets), strict=True), color=EDGE, s=45, depthshade=False)
        axes.scatter([0], [0], [0], color=BESIDE_EDGE, s=90, depthshade=False)
        axes.set(title=f"{count} neighbours", box_aspect=(1, 1, 1))
        axes.set_axis_off()
    return figure


def _box(
    axes: Axes, x: float, y: float, width: float, height: float, text: str, face: str, edge: str, **font: float
) -> None:
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.03", facecolor=face, edgecolor=edge))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", color=INK, **{"fontsize": 9, **font})


if __name__ == "__main__":
    main()
