"""Questions that are programs of their own: what is wrong with what was given is one line."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest


# Another test may have imported the module that is run.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("serving nosuch", "No such file or directory: 'nosuch/pairs/test.jsonl'"),
        ("adapters nosuch.jsonl", "No such file or directory: 'nosuch.jsonl'"),
        ("teachers nosuch.jsonl", "No such file or directory: 'nosuch.jsonl'"),
        ("soak --every 5 --updates 4", "--every must be at least 1 and at most --updates 4, got 5"),
        ("soak --every 0 --updates 4", "--every must be at least 1 and at most --updates 4, got 0"),
        ("soak --updates 0", "--every must be at least 1 and at most --updates 0, got 1"),
    ],
)
def test_what_is_wrong_is_one_line(
    line: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *arguments = line.split()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"/somewhere/{name}.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(f"cellgraph.benchmarks.{name}", run_name="__main__", alter_sys=False)
    said = str(stopped.value)
    assert said.startswith(f"{name}: ")
    assert said.endswith(message)
    assert "\n" not in said
