"""The command in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from cellgraph.cli import main; main()", *map(str, arguments)]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "CELLGRAPH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def run(folder: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(folder) | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
