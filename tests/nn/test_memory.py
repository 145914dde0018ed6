"""The memory is the last channels of a state, wherever it is looked at."""

from __future__ import annotations

import re
from pathlib import Path

import torch

import cellgraph
from cellgraph.nn.memory import memory_of, with_memory


def test_the_last_channels_are_the_memory() -> None:
    x = torch.arange(24.0).view(2, 3, 4)
    memory = memory_of(x, 1)
    assert memory is not None
    assert memory.flatten().tolist() == [3, 7, 11, 15, 19, 23]
    other = with_memory(x, torch.full((2, 3, 2), -1, dtype=torch.int64))
    assert other.dtype == x.dtype
    assert other[0, 0].tolist() == [0, 1, -1, -1]
    assert other[1, 2].tolist() == [20, 21, -1, -1]
    assert x[0, 0].tolist() == [0, 1, 2, 3]


def test_without_memory_there_is_none() -> None:
    x = torch.ones(2, 3, 4)
    assert memory_of(x, 0) is None
    assert with_memory(x, None) is x


def test_nobody_else_says_which_channels_those_are() -> None:
    root = Path(cellgraph.__file__).parent
    sliced = re.compile(r"\[[^\]]*:[^\]]*memory_channels|\[[^\]]*memory_channels[^\]]*:")
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if any(sliced.search(line) for line in path.read_text(encoding="utf-8").splitlines())
    }
    assert found == {"nn/memory.py"}
