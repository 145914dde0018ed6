"""Questions of ``cellgraph bench`` at a tiny size, in this process."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from cellgraph.benchmarks import command
from cellgraph.benchmarks.report import FIGURES

ROW = {"backend", "neighbourhood", "batch", "dtype", "mode", "checkpoint", "num_steps", "num_cells", *FIGURES}
ANY_SHAPE = ("--quick", "--threads", "1", "--device", "cpu")
TINY = (*ANY_SHAPE, "--shape", "3", "3", "3")


def bench(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object) -> tuple[dict, str]:
    """Run a question; its JSON and what it printed."""
    file = folder / "figures.json"
    command.main([*map(str, arguments), "--json", str(file)])
    found = json.loads(file.read_text())
    assert set(found) == {"machine", "settings", "rows", "skipped", "answers"}
    assert {"processor", "cores", "threads", "memory_bytes", "device", "packages"} <= set(found["machine"])
    for row in found["rows"]:
        assert set(row) >= ROW
    return found, capsys.readouterr().out


def interrupt(*arguments: object, **more: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def interrupted(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object) -> tuple[dict, str]:
    """As :func:`bench`, of a question that is interrupted."""
    file = folder / "figures.json"
    with pytest.raises(SystemExit) as stopped:
        command.main([*map(str, arguments), "--json", str(file)])
    assert stopped.value.code == 130
    return json.loads(file.read_text()), capsys.readouterr().out
