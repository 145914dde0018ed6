"""The job: many texts embedded into a cache, shard by shard, by one process or several at once."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from cellgraph.files import writing
from cellgraph.numbers import plain_numbers
from cellgraph.teacher.cache import EmbeddingCache
from cellgraph.teacher.protocol import Teacher, checked_texts
from cellgraph.teacher.shards import SUFFIX, CorruptShardError, embedding_key, read_keys, shard_bytes, write_shard

logger = logging.getLogger(__name__)

#: Texts that a teacher is given at a time: often enough to show progress, enough to fill batches of like length.
BLOCK = 256
#: Seconds between two looks at a shard that another process has.
PATIENCE = 0.5
#: Folder of the claims, beside the shards.
CLAIMS = ".claims"


@dataclass(frozen=True)
class Part:
    """A shard that is to be written.

    Attributes:
        name: Its name, which follows from the texts of the set.
        texts: Those of its texts that no other file has.
        keys: Theirs.
    """

    name: str
    texts: list[str]
    keys: list[bytes]


class EmbeddingJob:
    """The embedding of many texts into a cache, in parts that are claimed, computed and written one by one.

    The distinct texts are cut into parts in their order, before anything else is looked at, so that every process that
    is given the same texts has the same parts, and a part the same file. A process claims a part by a lock of the
    system, which ends with the process: what a killed one had claimed is free at once, and what it had finished stays.
    A file appears whole or not at all. What other files of the cache hold already is not embedded again; those files
    are read once and checked by their checksums, and a damaged one is made again with a warning.

    Args:
        teacher: A fitted teacher.
        texts: The texts.
        cache: Where their embeddings are kept.
        shard_rows: Texts a part: what a killed process loses at most.

    Attributes:
        num_texts: Number of distinct texts.
        num_known: Those of them that were there before.
        parts: What was still to be written when the job was made.

    Raises:
        ValueError: If ``shard_rows`` is not positive.

    Example:
        >>> import tempfile
        >>> from cellgraph.teacher import LSATeacher
        >>> teacher = LSATeacher(2, min_texts=1)
        >>> teacher.fit(["a warm day", "a cold day", "a cold night"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     job = EmbeddingJob(teacher, ["a day", "a night", "a day"], EmbeddingCache(folder))
        ...     job.num_texts, job.run(), EmbeddingJob(teacher, ["a day"], EmbeddingCache(folder)).num_known
        (2, 2, 1)
    """

    @plain_numbers
    def __init__(
        self, teacher: Teacher, texts: Sequence[str], cache: EmbeddingCache, *, shard_rows: int = 1024
    ) -> None:
        if shard_rows < 1:
            raise ValueError(f"shard_rows must be positive, got {shard_rows}")
        self.teacher, self.cache = teacher, cache
        self.fingerprint = teacher.fingerprint
        self.folder = cache.place(self.fingerprint)
        distinct = list(dict.fromkeys(checked_texts(texts)))
        whole = [self._part(distinct[start : start + shard_rows]) for start in range(0, len(distinct), shard_rows)]
        names = {part.name for part in whole}
        found = cache.keys(self.fingerprint, wanted={key for part in whole for key in part.keys})
        there = {path.stem: frozenset(keys) for path, keys in found.items() if path.stem in names}
        elsewhere = {key for path, keys in found.items() if path.stem not in names for key in keys}
        left = [_without(part, elsewhere) for part in whole]
        # By what it holds, not by its name: what other files held when it was written may have gone since.
        self.parts = [part for part in left if not there.get(part.name, frozenset()).issuperset(part.keys)]
        self.num_texts = len(distinct)
        self.num_known = len(distinct) - sum(len(part.keys) for part in self.parts)

    @property
    def bytes_left(self) -> int:
        """What is still to be written."""
        return sum(shard_bytes(len(part.keys), self.teacher.width) for part in self.parts)

    def check_space(self) -> None:
        """See to it that the disk can hold what is to be written.

        Raises:
            OSError: If it cannot.
        """
        free = free_bytes(self.folder)
        if self.bytes_left > free:
            count = sum(len(part.keys) for part in self.parts)
            raise OSError(
                f"{count:,} embeddings of width {self.teacher.width:,} take {in_words(self.bytes_left)}, and the disk "
                f"of {self.cache.folder} has {in_words(free)} left"
            )

    def run(self, advance: Callable[[int], None] = lambda count: None) -> int:
        """Embed what is missing, beside other processes that do the same; all of it is there in the end.

        Args:
            advance: Called with numbers of texts that are done, whoever did them.

        Returns:
            Number of texts that this process embedded.

        Raises:
            OSError: If the disk is full or cannot be written.
            ValueError: If the teacher gives embeddings of the wrong shape, or one that is not finite.
        """
        self.check_space()
        count, held = 0, []
        for part in self.parts:
            with self._claim(part, timeout=0) as state:
                if state == "held":
                    held.append(part)
                    continue
                count += self._take(part, state, advance)
        # What others had claimed: they finish it, or end and leave it.
        for part in held:
            state = "held"
            while state == "held":
                with self._claim(part, timeout=PATIENCE) as state:
                    count += self._take(part, state, advance)
        self._tidy()
        return count

    def _tidy(self) -> None:
        """Remove the claims of killed processes on what is written, and the folder when nobody has a claim."""
        with contextlib.suppress(OSError):
            for claim in (self.folder / CLAIMS).glob("*.lock"):
                if (self.folder / f"{claim.stem}{SUFFIX}").exists():
                    claim.unlink(missing_ok=True)
            (self.folder / CLAIMS).rmdir()

    def _take(self, part: Part, state: str, advance: Callable[[int], None]) -> int:
        """Do a part in that state; number of texts embedded."""
        if state == "mine":
            self._embed(part, advance)
            return len(part.keys)
        if state == "done":
            advance(len(part.keys))
        return 0

    @contextlib.contextmanager
    def _claim(self, part: Part, *, timeout: float) -> Iterator[str]:
        """Whether a part is ``"mine"`` to write, ``"done"``, or ``"held"`` by another process."""
        claim = self.folder / CLAIMS / f"{part.name}.lock"
        if self._is_written(part):
            yield "done"
            return
        with writing(claim, what="the claim "):
            claim.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(claim, timeout=timeout)
            # Not found: another process was through, and cleared the folder away between the two lines.
            with contextlib.suppress(Timeout, FileNotFoundError):
                lock.acquire()
        if not lock.is_locked:
            yield "held"
            return
        try:
            yield "done" if self._is_written(part) else "mine"
        finally:
            # Who still waits for this file finds the shard first.
            with contextlib.suppress(OSError):
                claim.unlink(missing_ok=True)
            lock.release()

    def _is_written(self, part: Part) -> bool:
        """Whether the file of a part is there with all that it should hold; its embeddings were checked before."""
        path = self._path(part)
        if not path.exists():
            return False
        try:
            keys = read_keys(path, self.fingerprint)
        except FileNotFoundError:
            return False
        except (CorruptShardError, OSError) as error:
            fault = str(error)
        else:
            lacking = len(set(part.keys).difference(keys))
            fault = f"it lacks {lacking:,} of {len(part.keys):,} texts" if lacking else ""
        if fault:
            logger.warning("embedding cache file %s cannot be used (%s): it is written anew", path, fault)
        return not fault

    def _embed(self, part: Part, advance: Callable[[int], None]) -> None:
        for abandoned in self.folder.glob(f".{part.name}{SUFFIX}.*"):
            # Only who has the claim writes these: its writer was killed.
            abandoned.unlink(missing_ok=True)
        embeddings = torch.empty(len(part.texts), self.teacher.width, dtype=torch.float32)
        # Long ones first, in blocks of like length: within, a teacher makes its batches by length in tokens.
        order = sorted(range(len(part.texts)), key=lambda row: (-len(part.texts[row]), row))
        for start in range(0, len(order), BLOCK):
            rows = order[start : start + BLOCK]
            embeddings[rows] = self._encoded([part.texts[row] for row in rows])
            advance(len(rows))
        with writing(self._path(part), what="embeddings to "):
            write_shard(self.folder, self.fingerprint, part.keys, embeddings, name=part.name)

    def _encoded(self, texts: list[str]) -> Tensor:
        embeddings = self.teacher.encode(texts).detach().to("cpu", torch.float32)
        expected = (len(texts), self.teacher.width)
        if tuple(embeddings.shape) != expected:
            raise ValueError(f"expected embeddings of shape {expected}, got {tuple(embeddings.shape)}")
        bad = (~embeddings.isfinite()).any(1).nonzero().flatten()
        if len(bad):
            raise ValueError(f"the teacher's embedding of a text is not finite: {texts[int(bad[0])][:60]!r}")
        return embeddings

    def _path(self, part: Part) -> Path:
        return self.folder / f"{part.name}{SUFFIX}"

    def _part(self, texts: list[str]) -> Part:
        keys = [embedding_key(self.fingerprint, text) for text in texts]
        return Part(hashlib.sha256(b"".join(keys)).hexdigest()[:32], texts, keys)


def free_bytes(folder: Path) -> int:
    """Space left on the disk that a folder is on, or would be."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def in_words(count: float) -> str:
    """A number of bytes for people.

    Example:
        >>> in_words(19_260_000), in_words(700)
        ('19.3 MB', '700 B')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def _without(part: Part, known: set[bytes]) -> Part:
    kept = [row for row, key in enumerate(part.keys) if key not in known]
    return Part(part.name, [part.texts[row] for row in kept], [part.keys[row] for row in kept])
