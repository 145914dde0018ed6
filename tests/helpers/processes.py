"""The command: in a process of its own, or in this one."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cellgraph.cli import main
from cellgraph.files import cache_folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from cellgraph.cli import main; main()", *map(str, arguments)]


#: What takes longest to make again: the fused step's library.
OPERATORS = cache_folder() / "operators"


#: Only with these may a configuration say whether it is a sweep. Hydra composes all of it once before, to find out.
MODES = ("-m", "--multirun", "--config-dir", "sweep=", "hydra.mode=")


def environment(folder: Path) -> dict[str, str]:
    """Variables of a process with a cache of its own, but for the operators that were built."""
    cache = folder / "cache"
    if not cache.exists():
        OPERATORS.mkdir(parents=True, exist_ok=True)
        cache.mkdir(parents=True)
        (cache / "operators").symlink_to(OPERATORS, target_is_directory=True)
    return {**os.environ, "CELLGRAPH_CACHE": str(cache), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def run(folder: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as a user would."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(folder) | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def run_inside(folder: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """In this process, which has the imports behind it: most of what a short command takes."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["cellgraph", *map(str, arguments)])
        for name, value in (environment(folder) | variables).items():
            patch.setenv(name, value)
        if not any(str(argument).lstrip("+").startswith(MODES) for argument in arguments):
            patch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda *given, **options: None)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
            except SystemExit as stop:
                # What Python does at the end of a process.
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
                if isinstance(stop.code, str):
                    print(stop.code, file=sys.stderr)
    return subprocess.CompletedProcess(list(map(str, arguments)), code, out.getvalue(), err.getvalue())


def identify(exponent: int) -> tuple[int, int]:
    return os.getpid(), 2**exponent


def fail() -> None:
    raise ValueError("as expected")


def die() -> None:
    os.kill(os.getpid(), 9)
