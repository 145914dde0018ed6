"""Plots: loss and similarity curves of a run, from its ``metrics.csv``, or one that Lightning's CSVLogger wrote."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cellgraph.files import write_atomically, writing

#: Okabe and Ito (2008, https://jfly.uni-koeln.de/color/): told apart by colour-blind readers. Yellow is left out, too
#: pale for lines on white.
PALETTE = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "orange": "#E69F00",
    "black": "#000000",
}

#: Marks on top of the colours, so that the lines are told apart in print as well.
MARKERS = "osD^vP"

#: A logged quantity over the updates: (steps, values), gaps left out.
Curve = tuple[list[float], list[float]]

#: What the panel of learning rates is called.
RATE = "learning rate"

_STAGES = ("train", "val", "test")

#: Logged in training beside the losses.
_NOT_LOSSES = ("lr", "grad_norm", "num_steps", "temperature", "samples_per_second", "seconds")

_SIMILARITY_WORDS = ("cosine", "mrr", "recall", "similarity")


def plain_label(text: str) -> str:
    """A name that is not ours, for Matplotlib: it takes what is between two dollar signs for mathematics, and leaves
    out of a legend what begins with an underscore."""
    return text.replace("$", r"\$").lstrip("_") or "-"


def read_metrics(path: str | os.PathLike[str]) -> dict[str, Curve]:
    """Read the curves from a ``metrics.csv``.

    A cell is empty where a quantity was not logged; empty cells, NaN and infinities are left out. Where Lightning's own
    logger split a name into ``_step`` and ``_epoch``, the curve of the steps is kept under the plain name.

    Args:
        path: The file.

    Returns:
        By name of the column, the steps and the values, in the order of the steps.

    Raises:
        ValueError: If the file is empty or has no column ``step``.
    """
    path = Path(path)
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = list(reader.fieldnames or [])
        rows = list(reader)
    if "step" not in columns:
        raise ValueError(f"{path}: expected a column 'step', got {columns or 'an empty file'}")
    curves: dict[str, Curve] = {}
    # Names in "_step" come last and so replace those in "_epoch".
    for column in sorted(columns, key=lambda name: name.endswith("_step")):
        if column in ("step", "epoch"):
            continue
        points = [(_number(row["step"]), _number(row[column])) for row in rows]
        # A resumed run may log a step twice; the later row holds.
        kept = {step: value for step, value in points if step is not None and value is not None}
        if kept:
            steps = sorted(kept)
            curves[column.removesuffix("_step").removesuffix("_epoch")] = (steps, [kept[step] for step in steps])
    return curves


def plot_loss(curves: Mapping[str, Curve], path: str | os.PathLike[str]) -> Path:
    """Draw the losses: the total above, the named terms below, the learning rate at the bottom.

    Args:
        curves: What :func:`read_metrics` found; quantities that are missing are left out.
        path: The PNG to write.

    Raises:
        ValueError: If there is no loss among the curves.
        OSError: If the file cannot be written.
    """
    return _save(
        draw_loss(curves),
        path,
        "How to read: lower is better. Pale: each logged value; firm: the mean of those around it. Marks: validation "
        "pairs. Validation that rises while training falls is overfitting.",
    )


def draw_loss(curves: Mapping[str, Curve]) -> Figure:
    """The picture of :func:`plot_loss`, without its caption."""
    losses = {name: curve for name, curve in curves.items() if shows_loss(name)}
    totals = {name: curve for name, curve in losses.items() if name.endswith("/loss")}
    terms = {name: curve for name, curve in losses.items() if name.startswith("train/") and name not in totals}
    rates = {name: curve for name, curve in curves.items() if name.removeprefix("train/").split("-")[0] == "lr"}
    if not totals and not terms:
        raise ValueError(f"no loss to plot among the curves {sorted(curves)}")
    panels = {"loss (weighted sum,\ndimensionless)": totals, "terms\n(dimensionless)": terms, RATE: rates}
    return _stacked("Loss", panels, height=1.9)


def plot_similarity(curves: Mapping[str, Curve], path: str | os.PathLike[str]) -> Path:
    """Draw how near predictions come to the answers: cosines above, retrieval (MRR, recall) below.

    Args:
        curves: What :func:`read_metrics` found; quantities that are missing are left out.
        path: The PNG to write.

    Raises:
        ValueError: If there is no similarity among the curves.
        OSError: If the file cannot be written.
    """
    return _save(
        draw_similarity(curves),
        path,
        "How to read: higher is better, 1 is perfect; the axes need not start at zero. The same mean answer to every "
        "question already scores a fair cosine, but retrieves nothing: judge by both.",
    )


def draw_similarity(curves: Mapping[str, Curve]) -> Figure:
    """The picture of :func:`plot_similarity`, without its caption."""
    shown = {name: curve for name, curve in curves.items() if shows_similarity(name)}
    if not shown:
        raise ValueError(f"no similarity to plot among the curves {sorted(curves)}")
    cosines = {name: curve for name, curve in shown.items() if "cosine" in name or "similarity" in name}
    retrieval = {name: curve for name, curve in shown.items() if name not in cosines}
    panels = {"cosine\n(1 = same direction)": cosines, "retrieval\n(1 = true answer always first)": retrieval}
    return _stacked("Similarity of predicted and true answers", panels, height=2.0)


def plot_run(metrics: str | os.PathLike[str], folder: str | os.PathLike[str]) -> list[Path]:
    """Draw ``loss.png`` and ``similarity.png`` from a ``metrics.csv``, each where there is something to draw.

    Args:
        metrics: The CSV file.
        folder: Where the pictures go; made if it is missing.

    Returns:
        The pictures written.

    Raises:
        ValueError: If the file has no column ``step``.
        OSError: If a file cannot be read or written.
    """
    curves = read_metrics(metrics)
    folder = Path(folder)
    # A run cut short may have logged no validation yet.
    pictures = (("loss.png", plot_loss, shows_loss), ("similarity.png", plot_similarity, shows_similarity))
    return [plot(curves, folder / name) for name, plot, shows in pictures if any(map(shows, curves))]


def _stacked(title: str, panels: Mapping[str, Mapping[str, Curve]], *, height: float) -> Figure:
    """Panels by their label, as far as there is something in them, one above the other."""
    shown = {label: panel for label, panel in panels.items() if panel}
    figure = Figure(figsize=(8.0, 1.2 + height * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (label, panel) in zip(axes, shown.items(), strict=True):
        _draw(axis, panel, label, smooth=label != RATE)
    axes[0].set_title(title)
    axes[-1].set_xlabel("optimiser updates")
    return figure


def _draw(axis: Axes, panel: Mapping[str, Curve], label: str, *, smooth: bool) -> None:
    for number, (name, (steps, values)) in enumerate(sorted(panel.items())):
        colour = list(PALETTE.values())[number % len(PALETTE)]
        if name.startswith("train/") and smooth and len(values) >= 20:
            axis.plot(steps, values, color=colour, linewidth=0.8, alpha=0.25)
            axis.plot(steps, _smoothed(values), color=colour, linewidth=1.8, label=name)
        elif name.startswith(("val/", "test/")) or len(values) == 1:
            marker = MARKERS[number % len(MARKERS)]
            axis.plot(steps, values, color=colour, linewidth=1.5, marker=marker, markersize=4, label=name)
        else:
            axis.plot(steps, values, color=colour, linewidth=1.8, label=name)
    values = [value for _, column in panel.values() for value in column]
    if min(values) > 0 and max(values) > 30 * min(values) and smooth:
        axis.set_yscale("log")
    axis.set_ylabel(label)
    axis.grid(True, color="#DDDDDD", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small")


def _smoothed(values: Sequence[float]) -> list[float]:
    """Mean over a window about each value, a twentieth of the curve; centred, so that it does not lag behind."""
    reach = max(1, len(values) // 40)
    windows = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def _save(figure: Figure, path: str | os.PathLike[str], caption: str) -> Path:
    path = Path(path)
    # A supxlabel takes part in the layout, so that nothing is drawn over it.
    figure.supxlabel(caption, fontsize="small", color="#444444", wrap=True)
    picture = io.BytesIO()
    # A Figure made without pyplot draws with Agg: no display, no global state.
    figure.savefig(picture, format="png", dpi=120)
    with writing(path):
        write_atomically(path, picture.getvalue())
    return path


def shows_loss(name: str) -> bool:
    """Whether a logged quantity is a loss."""
    stage, _, quantity = name.partition("/")
    return stage in _STAGES and quantity not in _NOT_LOSSES and "lr-" not in quantity and not shows_similarity(name)


def shows_similarity(name: str) -> bool:
    """Whether a logged quantity is a similarity of predicted and true answers: terms of training, whatever their name,
    are losses."""
    return name.startswith(("val/", "test/")) and any(word in name for word in _SIMILARITY_WORDS)


def _number(cell: str | None) -> float | None:
    try:
        value = float(cell or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
