"""The report: what a trained lattice learned, on one page that needs no network."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from torch import Tensor

from cellgraph.analysis.plots import Curve, read_metrics
from cellgraph.analysis.report.automaton import AutomatonStudy, render_automaton
from cellgraph.analysis.report.drawing import Picture
from cellgraph.analysis.report.page import render
from cellgraph.analysis.report.study import STAGES, Study, study
from cellgraph.analysis.report.subject import QUICK, Effort
from cellgraph.automata import Automaton
from cellgraph.data import QAPair
from cellgraph.files import write_atomically, write_json
from cellgraph.folder import RunFolder
from cellgraph.generators import own_generators
from cellgraph.model import CellGraph
from cellgraph.reading import faults, read_json
from cellgraph.retrieval import EmbeddedPairs
from cellgraph.retrieval.question_answering import LATTICE
from cellgraph.retrieval.stages import ADAPTERS_ALONE

__all__ = ["QUICK", "STAGES", "Effort", "Study", "report_automaton", "report_run", "study", "write_report"]

PAGE, NUMBERS = "report.html", "report.json"

#: Pictures of a report, and their share of the time.
NUM_PICTURES, PICTURES_SHARE = 21, 6


def report_run(
    run: str | os.PathLike[str],
    pairs: Sequence[QAPair],
    embedded: EmbeddedPairs,
    folder: str | os.PathLike[str],
    *,
    training: Tensor | None = None,
    quick: bool = False,
    console: Console | None = None,
) -> Path:
    """Study the network of a run folder and write the report, with a progress bar.

    Args:
        run: The run folder, with ``model/`` and ``metrics.csv``.
        pairs: Its held-out pairs.
        embedded: Their embeddings.
        folder: Where the report goes.
        training: Question embeddings of training pairs, ``[num_training_pairs, in_features]``.
        quick: Measure less.
        console: Where progress is shown.

    Returns:
        The page.

    Raises:
        ValueError: If the run holds no network or no log, or has too few held-out pairs.
        OSError: If the folder cannot be written.
    """
    source, folder = RunFolder(run), Path(folder)
    # A folder that cannot be written is told of now, not after minutes.
    folder.mkdir(parents=True, exist_ok=True)
    model = CellGraph.from_pretrained(source.model)
    model.compile_step(compiling=False)
    curves = _curves(source)
    columns = (TextColumn("{task.description:<16}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console or Console()) as bar:
        task = bar.add_task(next(iter(STAGES)), total=sum(STAGES.values()) + PICTURES_SHARE)
        result = study(
            model,
            pairs,
            embedded.pooled,
            embedded.answer,
            curves,
            training=training,
            lead=_lead(source),
            effort=QUICK if quick else Effort(),
            progress=lambda stage, share: bar.update(task, advance=share * STAGES[stage], description=stage),
        )
        bar.update(task, description="pictures")
        title = f"What the lattice learned: {source.path.resolve().name}"
        return write_report(
            result, folder, title=title, progress=lambda: bar.advance(task, PICTURES_SHARE / NUM_PICTURES)
        )


def report_automaton(
    model: Automaton,
    run: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    num_steps: int,
    quick: bool = False,
) -> Path:
    """Study the automaton of a run folder and write the report.

    Args:
        model: The automaton, in evaluation mode.
        run: The run folder, with ``metrics.csv``.
        folder: Where the report goes.
        num_steps: Steps of a rollout.
        quick: Measure less.

    Returns:
        The page.

    Raises:
        ValueError: If the run holds no log.
        OSError: If the folder cannot be written.
    """
    source = RunFolder(run)
    told = read_json(source.evaluation) if source.evaluation.exists() else {}
    samples, rounds = (2, 2) if quick else (8, 4)
    # Not every task's pictures bring a generator for cells that update at random.
    with own_generators(0):
        result = AutomatonStudy.measure(
            model, _curves(source), told.get("held_out", {}), num_steps=num_steps, samples=samples, rounds=rounds
        )
    title = f"What the automaton does: {source.path.resolve().name}"
    return write_report(result, folder, title=title, page=render_automaton)


def write_report(
    result: Any,
    folder: str | os.PathLike[str],
    *,
    title: str = "What the lattice learned",
    page: Callable[[Any, Mapping[str, Picture], str], str] = render,
    progress: Callable[[], None] = lambda: None,
) -> Path:
    """Write ``report.html``, ``report.json``, the pictures and the animation of a study into a folder.

    Args:
        result: What :func:`study` measured, or another study with ``numbers`` and ``pictures()``.
        folder: Where the files go; made if it is missing.
        title: Heading of the page.
        page: Makes the page of the study, its pictures by name, and the title.
        progress: Called after each picture.

    Returns:
        The page.

    Raises:
        OSError: If a file cannot be written.
    """
    folder = Path(folder)
    pictures = {}
    for picture in result.pictures():
        pictures[picture.name] = picture
        write_atomically(folder / picture.file, picture.content)
        progress()
    write_json(folder / NUMBERS, plain(result.numbers))
    write_atomically(folder / PAGE, page(result, pictures, title).encode())
    return folder / PAGE


def _curves(run: RunFolder) -> dict[str, Curve]:
    if not run.metrics.is_file():
        raise ValueError(f"{run} holds no log of its training: {run.metrics.name} is missing")
    return read_metrics(run.metrics)


def _lead(run: RunFolder) -> dict[str, float | None] | None:
    """The network's lead over the adapters alone in the run's table, if it was measured."""
    if not run.evaluation.is_file():
        return None
    told = read_json(run.evaluation)
    with faults(str(run.evaluation)):
        for row in told.get("differences", []):
            if (row["name"], row["against"]) == (LATTICE, ADAPTERS_ALONE):
                return {name: row.get(name) for name in ("mrr", "mrr_low", "mrr_high", "mrr_p")}
    return None


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
