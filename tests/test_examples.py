"""The examples run to their end, each in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import environment

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))

#: What examples need beyond the library.
NEEDS = {"03_export_to_onnx": "onnxruntime", "05_states_on_a_graph": "networkx", "06_a_layer_of_bert": "accelerate"}

#: Those that spend most of their time in the compiler: with it they run among the slow tests.
COMPILED = {"08_a_cell_of_your_own"}


def cases() -> Iterator[Any]:
    """The examples, each with the variables of its process."""
    for example in EXAMPLES:
        if example.stem in COMPILED:
            yield pytest.param(example, {"TORCHDYNAMO_DISABLE": "1"}, id=f"{example.stem}, uncompiled")
        marks = [pytest.mark.slow] if example.stem in COMPILED else []
        yield pytest.param(example, {}, id=example.stem, marks=marks)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize(("example", "variables"), [*cases()])
def test_an_example_runs(example: Path, variables: dict[str, str], tmp_path: Path) -> None:
    needed = NEEDS.get(example.stem)
    if needed is not None and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    done = subprocess.run(
        [sys.executable, str(example)],
        cwd=tmp_path,
        env=environment(tmp_path) | variables,
        capture_output=True,
        text=True,
        timeout=900,  # on a machine that does much else at the same moment
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
