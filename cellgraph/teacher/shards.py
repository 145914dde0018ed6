"""Shards: the files of an embedding cache, written once, checked whenever they are read."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from cellgraph.files import write_atomically
from cellgraph.reading import UNFIT, first_line

#: What a shard's file name ends in; files being written and files set aside end otherwise.
SUFFIX = ".safetensors"
KEY_BYTES = 32


class CorruptShardError(Exception):
    """A shard does not hold what it should."""


def embedding_key(fingerprint: str, text: str) -> bytes:
    """What a teacher's embedding of a text is known by."""
    return hashlib.sha256(f"{fingerprint}\0{text}".encode()).digest()


def shard_bytes(rows: int, width: int) -> int:
    """Size of a shard's file, to within the few bytes that the numbers in its head take."""
    return rows * (KEY_BYTES + 4 * width) + 512 if rows else 0


def write_shard(
    folder: Path, fingerprint: str, keys: Sequence[bytes], embeddings: Tensor, *, name: str | None = None
) -> Path:
    """Write embeddings under their keys as a new file.

    Args:
        folder: Its folder, made where absent.
        fingerprint: That of the teacher.
        keys: See :func:`embedding_key`.
        embeddings: ``[num_keys, width]``, float32.
        name: Its name, of a writer that has a claim on it; by default one that no other process can choose.

    Raises:
        OSError: If the folder cannot be written or the disk is full.
    """
    tensors = {
        "keys": torch.from_numpy(np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES).copy()),
        "embeddings": embeddings.contiguous(),
    }
    metadata = {"fingerprint": fingerprint, **{name: _digest(value) for name, value in tensors.items()}}
    path = folder / f"{name or uuid.uuid4().hex}{SUFFIX}"
    write_atomically(path, _in_order(save(tensors, metadata)))
    return path


def read_keys(path: Path, fingerprint: str) -> list[bytes]:
    """The keys of a shard, in the order of its embeddings.

    Raises:
        CorruptShardError: If the file is damaged or belongs to another teacher.
        OSError: If it cannot be read.
    """
    keys = _read(path, fingerprint, "keys")
    if keys.dtype != torch.uint8 or keys.ndim != 2 or keys.size(1) != KEY_BYTES:
        raise CorruptShardError(f"keys are {keys.dtype} {tuple(keys.shape)}")
    content = keys.numpy().tobytes()
    return [content[start : start + KEY_BYTES] for start in range(0, len(content), KEY_BYTES)]


def read_embeddings(path: Path, fingerprint: str, width: int | None = None) -> Tensor:
    """The embeddings of a shard, of that width if one is given.

    Shapes:
        - result: ``[num_keys, width]``, float32

    Raises:
        CorruptShardError: If the file is damaged, belongs to another teacher or has another width.
        OSError: If it cannot be read.
    """
    embeddings = _read(path, fingerprint, "embeddings")
    fits = embeddings.dtype == torch.float32 and embeddings.ndim == 2 and width in (None, embeddings.size(1))
    if not fits:
        expected = "rows" if width is None else f"width {width}"
        raise CorruptShardError(f"expected float32 of {expected}, got {embeddings.dtype} {tuple(embeddings.shape)}")
    return embeddings


def _read(path: Path, fingerprint: str, name: str) -> Tensor:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensor: Tensor = file.get_tensor(name)
    except (SafetensorError, ValueError, *UNFIT) as error:
        raise CorruptShardError(first_line(error)) from error
    if metadata.get("fingerprint") != fingerprint:
        raise CorruptShardError("it belongs to another teacher")
    if metadata.get(name) != _digest(tensor):
        raise CorruptShardError(f"the checksum of its {name} is wrong")
    return tensor


def _in_order(content: bytes) -> bytes:
    """The same file with its head in one order: safetensors writes metadata in another one each time."""
    size = int.from_bytes(content[:8], "little")
    head = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + content[8 + size :]


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.numpy().data).hexdigest()
