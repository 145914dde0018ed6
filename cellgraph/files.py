"""Files that are whole or absent, never half written, and the folder for those that can be made again."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """For what can be made again: ``$CELLGRAPH_CACHE``, else ``cellgraph`` in the user's cache folder (XDG)."""
    chosen = os.environ.get("CELLGRAPH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    # The XDG specification has relative paths ignored.
    base = Path(shared) if shared and Path(shared).is_absolute() else Path("~/.cache").expanduser()
    return base / "cellgraph"


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file in one piece: readers see the old content or the new one, whatever happens in between.

    Raises:
        OSError: If the folder cannot be written or the disk is full; the old file is left as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; what is written here is meant to be read like any other file.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
