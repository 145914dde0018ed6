"""Reading what was saved, wherever it came from: plain data only, and one line on whatever is wrong with it."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from torch import Tensor

#: What constructors and ``load_state_dict`` raise over values that nobody who wrote them would have given. Recursion
#: errors are runtime errors, index and key errors are lookup errors, and zero divisions and overflows arithmetic ones.
UNFIT = (TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError, AssertionError, MemoryError)

#: Bytes that a tensor may have in any case while something is built from its description.
ALWAYS = 2**30
#: And how many times those of the weights that came with it.
TIMES = 64


def read_json(path: str | os.PathLike[str], kind: type = dict) -> Any:
    """A JSON file's content.

    Args:
        path: The file.
        kind: What it must be at the top.

    Raises:
        ValueError: If it is damaged or holds something else.
        OSError: If it cannot be opened.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {first_line(error)}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path} is damaged: expected a {kind.__name__}, got a {type(content).__name__}")
    return content


class _Loader(yaml.SafeLoader):
    """Reads plain types and no aliases: a few lines of these stand for more than any memory holds."""

    def compose_node(self, parent: Any, index: int) -> Any:
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1
            raise yaml.YAMLError(f"line {line} repeats another by an alias, expected it to be written out")
        return super().compose_node(parent, index)


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """A YAML file's content as plain types.

    Raises:
        ValueError: If it is damaged, or repeats parts of itself by aliases.
        OSError: If it cannot be opened.
    """
    path = Path(path)
    try:
        # A subclass of the safe loader: it makes nothing but plain types.
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {first_line(error)}") from error


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ValueError: If it is damaged.
        OSError: If it cannot be opened.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    # Of a dtype that is known to the format and not here, the reader finds no name.
    except (SafetensorError, ValueError, *UNFIT) as error:
        raise ValueError(f"{path} is damaged: {first_line(error)}") from error


@contextlib.contextmanager
def faults(what: str) -> Iterator[None]:
    """Say in a line what could not be built of what was read: whatever goes wrong within is its fault.

    Args:
        what: What was read, before "is damaged".

    Raises:
        ValueError: Where anything is raised within but errors of the system and of this kind.
    """
    try:
        yield
    except UNFIT as error:
        raise ValueError(f"{what} is damaged: {first_line(error)}") from error


@contextlib.contextmanager
def within(size: int) -> Iterator[None]:
    """Refuse to make tensors that are out of proportion to what was saved: a line of a file can ask for any number.

    Args:
        size: Bytes of the weights that were saved.

    Raises:
        ValueError: Where a tensor would have more than :data:`ALWAYS` bytes and :data:`TIMES` times as many.

    Example:
        >>> import torch
        >>> with within(100):
        ...     torch.ones(1000, 1000, 1000)
        Traceback (most recent call last):
        ValueError: a tensor of 4,000,000,000 bytes is out of proportion to what was saved, 100 bytes
    """
    # Of the two ways to see what torch is asked for, this one does not bring its compiler along.
    from torch.overrides import TorchFunctionMode

    most = max(ALWAYS, TIMES * size)

    class Bounded(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            # Before anything is made where the size is told, and else before anything is made of it.
            told = _told(getattr(function, "__name__", ""), args, kwargs or {})
            if told > most:
                raise ValueError(_out_of_proportion(told, size))
            found = function(*args, **(kwargs or {}))
            # A view counts as what it shows: it would be that large once anything is made of it.
            made = getattr(found, "nbytes", 0) if hasattr(found, "layout") else 0
            if made > most:
                raise ValueError(_out_of_proportion(made, size))
            return found

    with Bounded():
        yield


#: What makes a tensor from a size, and what from ends.
_BY_SIZE = {"empty", "zeros", "ones", "full", "rand", "randn", "randint", "expand", "repeat", "eye", "tile"}
_BY_END = {"arange", "linspace", "randperm", "range"}


def _told(name: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> int:
    """Bytes of what a function is to make, at four a number; 0 of others."""
    if name in _BY_END:
        return 4 * max((abs(int(n)) for n in args if isinstance(n, (int, float)) and math.isfinite(n)), default=0)
    if name not in _BY_SIZE:
        return 0
    sizes = [part for part in (*args, *options.values()) if isinstance(part, (list, tuple))]
    sizes = sizes or [tuple(n for n in args if isinstance(n, int))]
    return max(4 * math.prod(n for n in part if isinstance(n, int)) for part in sizes)


def _out_of_proportion(made: int, size: int) -> str:
    return f"a tensor of {made:,} bytes is out of proportion to what was saved, {size:,} bytes"


def first_line(error: BaseException) -> str:
    """What an error says first."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    line = (text.strip() or type(error).__name__).splitlines()[0]
    return f"{line!r} is missing" if isinstance(error, KeyError) else line
