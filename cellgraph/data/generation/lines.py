"""Lines: a file that grows by whole lines, each on disk before the next step is taken."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from cellgraph.files import writing
from cellgraph.texts import well_formed

__all__ = ["Lines", "json_line"]


def json_line(content: Any) -> bytes:
    """Plain types as a line of JSON; a model may be cut off in the middle of a character."""
    return well_formed(json.dumps(content, ensure_ascii=False)).encode() + b"\n"


class Lines:
    """A file of JSON lines that is only ever appended to.

    A process that ends in the middle of a line leaves a torn one behind, which :meth:`mend` takes away again.

    Args:
        path: The file; it and its folder are made when something is appended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def size(self) -> int:
        """Bytes in the file, none where it is not there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def append(self, content: bytes) -> None:
        """Write whole lines to the end, and wait until they are on disk.

        Raises:
            OSError: If they cannot be written; the file is then as it was before.
        """
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not self.path.exists()
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                before = os.fstat(descriptor).st_size
                try:
                    left = memoryview(content)
                    while left:
                        left = left[os.write(descriptor, left) :]
                    os.fsync(descriptor)
                except BaseException:
                    with contextlib.suppress(OSError):
                        os.ftruncate(descriptor, before)
                    raise
            finally:
                os.close(descriptor)
            if is_new:
                _keep_name(self.path.parent)

    def end_last_line(self) -> int:
        """End the last line, where only its end is missing.

        Returns:
            The number of bytes of the last line, where it is torn.
        """
        content = self.path.read_bytes() if self.path.exists() else b""
        last = content[content.rfind(b"\n") + 1 :]
        if last and not _is_json_object(last):
            return len(last)
        if last:
            self.append(b"\n")
        return 0

    def mend(self) -> int:
        """Take a torn last line away, or end it where only its end is missing.

        Returns:
            The number of bytes that were taken away.
        """
        torn = self.end_last_line()
        if torn:
            self._cut(self.size - torn)
        return torn

    def _cut(self, size: int) -> None:
        with writing(self.path), self.path.open("r+b") as file:
            file.truncate(size)
            os.fsync(file.fileno())


def _is_json_object(line: bytes) -> bool:
    """Whether a line is a JSON object."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _keep_name(folder: Path) -> None:
    # A new file's name is on disk when its folder is; where folders cannot be synchronised, the system sees to it.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
