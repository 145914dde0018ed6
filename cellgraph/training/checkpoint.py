"""The checkpoint: what is in it, read without executing anything."""

from __future__ import annotations

import io
import os
import pickle
import shlex
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cellgraph.folder import BEST, LAST, PREVIOUS
from cellgraph.reading import UNFIT

# What zipfile and torch.load raise where bytes are not what they should be.
_UNREADABLE = (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, OSError, ValueError, *UNFIT)
#: Values in a checkpoint, which repeats none of them: a few bytes of references can stand for more than any memory.
_MOST_VALUES = 10_000_000
#: Bytes by which a tensor may be larger than the file that it comes from.
_SLACK = 2**26


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A checkpoint's content, on the CPU. Nothing in it is executed.

    Raises:
        ValueError: If there is none or it is damaged; the message names another one beside it.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}{_offer(path)}")
    content = path.read_bytes()
    try:
        return _content(content)
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise ValueError(f"the checkpoint {path} is damaged ({reason}){_offer(path)}") from error


def _content(content: bytes) -> dict[str, Any]:
    """What a checkpoint's bytes say, known to be whole, plain and no larger than they are."""
    # PyTorch writes check sums into the archive and does not look at them when it reads.
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        # It compresses nothing: what does would be larger in memory than on the disk, by any factor.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed, which no checkpoint is")
        if sum(entry.file_size for entry in entries) > len(content):
            raise ValueError("its parts are larger than the whole")
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"check sum of {damaged}")
    checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    weights = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(x, Tensor) for x in weights.values()):
        raise ValueError("it holds something else")
    if not all(isinstance(checkpoint.get(name, {}), dict) for name in ("update_state", "callbacks")):
        raise ValueError("it holds something else")
    if type(checkpoint.get("global_step", 0)) is not int:
        raise ValueError("it does not say how many updates were done")
    _check_proportion(checkpoint, len(content))
    return checkpoint


def _check_proportion(checkpoint: dict[str, Any], size: int) -> None:
    """Refuse what is small on the disk and large for whoever goes through it."""
    ahead: list[Any] = [checkpoint]
    seen = 0
    while ahead:
        value = ahead.pop()
        seen += 1
        if isinstance(value, Tensor) and (value.layout != torch.strided or value.nbytes > size + _SLACK):
            raise ValueError(f"a tensor {list(value.shape)} in {size:,} bytes")
        if isinstance(value, dict):
            ahead += value.values()
        elif isinstance(value, (list, tuple, set)):
            ahead += value
        if seen + len(ahead) > _MOST_VALUES:
            raise ValueError("it repeats itself without end")


def _offer(path: Path) -> str:
    """How to go on from another checkpoint beside one that cannot be read, if there is a whole one."""
    for other in others_beside(path):
        try:
            step = _content(other.read_bytes()).get("global_step", 0)
        except _UNREADABLE:
            continue
        before = "the one before it" if other.name == PREVIOUS else "another"
        return f"; {before}, of update {step}, is whole: {shlex.join(['cp', str(other), str(path)])}"
    return ""


def step_of(path: Path) -> int | None:
    """The update that a checkpoint is of; ``None`` where there is none that can be read."""
    try:
        return int(_content(path.read_bytes())["global_step"])
    except (*_UNREADABLE, KeyError):
        return None


def model_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The model's weights in a checkpoint: averaged where they were."""
    prefix = "model."
    weights = {name[len(prefix) :]: x for name, x in checkpoint["state_dict"].items() if name.startswith(prefix)}
    callbacks = checkpoint.get("callbacks", {})
    for kept in ("EMA", "ScheduleFree"):
        weights |= callbacks.get(kept, {}).get("average", {})
    return weights


def others_beside(path: Path) -> list[Path]:
    return [path.with_name(name) for name in (PREVIOUS, LAST, BEST) if name != path.name]
