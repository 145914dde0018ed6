"""Embeddings on disk, so that no text is embedded twice."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cellgraph.files import cache_folder
from cellgraph.numbers import plain_numbers
from cellgraph.teacher.protocol import Teacher, checked_texts
from cellgraph.teacher.rows import StoredRows
from cellgraph.teacher.shards import (
    KEY_BYTES,
    SUFFIX,
    CorruptShardError,
    embedding_key,
    read_embeddings,
    read_keys,
    write_shard,
)

logger = logging.getLogger(__name__)


def default_cache_folder() -> Path:
    """Where embeddings are kept: ``embeddings`` in :func:`~cellgraph.files.cache_folder`."""
    return cache_folder() / "embeddings"


@dataclass
class _Index:
    """What is known of one teacher's shards: where each key lies, and which files have been looked at."""

    rows: dict[bytes, tuple[Path, int]] = field(default_factory=dict)
    seen: set[Path] = field(default_factory=set)
    unusable: set[Path] = field(default_factory=set)


class EmbeddingCache:
    """Embeddings by content hash of text and teacher, in a folder that several processes may use at once.

    Files are only ever added, each under a name of its own and in one piece, so that neither a second writer nor a
    killed one can damage what is there. A damaged file is set aside (renamed to ``*.corrupt``), and a folder that
    cannot be written is no reason to lose an embedding: both are one warning in the log.

    Args:
        folder: The cache's folder, :func:`default_cache_folder` by default; made when first written to.
        shard_rows: Most embeddings in a file: what a killed process loses at most.

    Raises:
        ValueError: If ``shard_rows`` is not positive.
    """

    @plain_numbers
    def __init__(self, folder: str | os.PathLike[str] | None = None, *, shard_rows: int = 4096) -> None:
        if shard_rows < 1:
            raise ValueError(f"shard_rows must be positive, got {shard_rows}")
        self.folder = default_cache_folder() if folder is None else Path(folder)
        self.shard_rows = shard_rows
        self._indices: dict[str, _Index] = {}
        self._warned = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    def embed(self, teacher: Teacher, texts: Sequence[str], *, progress: bool = False) -> Tensor:
        """The teacher's embeddings of the texts, from disk where they are there; equal texts are embedded once.

        Args:
            teacher: A fitted teacher.
            texts: The texts.
            progress: Whether the teacher shows a progress bar.

        Shapes:
            - result: ``[num_texts, width]``, float32

        Raises:
            ValueError: If the teacher gives non-finite embeddings (which are not kept) or ones of the wrong shape.
        """
        texts = checked_texts(texts)
        fingerprint, width = teacher.fingerprint, teacher.width
        self.place(fingerprint)
        keys = [embedding_key(fingerprint, text) for text in texts]
        first: dict[bytes, int] = {}
        for index, key in enumerate(keys):
            first.setdefault(key, index)
        slots = {key: slot for slot, key in enumerate(first)}
        table = torch.empty(len(slots), width, dtype=torch.float32)
        missing = self._read(fingerprint, slots, table)
        for start in range(0, len(missing), self.shard_rows):
            part = missing[start : start + self.shard_rows]
            embeddings = teacher.encode([texts[first[key]] for key in part], progress=progress)
            if tuple(embeddings.shape) != (len(part), width):
                expected = (len(part), width)
                raise ValueError(f"expected embeddings of shape {expected}, got {tuple(embeddings.shape)}")
            embeddings = embeddings.detach().to("cpu", torch.float32)
            finite = embeddings.isfinite().all(dim=1)
            kept = [key for key, good in zip(part, finite.tolist(), strict=True) if good]
            self._write(fingerprint, kept, embeddings[finite])
            if len(kept) < len(part):
                index = first[part[int(finite.logical_not().nonzero()[0])]]
                raise ValueError(f"the teacher's embedding of text {index} is not finite: {texts[index][:60]!r}")
            table[[slots[key] for key in part]] = embeddings
        return table[[slots[key] for key in keys]]

    def rows(
        self, teacher: Teacher, texts: Sequence[str], *, advance: Callable[[int], None] = lambda count: None
    ) -> StoredRows:
        """The teacher's embeddings of the texts, left on the disk; what is missing there is embedded first.

        The files are read once and checked by their checksums here, and not again when their rows are read.

        Args:
            teacher: A fitted teacher.
            texts: The texts.
            advance: Called with numbers of texts that were embedded.

        Raises:
            OSError: If the disk cannot hold them, or cannot be written.
            ValueError: If there are no texts, or the teacher gives non-finite embeddings or ones of the wrong shape.
        """
        from cellgraph.teacher.job import EmbeddingJob

        if not len(texts):
            raise ValueError("rows on the disk are those of at least one text, got none")
        EmbeddingJob(teacher, texts, self).run(advance)
        fingerprint = teacher.fingerprint
        found = self.keys(fingerprint)
        files = [path for path, keys in found.items() if keys]
        counts = np.array([len(found[path]) for path in files])
        # Keys side by side and sorted: of millions, a dictionary would take ten times their size.
        kept = np.frombuffer(b"".join(key for path in files for key in found[path]), f"S{KEY_BYTES}")
        del found
        wanted = np.frombuffer(
            b"".join(embedding_key(fingerprint, text) for text in checked_texts(texts)), f"S{KEY_BYTES}"
        )
        order = np.argsort(kept, kind="stable")
        found_at = np.searchsorted(kept, wanted, sorter=order).clip(max=max(len(kept) - 1, 0))
        # What another process has cleared away since would be a stranger's row.
        if len(wanted) and not (len(kept) and bool((kept[order[found_at]] == wanted).all())):
            raise OSError(f"embeddings in {self.place(fingerprint)} have gone while they were read: start again")
        place = order[found_at]
        file = np.repeat(np.arange(len(files)), counts)[place]
        row = place - (np.cumsum(counts) - counts)[file]
        return StoredRows(files, torch.from_numpy(file), torch.from_numpy(row))

    def place(self, fingerprint: str) -> Path:
        """The folder of a teacher's files.

        Raises:
            ValueError: If the fingerprint can name none.
        """
        if not re.fullmatch(r"\w[\w.-]*", fingerprint):
            raise ValueError(f"a fingerprint must be able to name a folder, got {fingerprint!r}")
        return self.folder / fingerprint

    def keys(self, fingerprint: str, *, wanted: Collection[bytes] = ()) -> dict[Path, list[bytes]]:
        """The keys in each of a teacher's files, see :func:`~cellgraph.teacher.shards.embedding_key`.

        Args:
            fingerprint: That of the teacher.
            wanted: Files that hold one of these are read whole and checked by their checksums; of others only the keys
                are.
        """
        index, wanted = _Index(), frozenset(wanted)
        paths = sorted(self.place(fingerprint).glob(f"*{SUFFIX}"))
        found = {path: self._keys(fingerprint, index, path) for path in paths}
        for path, keys in found.items():
            if not wanted.isdisjoint(keys):
                self._shard(fingerprint, index, path)
        return {path: keys for path, keys in found.items() if path not in index.unusable}

    def _read(self, fingerprint: str, slots: dict[bytes, int], table: Tensor) -> list[bytes]:
        """Fill the table from disk; returns the keys that are not there, in their order."""
        index = self._indices.setdefault(fingerprint, _Index())
        missing = dict.fromkeys(slots)
        while True:
            self._look(fingerprint, index)
            wanted: dict[Path, list[bytes]] = {}
            for key in missing:
                if key in index.rows:
                    wanted.setdefault(index.rows[key][0], []).append(key)
            if not wanted:
                return list(missing)
            for path, present in wanted.items():
                embeddings = self._shard(fingerprint, index, path, table.size(1))
                if embeddings is None:
                    # The same rows may be in another file, written by another process at the same time: look again.
                    index.rows.clear()
                    index.seen.clear()
                    break
                rows = [index.rows[key][1] for key in present]
                table[[slots[key] for key in present]] = embeddings[rows]
                for key in present:
                    del missing[key]

    def _shard(self, fingerprint: str, index: _Index, path: Path, width: int | None = None) -> Tensor | None:
        try:
            return read_embeddings(path, fingerprint, width)
        except (CorruptShardError, OSError) as error:
            self._give_up(index, path, error)
            return None

    def _look(self, fingerprint: str, index: _Index) -> None:
        """Learn the keys of files that have come since the last look."""
        paths = sorted((self.folder / fingerprint).glob(f"*{SUFFIX}"))
        if not index.seen.issubset(paths):
            index.rows.clear()
            index.seen.clear()
        for path in paths:
            if path in index.seen or path in index.unusable:
                continue
            index.seen.add(path)
            for row, key in enumerate(self._keys(fingerprint, index, path)):
                index.rows.setdefault(key, (path, row))

    def _keys(self, fingerprint: str, index: _Index, path: Path) -> list[bytes]:
        try:
            return read_keys(path, fingerprint)
        except (CorruptShardError, OSError) as error:
            self._give_up(index, path, error)
            return []

    def _give_up(self, index: _Index, path: Path, error: Exception) -> None:
        index.unusable.add(path)
        index.seen.discard(path)
        if isinstance(error, FileNotFoundError):
            return
        outcome = "its embeddings are computed again"
        if isinstance(error, CorruptShardError):
            aside = path.with_name(f"{path.name}.corrupt")
            with contextlib.suppress(OSError):
                path.replace(aside)
                outcome = f"set aside as {aside.name}, {outcome}"
        logger.warning("embedding cache file %s cannot be used (%s): %s", path, error, outcome)

    def _write(self, fingerprint: str, keys: list[bytes], embeddings: Tensor) -> None:
        if not keys:
            return
        try:
            write_shard(self.folder / fingerprint, fingerprint, keys, embeddings)
        except OSError as error:
            # Once is enough: the reason will be the same for every file.
            if not self._warned:
                logger.warning(
                    "embeddings are not kept, %s cannot be written: %s", self.folder, error.strerror or error
                )
            self._warned = True
