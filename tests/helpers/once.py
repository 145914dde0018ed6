"""What takes long to make is made once for a session of tests, by whichever of its processes comes first."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder for all tests of a session, in all its processes: to be read, or copied by whoever changes it.

    Args:
        factory: The session's folders.
        name: The folder's name, by which it is found again.
        make: Fills the folder, which is there and empty.
    """
    base = factory.getbasetemp()
    # Processes of pytest-xdist have folders of their own beside one another.
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once" / name
    place.mkdir(parents=True, exist_ok=True)
    made = place.with_name(f"{name}.made")
    with FileLock(place.with_name(f"{name}.lock")):
        if not made.exists():
            make(place)
            made.touch()
    return place
