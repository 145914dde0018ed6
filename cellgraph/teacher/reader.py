"""The reader: a teacher's token states of texts, cached like embeddings."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cellgraph.files import write_atomically
from cellgraph.numbers import plain_numbers
from cellgraph.reading import UNFIT
from cellgraph.teacher.protocol import checked_texts
from cellgraph.teacher.token_states import KEPT, TokenStates
from cellgraph.teacher.walk import warn_of_cut

logger = logging.getLogger(__name__)

#: What of a teacher the states are: of its last layer, or its input embeddings, before any layer has read them.
LEVELS = ("hidden", "input")


class TokenReader:
    """A teacher's states of the tokens of texts.

    Args:
        teacher: A teacher that gives token states, as transformers models do.
        level: One of :data:`LEVELS`.
        max_tokens: Longer texts are cut after this many tokens, special ones included, with a warning.
        folder: Where states are kept, in half precision, a file for every ``shard_texts`` texts, which are mapped into
            memory when read; they are computed anew each time without it. A run that was interrupted goes on after
            the last file.
        shard_texts: Texts a file.

    Raises:
        ValueError: If the level is unknown, or the teacher has no token states.
    """

    @plain_numbers
    def __init__(
        self,
        teacher: Any,
        *,
        level: str = "hidden",
        max_tokens: int = 32,
        folder: Path | None = None,
        shard_texts: int = 4096,
    ) -> None:
        if level not in LEVELS:
            raise ValueError(f"level must be one of {LEVELS}, got {level!r}")
        if min(max_tokens, shard_texts) < 1:
            raise ValueError(f"max_tokens and shard_texts must be positive, got {max_tokens} and {shard_texts}")
        if not hasattr(teacher, "token_states"):
            raise ValueError(
                f"token states were asked for, and a {type(teacher).__name__} gives one vector a text: "
                "expected a transformers model, such as teacher=minilm, or front=pooled"
            )
        most = getattr(teacher, "max_length", max_tokens)
        if max_tokens > most:
            raise ValueError(f"max_tokens is {max_tokens}, and the teacher reads {most}: give teacher.max_length, too")
        self.teacher, self.level, self.max_tokens = teacher, level, max_tokens
        self.folder, self.shard_texts = folder, shard_texts

    @classmethod
    def of(cls, teacher: Any, given: Any, cache: Path) -> TokenReader:
        """The reader that a configuration describes, with its files in a folder of a cache.

        Args:
            teacher: The teacher.
            given: ``level``, ``max_tokens`` and ``shard_texts`` by name, or some of them.
            cache: The cache's folder.

        Raises:
            ValueError: If there is anything else, or as by the constructor.
        """
        names = ("level", "max_tokens", "shard_texts")
        if not isinstance(given, Mapping) or given.keys() - {*names}:
            raise ValueError(f"front.tokens must have {', '.join(names)} and nothing else, got {given!r}")
        return cls(teacher, **given, folder=cache / "tokens")

    @property
    def width(self) -> int:
        """Components of a state."""
        return int(self.teacher.width)

    def read(self, texts: Sequence[str], *, progress: bool = False) -> TokenStates:
        """The states of the tokens of texts, from disk where they are there.

        Raises:
            ValueError: If the teacher gives states that are not finite, which are not kept.
        """
        texts = checked_texts(texts)
        parts = [texts[start : start + self.shard_texts] for start in range(0, len(texts), self.shard_texts)]
        found = [self._part(part, progress=progress) for part in parts]
        lengths = [length for _, part in found for length in part]
        empty = torch.empty(0, self.width, dtype=KEPT)
        return TokenStates([states for states, _ in found] or empty, lengths, longest=self.max_tokens)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """The states of a few texts, padded with zeros, ``[num_texts, max_tokens, width]``, float32; never kept."""
        states, lengths = self._made(checked_texts(texts), progress=False)
        return TokenStates(states, lengths, longest=self.max_tokens).padded()

    def _part(self, texts: list[str], *, progress: bool) -> tuple[Tensor, list[int]]:
        path = None if self.folder is None else self._path(texts)
        if path is not None and path.is_file():
            kept = self._kept(path, len(texts))
            if kept is not None:
                return kept
        states, lengths = self._made(texts, progress=progress)
        if path is not None:
            self._keep(path, states, lengths)
        # From the file, so that memory is free for what comes next.
        kept = self._kept(path, len(texts)) if path is not None and path.is_file() else None
        return (states, lengths) if kept is None else kept

    def _made(self, texts: list[str], *, progress: bool) -> tuple[Tensor, list[int]]:
        found, cut = self.teacher.token_states(texts, level=self.level, max_tokens=self.max_tokens, progress=progress)
        warn_of_cut(cut, len(texts), self.max_tokens)
        width = (0, self.width)
        states = torch.cat([part.to(KEPT) for part in found]) if found else torch.empty(width, dtype=KEPT)
        if not states.isfinite().all():
            bad = next(text for text, part in zip(texts, found, strict=True) if not part.to(KEPT).isfinite().all())
            raise ValueError(f"the teacher's token states of a text are not finite in half precision: {bad[:60]!r}")
        return states, [len(part) for part in found]

    def _path(self, texts: list[str]) -> Path:
        assert self.folder is not None
        digest = hashlib.sha256(f"{self.teacher.fingerprint} {self.level} {self.max_tokens}".encode())
        for text in texts:
            digest.update(hashlib.sha256(text.encode()).digest())
        return self.folder / f"{digest.hexdigest()}.safetensors"

    def _keep(self, path: Path, states: Tensor, lengths: list[int]) -> None:
        size = states.numel() * states.element_size()
        there = path.parent
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        logger.info("token states of %d texts: %.1f MB, %.1f GB free", len(lengths), size / 1e6, free / 1e9)
        if size > free:
            logger.warning("token states are not kept: %.1f GB needed, %.1f GB free", size / 1e9, free / 1e9)
            return
        try:
            tensors = {"states": states, "lengths": torch.tensor(lengths)}
            write_atomically(path, save(tensors, {"sha256": _digest(states)}))
        except OSError as error:
            logger.warning("token states are not kept, %s cannot be written: %s", path.parent, error.strerror or error)

    def _kept(self, path: Path, count: int) -> tuple[Tensor, list[int]] | None:
        """What a file holds of so many texts, mapped into memory; ``None`` where it is damaged."""
        try:
            with safe_open(path, framework="pt") as file:
                states, lengths = file.get_tensor("states"), file.get_tensor("lengths").tolist()
                whole = (file.metadata() or {}).get("sha256") == _digest(states)
                fits = states.ndim == 2 and states.size(1) == self.width and states.dtype == KEPT
                fits = fits and len(lengths) == count and sum(lengths) == len(states)
                fits = fits and all(type(length) is int and 1 <= length <= self.max_tokens for length in lengths)
        except (SafetensorError, OSError, ValueError, *UNFIT) as error:
            logger.warning("token states %s cannot be read (%s): they are computed again", path, error)
            return None
        if not whole or not fits:
            logger.warning("token states %s are damaged: they are computed again", path)
            return None
        return states, lengths


def _digest(states: Tensor) -> str:
    return hashlib.sha256(states.numpy().data).hexdigest()
