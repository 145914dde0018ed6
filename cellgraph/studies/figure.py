"""The figure of a study: mean and spread of each setting, and what stands beside it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cellgraph.analysis.plots import MARKERS, PALETTE, plain_label
from cellgraph.files import write_atomically
from cellgraph.studies.comparison import Comparison, Outcome
from cellgraph.studies.law import PowerLaw

#: Systems that are drawn, the best ones: more lines than colours say nothing.
MOST = len(MARKERS)


def draw(comparison: Comparison, path: Path, *, law: PowerLaw | None = None, law_key: str = "") -> None:
    """Draw a study: over the values of its key where that is one of numbers, otherwise a line a setting.

    Args:
        comparison: What was found.
        path: The PNG file.
        law: A law to draw with it.
        law_key: The key that it is of.
    """
    numbers = [outcome.setting[key] for outcome in comparison.settings for key in comparison.keys]
    along = len(comparison.keys) == 1 and all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
    height = 4.0 if along else 1.2 + 0.45 * len(comparison.settings)
    figure = Figure(figsize=(8, height), layout="constrained")
    axes = figure.subplots()
    by_system = {comparison.system: list(comparison.settings)}
    for outcome in comparison.systems:
        by_system.setdefault(outcome.system, []).append(outcome)
    best = sorted(by_system, key=lambda name: -max(outcome.mean for outcome in by_system[name]))
    shown = [comparison.system, *(name for name in best if name != comparison.system)][:MOST]
    names = [outcome.name for outcome in comparison.settings]
    for number, system in enumerate(shown):
        style = {
            "color": list(PALETTE.values())[number],
            "marker": MARKERS[number],
            "label": plain_label(system),
            "markersize": 5,
        }
        if along:
            _over(axes, by_system[system], comparison.keys[0], style)
        else:
            _beside(axes, by_system[system], names, number / len(shown), style)
    if along:
        axes.set_xlabel(plain_label(comparison.keys[0]))
        axes.set_ylabel(comparison.measure)
        if min(numbers) > 0 and max(numbers) >= 8 * min(numbers):
            axes.set_xscale("log")
        if law is not None and comparison.keys[0] == law_key:
            sizes = np.geomspace(min(numbers), max(numbers), 100)
            axes.plot(sizes, [1 - law(size) for size in sizes], color="0.5", linestyle=":", label="power law")
    else:
        axes.set_yticks([row + 0.4 for row in range(len(names))], list(map(plain_label, names)))
        axes.invert_yaxis()
        axes.set_xlabel(comparison.measure)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    content = io.BytesIO()
    figure.savefig(content, dpi=150, metadata={"Software": None})
    write_atomically(path, content.getvalue())


def _over(axes: Axes, outcomes: Sequence[Outcome], key: str, style: dict[str, Any]) -> None:
    placed = sorted(outcomes, key=lambda outcome: outcome.setting[key])
    x = [outcome.setting[key] for outcome in placed]
    spread = [np.nan_to_num(outcome.deviation) for outcome in placed]
    axes.errorbar(x, [outcome.mean for outcome in placed], yerr=spread, capsize=3, **style)


def _beside(axes: Axes, outcomes: Sequence[Outcome], names: Sequence[str], shift: float, style: dict[str, Any]) -> None:
    y = [names.index(outcome.name) + 0.8 * shift for outcome in outcomes]
    spread = [np.nan_to_num(outcome.deviation) for outcome in outcomes]
    axes.errorbar([outcome.mean for outcome in outcomes], y, xerr=spread, capsize=3, linestyle="none", **style)
