"""Embeddings that stay on the disk, read row by row."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from cellgraph.teacher.shards import CorruptShardError

#: Files that are kept open: fewer than any system allows a process.
OPEN_FILES = 128

#: Device, number, size and time of change of a file.
Written = tuple[int, int, int, int]


class StoredRows:
    """Rows of embeddings in the shards of a cache, of which no more is in memory than is looked at.

    It is indexed and split as a tensor ``[num_rows, width]`` is. Rows are read, not mapped: what the system keeps of
    the files in its own memory does not count as this process's, and is given back when others need it.

    Args:
        files: The shards.
        file: Which of them each row is in.
        row: Its number there.

    Shapes:
        - **file**, **row:** ``[num_rows]``

    Raises:
        ValueError: If the files have different widths.
        OSError: If one cannot be read.
        CorruptShardError: When rows are read of a file that was damaged, or written anew, since.
    """

    dtype, ndim = torch.float32, 2

    def __init__(self, files: Sequence[str | os.PathLike[str]], file: Tensor, row: Tensor) -> None:
        self.files = [Path(path) for path in files]
        heads = [_head(path) for path in self.files]
        widths = {width for _, width, _ in heads}
        if len(widths) != 1:
            raise ValueError(f"rows must be of one width, got files of {sorted(widths)}")
        self.width = widths.pop()
        self._begin = np.array([begin for begin, _, _ in heads], np.int64)
        self._written = [written for _, _, written in heads]
        self._file, self._row = file.numpy().astype(np.int32), row.numpy().astype(np.int32)

    @classmethod
    def of_files(cls, files: Sequence[str | os.PathLike[str]]) -> StoredRows:
        """All rows of some shards, one file after the other."""
        counts = [_rows(Path(path)) for path in files]
        file = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        return cls(files, file, torch.cat([torch.arange(count) for count in counts]))

    @property
    def shape(self) -> torch.Size:
        """``[num_rows, width]``"""
        return torch.Size([len(self), self.width])

    def __len__(self) -> int:
        return len(self._row)

    def size(self, dim: int) -> int:
        """Number of rows, or width."""
        return self.shape[dim]

    def is_floating_point(self) -> bool:
        """They are."""
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} rows of width {self.width:,} in {len(self.files):,} files)"

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Some rows, ``[*index.shape, width]``; or with a slice those."""
        if isinstance(index, slice):
            return self._read(np.arange(len(self))[index])
        flat = index.reshape(-1).numpy()
        return self._read(np.where(flat < 0, flat + len(self), flat)).reshape(*index.shape, self.width)

    def split(self, size: int) -> Iterator[Tensor]:
        """All rows in their order, so many at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def mapped(self, function: Callable[[Tensor], Tensor]) -> MappedRows:
        """What a function makes of the rows, when they are read."""
        return MappedRows(self, function)

    def _read(self, index: np.ndarray[Any, Any]) -> Tensor:
        result = torch.empty(len(index), self.width, dtype=torch.float32)
        if not len(index):
            return result
        target = memoryview(result.numpy().data).cast("B")
        file, row = self._file[index], self._row[index]
        size = 4 * self.width
        # In the order of the disk, rows that follow one another there and here at once.
        order = np.lexsort((row, file))
        apart = (np.diff(file[order]) != 0) | (np.diff(row[order]) != 1) | (np.diff(order) != 1)
        starts = np.concatenate([[0], np.flatnonzero(apart) + 1, [len(order)]]).tolist()
        for start, end in itertools.pairwise(starts):
            first = int(order[start])
            place = int(file[first])
            wanted = target[first * size : (first + end - start) * size]
            offset = int(self._begin[place]) + int(row[first]) * size
            if _read_at(self.files[place], self._written[place], offset, wanted) != len(wanted):
                raise CorruptShardError(f"{self.files[place]} ends before its row {int(row[first]) + end - start}")
        return result


class MappedRows:
    """What a function makes of stored rows, block by block as they are read."""

    def __init__(self, rows: Any, function: Callable[[Tensor], Tensor]) -> None:
        self.rows, self.function = rows, function

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        return self.function(self.rows[index])

    def size(self, dim: int) -> int:
        """As of a tensor."""
        return len(self) if dim == 0 else self[:1].size(dim)

    def split(self, size: int) -> Iterator[Tensor]:
        """As of a tensor."""
        return (self.function(block) for block in self.rows.split(size))


def _read_at(path: Path, written: Written, place: int, wanted: memoryview) -> int:
    """Fill memory with the bytes of a file from a place on; number of them."""
    file = _opened(path, written)
    # A place to read at is the file's own, and that of threads and of forked processes which have it open: one would
    # be given what another has asked for.
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [wanted], place)
    with path.open("rb", buffering=0) as own:
        own.seek(place)
        return own.readinto(wanted) or 0


@lru_cache(maxsize=OPEN_FILES)
def _opened(path: Path, written: Written) -> BinaryIO:
    # Closed when the cache forgets it.
    file = path.open("rb", buffering=0)
    if _written(file) != written:
        file.close()
        raise CorruptShardError(f"{path} was written anew since its rows were looked up: look them up again")
    return file


def _written(file: BinaryIO) -> Written:
    """What tells a file from the one that is put in its place."""
    told = os.fstat(file.fileno())
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns


def _head(path: Path) -> tuple[int, int, Written]:
    """Where the embeddings of a shard begin, their width, and which file it is."""
    described, begin, written = _description(path)
    return begin + int(described["data_offsets"][0]), int(described["shape"][1]), written


def _rows(path: Path) -> int:
    return int(_description(path)[0]["shape"][0])


def _description(path: Path) -> tuple[dict[str, Any], int, Written]:
    try:
        with path.open("rb") as file:
            written = _written(file)
            size, there = int.from_bytes(file.read(8), "little"), written[2]
            # A head that says it is longer than the file is not asked for.
            if size > there - 8:
                raise ValueError("a head that is longer than the file")
            head = json.loads(file.read(size))
        described = head["embeddings"]
        kind, (begin, end), (rows, width) = described["dtype"], described["data_offsets"], described["shape"]
        length = max(int(part["data_offsets"][1]) for name, part in head.items() if name != "__metadata__")
        if any(not isinstance(n, int) or n < 0 for n in (begin, end, rows, width)):
            raise ValueError("negative or no numbers")
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise CorruptShardError(f"{path} is no shard of embeddings") from error
    if kind != "F32":
        raise CorruptShardError(f"{path} holds {kind}, expected float32")
    if there < 8 + size + length:
        raise CorruptShardError(f"{path} is cut off")
    if end - begin != 4 * rows * width:
        raise CorruptShardError(f"{path} is no shard of embeddings: {rows} rows of {width} in {end - begin} bytes")
    return described, 8 + size, written
