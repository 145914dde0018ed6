"""Drawing: what all pictures have in common."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from cellgraph.lattice import Lattice

#: Viridis and cividis keep their order for colour-blind readers and in print; purple to orange has a neutral middle.
AMOUNT, SHARE, SIGNED = "viridis", "cividis", "PuOr"


@dataclass(frozen=True)
class Picture:
    """A picture: the name of its file and what is in it."""

    file: str
    content: bytes

    @classmethod
    def of(cls, name: str, figure: Figure) -> Picture:
        """A figure as PNG."""
        return cls(f"{name}.png", png(figure))

    @property
    def name(self) -> str:
        """The name without the kind of file."""
        return self.file.rpartition(".")[0]

    @property
    def wide(self) -> bool:
        """Whether it cannot be read at the width of a telephone."""
        return Image.open(io.BytesIO(self.content)).width > 640

    @property
    def uri(self) -> str:
        """The picture inside the page."""
        kind = self.file.rpartition(".")[2]
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode()}"


def png(figure: Figure, *, dpi: int = 110) -> bytes:
    """A figure as PNG."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()


def blank(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    # Without pyplot there is no display and no global state.
    return Figure(figsize=(width, height), layout="constrained")


def side_by_side(figure: Figure | SubFigure, count: int) -> list[Axes]:
    """Panels in a row."""
    return list(np.ravel(figure.subplots(1, count, squeeze=False)))


def titled(axis: Axes, x: str, y: str, title: str) -> None:
    """Name a panel and its axes, and give all panels one look."""
    axis.set_xlabel(x, fontsize="small")
    axis.set_ylabel(y, fontsize="small")
    axis.set_title(title, fontsize="medium")
    axis.tick_params(labelsize="small")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(True, color="#DDDDDD", linewidth=0.6)
    axis.set_axisbelow(True)
    for name, ticks in ((x, axis.xaxis), (y, axis.yaxis)):
        if name in ("step", "layer") or name.startswith(("layer ", "distance")):
            ticks.set_major_locator(MaxNLocator(integer=True))


def thin(matrix: Tensor) -> Tensor:
    """At most 150 rows, evenly spaced: a picture shows no more."""
    return torch.arange(min(150, len(matrix))) * len(matrix) // min(150, len(matrix))


def grids(values: Tensor, lattice: Lattice) -> list[np.ndarray]:
    """Values of the cells as one picture a layer, NaN where no cell is."""
    grid = torch.full((lattice.mask.numel(),), torch.nan, dtype=torch.double)
    grid[lattice.grid_index] = values.double()
    array = grid.reshape(lattice.shape).numpy()
    if lattice.dim == 1:
        return [array[None]]
    return [np.atleast_2d(layer) for layer in array]


def layer_maps(maps: Mapping[str, Tensor], lattice: Lattice, colours: str, label: str) -> Figure:
    """Values of the cells, a row for each name and a column for each layer."""
    rows = {name: grids(values, lattice) for name, values in maps.items()}
    columns = len(next(iter(rows.values())))
    figure = blank(min(12.0, 1.8 + 1.0 * columns), 0.9 + 1.05 * len(rows))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    low = min(float(values.min()) for values in maps.values())
    high = max(float(values.max()) for values in maps.values())
    for index, (line, (name, pictures)) in enumerate(zip(axes, rows.items(), strict=True)):
        for number, (axis, grid) in enumerate(zip(line, pictures, strict=True)):
            image = axis.imshow(grid, cmap=colours, vmin=low, vmax=high)
            axis.set_xticks([]), axis.set_yticks([])
            if index == 0 and lattice.dim > 1:
                axis.set_title(f"layer {number}", fontsize="x-small")
        line[0].set_ylabel(name, fontsize="small")
    figure.colorbar(image, ax=axes, label=label, shrink=0.9, pad=0.01)
    return figure


def cell_maps(maps: Mapping[str, tuple[Tensor, str]], nodes: Tensor, lattice: Lattice) -> Figure:
    """Values of some cells, each quantity in colours and on a scale of its own: side by side where the cells are all in
    one layer, otherwise a row for each quantity and a column for each of their layers."""
    layers = sorted(set(lattice.layer[nodes].tolist())) if lattice.dim > 1 else [0]
    flat = len(layers) == 1
    figure = blank(3.5 * len(maps), 3.1) if flat else blank(min(12.0, 2.2 + len(layers)), 1.3 * len(maps))
    rooms = np.ravel(figure.subfigures(*((1, len(maps)) if flat else (len(maps), 1)), squeeze=False))
    for room, (name, (values, colours)) in zip(rooms, maps.items(), strict=True):
        everywhere = torch.full((lattice.num_nodes,), torch.nan, dtype=torch.double)
        everywhere[nodes] = values.double()
        axes = side_by_side(room, len(layers))
        low, high = min(0.0, float(values.min())), float(values.max())
        for axis, layer in zip(axes, layers, strict=True):
            image = axis.imshow(grids(everywhere, lattice)[layer], cmap=colours, vmin=low, vmax=max(high, low + 1e-9))
            axis.set_xticks([]), axis.set_yticks([])
            axis.set_title(name if flat else f"layer {layer}", fontsize="small" if flat else "x-small")
        if not flat:
            axes[0].set_ylabel(name, fontsize="x-small")
        room.colorbar(image, ax=axes, shrink=0.8).ax.tick_params(labelsize="x-small")
    return figure


def counted(x: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct points and how often each occurs."""
    points, counts = np.unique(np.stack([x.numpy(), y.double().numpy()], axis=1), axis=0, return_counts=True)
    return points[:, 0], points[:, 1], counts
