"""The pictures of the documentation show what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_layers_are_those_of_the_contract() -> None:
    tomllib = pytest.importorskip("tomllib")
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    wanted = [name.strip().removeprefix("cellgraph.") for row in contract["layers"] for name in row.split("|")]
    drawn = re.findall(r"<text[^>]*>([^<]*)</text>", (ROOT / "docs" / "layers.svg").read_text())
    names = [text.split(":")[0] for text in drawn]
    assert [name for name in names if name in wanted] == wanted, "draw it again: python docs/pictures.py"
