"""The report: what a trained lattice learned, on one page that needs no network."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from torch import Tensor

from cellgraph.analysis.plots import Curve, plot_loss, plot_similarity, read_metrics
from cellgraph.analysis.report import figures, solids
from cellgraph.analysis.report.drawing import png
from cellgraph.analysis.report.page import Picture, render
from cellgraph.analysis.report.sections import QUICK, Effort
from cellgraph.analysis.report.study import STAGES, Study, study
from cellgraph.data import QAPair
from cellgraph.files import write_atomically
from cellgraph.model import CellGraph
from cellgraph.training import EmbeddedPairs

__all__ = ["QUICK", "STAGES", "Effort", "Study", "report_run", "study", "write_report"]

PAGE, NUMBERS = "report.html", "report.json"


#: Files of a report, and their share of the time.
NUM_FILES, FILES_SHARE = 17, 12


def report_run(
    run: str | Path,
    pairs: Sequence[QAPair],
    embedded: EmbeddedPairs,
    folder: str | Path,
    *,
    quick: bool = False,
    console: Console | None = None,
) -> Path:
    """Study the network of a run folder and write the report, with a progress bar.

    Args:
        run: The run folder, with ``model/`` and ``metrics.csv``.
        pairs: Its held-out pairs.
        embedded: Their embeddings.
        folder: Where the report goes.
        quick: Measure less.
        console: Where progress is shown.

    Returns:
        The page.

    Raises:
        ValueError: If the run holds no network or no log, or has too few held-out pairs.
        OSError: If the folder cannot be written.
    """
    run, folder = Path(run), Path(folder)
    # A folder that cannot be written is told of now, not after minutes.
    folder.mkdir(parents=True, exist_ok=True)
    model = CellGraph.from_pretrained(run / "model")
    model.cell.use_fused()
    if not (run / "metrics.csv").is_file():
        raise ValueError(f"{run} holds no log of its training: metrics.csv is missing")
    curves = read_metrics(run / "metrics.csv")
    columns = (TextColumn("{task.description:<16}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console or Console()) as bar:
        task = bar.add_task(next(iter(STAGES)), total=sum(STAGES.values()) + FILES_SHARE)
        result = study(
            model,
            pairs,
            embedded.question,
            embedded.answer,
            curves,
            effort=QUICK if quick else Effort(),
            progress=lambda stage, share: bar.update(task, advance=share * STAGES[stage], description=stage),
        )
        bar.update(task, description="page")
        title = f"What the lattice learned: {run.resolve().name}"
        advance = functools.partial(bar.advance, task, FILES_SHARE / NUM_FILES)
        return write_report(result, model, pairs, folder, title=title, progress=advance)


def write_report(
    result: Study,
    model: CellGraph,
    pairs: Sequence[QAPair],
    folder: str | Path,
    *,
    title: str = "What the lattice learned",
    progress: Callable[[], None] = lambda: None,
) -> Path:
    """Write ``report.html``, ``report.json``, the pictures and the animation of a study into a folder.

    Args:
        result: What :func:`study` measured.
        model: The network.
        pairs: The held-out pairs, for what is shown on pointing at them.
        folder: Where the files go; made if it is missing.
        title: Heading of the page.
        progress: Called after each picture.

    Returns:
        The page.

    Raises:
        OSError: If a file cannot be written.
    """
    folder = Path(folder)
    lattice = model.lattice
    drawings: dict[str, Callable[[], Any]] = {
        "embeddings": lambda: figures.embeddings(result),
        "cosines": lambda: figures.cosines(result),
        "slices": lambda: figures.slices(result, lattice),
        "stages": lambda: figures.stages(result),
        "cells": lambda: figures.cells(result, lattice),
        "ablation": lambda: figures.ablation(result, lattice),
        "influence": lambda: figures.influences(result, lattice),
        "arrivals": lambda: figures.arrivals(result, lattice),
        "clusters": lambda: figures.clusters(result, lattice),
        "long_run": lambda: figures.long_run(result),
        "significance": lambda: figures.significance(result),
        "gradients": lambda: figures.dynamics(result.curves),
        "stencil": lambda: solids.stencil(result),
    }
    pictures: dict[str, Picture] = {}
    for name, draw in drawings.items():
        figure = draw()
        if figure is not None:
            pictures[name] = Picture(f"{name}.png", png(figure))
            write_atomically(folder / pictures[name].file, pictures[name].content)
        progress()
    for name, plot in (("loss", plot_loss), ("similarity", plot_similarity)):
        content = _plotted(plot, result.curves, folder / f"{name}.png")
        if content is not None:
            pictures[name] = Picture(f"{name}.png", content)
        progress()
    pictures["cube"] = Picture("cube.gif", solids.animation(result, lattice))
    write_atomically(folder / "cube.gif", pictures["cube"].content)
    progress()
    write_atomically(folder / NUMBERS, (json.dumps(plain(result.summary), indent=2, allow_nan=False) + "\n").encode())
    write_atomically(folder / PAGE, render(result, lattice, pairs, pictures, title).encode())
    progress()
    return folder / PAGE


def plain(value: Any) -> Any:
    """A nested value as JSON has it: what is not a finite number is ``None``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Tensor):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plotted(
    plot: Callable[[Mapping[str, Curve], Path], Path], curves: Mapping[str, Curve], path: Path
) -> bytes | None:
    try:
        return plot(curves, path).read_bytes()
    except ValueError:
        # A run cut short has logged nothing of the kind.
        return None
