"""The examples run to their end: one as from a shell, the others in this process, which has the imports behind it.

In this process training is cut short, and the step of a cell of one's own is not compiled; the slow tests have it all.
"""

from __future__ import annotations

import contextlib
import importlib.util
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from few import few_updates
from processes import environment

from cellgraph import Cell

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))

#: What examples need beyond the library.
NEEDS = {"03_export_to_onnx": "onnxruntime", "05_states_on_a_graph": "networkx", "06_a_layer_of_bert": "accelerate"}

#: Those that compile, which takes longer than all else of them.
COMPILED = {"08_a_cell_of_your_own"}

#: Updates that are enough for all that comes after training.
UPDATES = 10


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """What an example leaves behind in its process is not for other tests."""
    yield
    plt.close("all")
    for name in [name for name in Cell.kinds if name.startswith("__main__.")]:
        del Cell.kinds[name]


def needs(example: Path) -> None:
    needed = NEEDS.get(example.stem)
    if needed is not None and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")


def from_a_shell(example: Path, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(example)],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=900,  # on a machine that does much else at the same moment
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_runs(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needs(example)
    monkeypatch.chdir(tmp_path)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", [str(example)])
    monkeypatch.setattr(sys, "path", [str(example.parent), *sys.path])
    few_updates(monkeypatch, UPDATES)
    with torch.compiler.set_stance("force_eager") if example.stem in COMPILED else contextlib.nullcontext():
        runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.strip()


def test_an_example_runs_from_a_shell(tmp_path: Path) -> None:
    from_a_shell(EXAMPLES[0], tmp_path)
    assert (tmp_path / "cube.png").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES[1:], ids=lambda example: example.stem)
def test_an_example_runs_whole_from_a_shell(example: Path, tmp_path: Path) -> None:
    needs(example)
    from_a_shell(example, tmp_path)
