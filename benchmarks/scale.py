"""How do time and memory grow with the size of the lattice and with the number of steps?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cellgraph.ops import AUTO

from .measure import SAFE_SHARE, Contender, PeakMemory, free_memory, release
from .progress import Progress
from .report import Report
from .setting import DTYPES, FASTEST_DTYPE, MODES, Setting
from .workload import backend_names, fastest_backend, library_contender

DEFAULTS: dict[str, Any] = {
    "cells": [10**power for power in range(2, 8)],
    "steps": [1, 4, 16, 64, 256],
    "modes": list(MODES),
    "dtypes": [FASTEST_DTYPE],
    "backend": None,
    "rounds": 5,
    "seconds": 30.0,
}
QUICK: dict[str, Any] = {
    "cells": [100, 1_000, 10_000],
    "steps": [1, 4, 16],
    "modes": ["forward"],
    "rounds": 3,
    "seconds": 5.0,
}

#: Steps of the rollouts on which lattices of all sizes are compared, and the cube on which numbers of steps are.
_STEPS, _CELLS = 2, 1_000
#: Memory of building a lattice and its cell, by cell, until it has been measured: edges are 64-bit integers.
_BUILD_BYTES = 2_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this question."""
    parser.add_argument("--cells", type=int, nargs="+", help="cells of the lattices, rounded to cubes")
    parser.add_argument("--steps", type=int, nargs="+", help="steps of the rollouts")
    parser.add_argument("--modes", nargs="+", choices=MODES, help="what to measure")
    parser.add_argument("--dtypes", nargs=1, choices=list(DTYPES), help="precision")
    parser.add_argument("--backend", choices=backend_names(), help="the fastest that runs by default")
    parser.add_argument("--rounds", type=int, help="times each is measured")
    parser.add_argument("--seconds", type=float, help="longest call: what would take longer is left out")


def run(options: argparse.Namespace, report: Report, device: torch.device) -> None:
    """Measure ever larger lattices, then ever longer rollouts, with one sample, until memory or patience ends."""
    base = Setting(options.backend or AUTO, cube(_CELLS), num_steps=_STEPS, batch=1, dtype=options.dtypes[0])
    if base.backend == AUTO:
        base = replace(base, backend=fastest_backend(base, device))
    with Progress("scale") as progress:
        for mode in options.modes:
            start = replace(base, mode=mode)
            sizes = [replace(start, shape=shape) for shape in sorted({cube(cells) for cells in options.cells})]
            _series("cells", sizes, options, report, device, progress)
            lengths = [replace(start, shape=cube(_CELLS), num_steps=steps) for steps in sorted({*options.steps})]
            _series("steps", lengths, options, report, device, progress)
    for mode in options.modes:
        report.answers += growth([row for row in report.rows if row["mode"] == mode])


def cube(cells: int) -> tuple[int, int, int]:
    """The cube with a number of cells near the given one.

    Example:
        >>> cube(10_000)
        (22, 22, 22)
    """
    side = max(1, round(cells ** (1 / 3)))
    return side, side, side


def growth(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The exponents with which time and memory grow, fitted to the larger half of each series."""
    for series, column in (("cells", "num_cells"), ("steps", "num_steps")):
        own = [row for row in rows if row["series"] == series]
        large = own[-max(2, (len(own) + 1) // 2) :]
        size = [row[column] for row in large]
        if len({*size}) < 2:
            continue
        parts = [f"time ~ {series}^{exponent(size, [1 / row['samples_per_s'] for row in large]):.2f}"]
        if all(row["peak_bytes"] for row in large):
            parts.append(f"memory ~ {series}^{exponent(size, [row['peak_bytes'] for row in large]):.2f}")
        yield f"{own[0]['mode']}: {', '.join(parts)} (fitted from {size[0]:,} to {size[-1]:,} {series})"


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The power of the size that a value grows with: the slope of the line through their logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _series(
    name: str,
    settings: Sequence[Setting],
    options: argparse.Namespace,
    report: Report,
    device: torch.device,
    progress: Progress,
) -> None:
    """Measure settings of rising size, each forgotten before the next is built."""
    last: dict[str, Any] | None = None
    for setting in settings:
        progress.say(f"{setting.mode} {setting.num_cells:,} cells, {setting.num_steps} steps")
        reason = _too_much(last, setting, options.seconds, device)
        if reason:
            report.skip(f"{setting.mode}, {setting.num_cells:,} cells, {setting.num_steps} steps and more", reason)
            return
        try:
            release()
            with PeakMemory(torch.device("cpu")) as building:
                contender = library_contender(setting, device)
            contender.warm_up(device, slot=0.2)
            _measure(contender, options.rounds, options.seconds)
        except (ValueError, RuntimeError, ImportError) as error:
            report.skip(setting, error)
            return
        more = {"series": name, "build_bytes": building.bytes}
        last = report.add(setting, seconds=contender.seconds, peak_bytes=contender.peak_bytes, more=more)


def _measure(contender: Contender, rounds: int, longest: float) -> None:
    """Up to so many rounds, fewer of a call that takes long; one at least."""
    for _ in range(rounds):
        contender.play()
        if sum(contender.seconds) > longest:
            return


def _too_much(last: dict[str, Any] | None, setting: Setting, longest: float, device: torch.device) -> str:
    """Why a setting should not be tried, judged by the one before it: nothing grows faster than cells x steps."""
    free = free_memory(device)
    needed = float(_BUILD_BYTES * setting.num_cells)
    if last is not None:
        cells = setting.num_cells / last["num_cells"]
        needed = max(needed, cells * (last["build_bytes"] or 0))
        needed += cells * setting.num_steps / last["num_steps"] * (last["peak_bytes"] or 0)
        seconds = cells * setting.num_steps / last["num_steps"] / last["samples_per_s"]
        if seconds > longest:
            return f"a call would take {seconds:.0f} s, more than the {longest:g} s allowed (--seconds)"
    if needed > SAFE_SHARE * free:
        return f"would take {needed / 2**30:.1f} GiB of the {free / 2**30:.1f} GiB free"
    return ""
