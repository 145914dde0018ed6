"""Files that are whole or absent, never half written, and the folder for those that can be made again."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: What the name of a file that is being written ends in: one that is left over was a killed process's.
PART = ".part"


def cache_folder() -> Path:
    """For what can be made again: ``$CELLGRAPH_CACHE``, else ``cellgraph`` in the user's cache folder (XDG).

    A user without a home, as an unknown number in a container is, has a folder of its own among the temporary ones.

    Raises:
        OSError: If ``$CELLGRAPH_CACHE`` is in a home that there is not, or no folder can be made.
    """
    chosen = os.environ.get("CELLGRAPH_CACHE")
    if chosen:
        path = expanded(chosen)
        if path is None:
            raise FileNotFoundError(f"CELLGRAPH_CACHE is {chosen}, and there is no such home folder")
        return path
    shared = os.environ.get("XDG_CACHE_HOME")
    # The XDG specification has relative paths ignored.
    base = Path(shared) if shared and Path(shared).is_absolute() else expanded("~/.cache")
    return _temporary_cache() if base is None else base / "cellgraph"


def expanded(path: str | os.PathLike[str]) -> Path | None:
    """The path with ``~`` and ``~user`` replaced; ``None`` where there is no such home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return None


@functools.cache
def _temporary_cache() -> Path:
    """A folder among the temporary ones in which nobody else has written: programs are loaded from the cache."""
    if hasattr(os, "getuid"):
        folder = Path(tempfile.gettempdir()) / f"cellgraph-{os.getuid()}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        there = folder.lstat()
        if stat.S_ISDIR(there.st_mode) and there.st_uid == os.getuid() and not there.st_mode & 0o022:
            return folder
    return Path(tempfile.mkdtemp(prefix="cellgraph-"))


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file in one piece: readers see the old content or the new one, whatever happens in between.

    Raises:
        OSError: If the folder cannot be written or the disk is full; the old file is left as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write_beside(path, content)
    except OSError as error:
        if error.strerror is None:
            raise
        # The temporary file's name would say nothing to anybody.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write_beside(path: Path, content: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
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


def keep_before(path: str | Path, name: str) -> None:
    """Keep a file, where there is one, under another name beside it, in one step and in the place of what is there.

    Raises:
        OSError: If the folder cannot be written or the disk is full; what was there is left as it was.
    """
    path = Path(path)
    if not path.is_file():
        return
    second = path.with_name(f".{name}{PART}")
    second.unlink(missing_ok=True)
    try:
        # The same file by two names: nothing is copied.
        os.link(path, second)
        second.replace(path.with_name(name))
        # Renaming one name of a file to another of its names does nothing.
        second.unlink(missing_ok=True)
    except OSError:
        # Some file systems have no links.
        write_atomically(path.with_name(name), path.read_bytes())


def write_json(path: str | Path, content: Any) -> None:
    """Write plain types as JSON, see :func:`write_atomically`.

    Raises:
        ValueError: If a number is not finite.
        OSError: If the folder cannot be written or the disk is full; the old file is left as it was.
    """
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


@contextlib.contextmanager
def writing(path: str | os.PathLike[str], *, what: str = "") -> Iterator[None]:
    """Say which file could not be written.

    Args:
        path: The file.
        what: What it is, before its path.

    Raises:
        OSError: Where one is raised within, with the path in its message.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot write {what}{path}: {error.strerror or error}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
