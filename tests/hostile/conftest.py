"""What every test of a stranger's files looks at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """What must not be there afterwards."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists(), "something was executed"
