"""The runs of a sweep: their configurations and held-out figures."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellgraph.configuration import read_config
from cellgraph.folder import RunFolder
from cellgraph.reading import read_json

#: The system of an automaton's figures, which has no others beside it.
AUTOMATON = "automaton"


@dataclass(frozen=True)
class StudiedRun:
    """A finished run of a sweep.

    Attributes:
        folder: The run folder.
        config: Its configuration.
        figures: Held-out figures by system and measure.
    """

    folder: RunFolder
    config: Mapping[str, Any]
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def seed(self) -> Any:
        """The seed that the run was made with."""
        return self.config.get("seed")


def read_runs(folder: str | os.PathLike[str]) -> tuple[list[StudiedRun], list[Path]]:
    """The finished runs below a folder, and the folders of those that are not finished.

    Args:
        folder: That of a sweep (`hydra.sweep.dir`), or any that has run folders in it, at any depth.

    Raises:
        ValueError: If there is no folder, no finished run, or a file of one is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"expected the folder of a sweep, got {folder}: there is no such folder")
    finished, others = [], []
    for config in sorted(folder.rglob("config.yaml"), key=_in_order):
        run = RunFolder(config.parent)
        if _within_a_run(run.path, folder):
            continue
        if not run.evaluation.is_file():
            others.append(run.path)
            continue
        finished.append(StudiedRun(run, read_config(run), _figures(run.evaluation)))
    if not finished:
        there = f"{len(others)} that have not been evaluated" if others else "no run at all"
        raise ValueError(f"expected finished runs below {folder}, got {there}")
    return finished, others


def _in_order(path: Path) -> list[tuple[int, int, str]]:
    # Hydra numbers the runs of a sweep: the tenth is after the ninth.
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in path.parts]


def _within_a_run(path: Path, top: Path) -> bool:
    above = [parent for parent in path.parents if parent == top or top in parent.parents]
    return any((parent / "config.yaml").is_file() for parent in above)


def _figures(path: Path) -> dict[str, dict[str, float]]:
    try:
        evaluation = read_json(path)
        if "rows" in evaluation:
            return {row["name"]: _numbers({k: v for k, v in row.items() if k != "name"}) for row in evaluation["rows"]}
        return {AUTOMATON: _numbers(evaluation.get("held_out", evaluation))}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from None


def _numbers(node: Mapping[str, Any], before: str = "") -> dict[str, float]:
    """All the numbers of a tree by their path."""
    found: dict[str, float] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{before}{key}.")
        elif isinstance(value, int | float):
            found[f"{before}{key}"] = float(value)
    return found
