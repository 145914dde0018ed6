"""The small JSON file that says which teacher a folder holds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cellgraph.files import write_atomically
from cellgraph.reading import read_json

STATE_FILE = "teacher.json"


def write_state(folder: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write a teacher's kind, options and fingerprint as ``teacher.json``.

    Raises:
        OSError: If the folder cannot be written.
    """
    write_atomically(Path(folder) / STATE_FILE, (json.dumps(state, indent=2, ensure_ascii=False) + "\n").encode())


def read_state(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read ``teacher.json``: plain data, nothing in it is ever executed.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is not a JSON object with a kind.
    """
    path = Path(folder) / STATE_FILE
    state: dict[str, Any] = read_json(path, object)
    if not isinstance(state, dict) or not isinstance(state.get("kind"), str):
        raise ValueError(f"{path} describes no teacher: expected an object with a 'kind'")
    return state


def checked_options(path: str | os.PathLike[str], state: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """The options in a state, known to be exactly the expected ones.

    Raises:
        ValueError: If an option is missing or unknown, or there is no fingerprint.
    """
    options = state.get("options")
    if not isinstance(options, dict) or set(options) != names:
        got = sorted(options) if isinstance(options, dict) else type(options).__name__
        raise ValueError(f"{Path(path) / STATE_FILE}: expected the options {sorted(names)}, got {got}")
    if not isinstance(state.get("fingerprint"), str):
        raise ValueError(f"{Path(path) / STATE_FILE} has no fingerprint")
    return options
