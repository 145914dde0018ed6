"""The base of teachers of one's own: what saves them, loads them and names their embeddings."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import json
import os
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType, NoneType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from cellgraph.files import write_atomically
from cellgraph.numbers import plain
from cellgraph.reading import faults, read_tensors
from cellgraph.teacher.state import read_state, write_state

if TYPE_CHECKING:
    from typing_extensions import Self

TENSOR_FILE = "teacher.safetensors"
#: Arguments that cannot be given by name.
_BY_PLACE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY)


class BaseTeacher(ABC):
    """A :class:`~cellgraph.teacher.Teacher` by two things of yours: its ``width`` and :meth:`encode`.

    One that learns from the training texts has :meth:`fit` too, and says by :meth:`state_dict` and
    :meth:`load_state_dict` what it has learned. It is saved with the arguments that it was made with, which must be
    plain. Its embeddings are known by these, by what it has learned and by the text of its class: embeddings of a
    teacher whose code was another are not taken for its own. What the class calls beside is not looked at.

    Attributes:
        width: Number of components of an embedding.

    Example:
        >>> import torch
        >>> class Lengths(BaseTeacher):
        ...     width = 1
        ...     def encode(self, texts, *, progress=False):
        ...         return torch.tensor([[float(len(text))] for text in texts])
        >>> Lengths().encode(["four", "fifteen letters"]).flatten()
        tensor([ 4., 15.])
    """

    width: int

    #: The kinds that are known, by module and name: those whose module has been imported.
    kinds: ClassVar[dict[str, type[BaseTeacher]]] = {}

    _given: dict[str, Any]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        BaseTeacher.kinds[cls.kind()] = cls

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Note the arguments, so that the teacher can be made again."""
        teacher = super().__new__(cls)
        bound = inspect.signature(cls).bind(*args, **kwargs)
        bound.apply_defaults()
        named = {name: bound.signature.parameters[name].kind for name in bound.arguments}
        teacher._given = {}
        for name, value in bound.arguments.items():
            # A class without a constructor is said to take anything.
            if cls.__init__ is not object.__init__ and named[name] in _BY_PLACE:
                raise ValueError(f"{cls.__name__} must take its arguments by name, to be made again: not so {name}")
            teacher._given |= value if named[name] is inspect.Parameter.VAR_KEYWORD else {name: plain(value)}
        return teacher

    @classmethod
    def kind(cls) -> str:
        """The name of this kind of teacher among :attr:`kinds`."""
        return f"{cls.__module__}.{cls.__qualname__}"

    @abstractmethod
    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
        """Turn texts into embeddings, ``[num_texts, width]``, in their order; equal texts always into equal ones.

        Args:
            texts: The texts.
            progress: Whether to show progress.
        """

    def fit(self, texts: Sequence[str]) -> None:  # noqa: B027 - most have nothing to learn
        """Learn from training texts; here nothing."""

    def state_dict(self) -> dict[str, Tensor]:
        """What :meth:`fit` has learned; here nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:  # noqa: B027 - most have nothing to learn
        """Take it back."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the class, its arguments and what it has learned.

        Raises:
            ValueError: If an argument is no plain value, so that nobody could make the teacher again.
        """
        try:
            told = json.dumps([self.kind(), code_of(type(self)), self._given], sort_keys=True)
        except TypeError as error:
            raise ValueError(f"{self.kind()} must be made of plain values, to be made again: {error}") from error
        digest = hashlib.sha256(told.encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            # As bytes: NumPy has no bfloat16.
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``teacher.safetensors`` and, after it, ``teacher.json``."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        write_atomically(Path(folder) / TENSOR_FILE, save_tensors(state))
        write_state(folder, {"kind": self.kind(), "options": self._given, "fingerprint": self.fingerprint})

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """The teacher that :meth:`save_pretrained` wrote.

        Raises:
            OSError: If a file is missing.
            ValueError: If one is damaged, or the class is no longer what it was.
        """
        state = read_state(folder)
        options = state.get("options")
        if not isinstance(options, dict):
            raise ValueError(f"{folder} says nothing of how its teacher is made")
        with faults(f"the teacher in {folder}"):
            teacher = cls(**options)
            teacher.load_state_dict(read_tensors(Path(folder) / TENSOR_FILE))
        if teacher.fingerprint != state.get("fingerprint"):
            raise ValueError(
                f"{cls.kind()} is not what it was when {folder} was written: its embeddings would be others; "
                "put its code back as it was, or train anew"
            )
        return teacher


@functools.cache
def code_of(kind: type) -> list[str]:
    """The text of a class and of those of one's own that it derives from, without comments and layout.

    What was typed in, or read from a stream, has no text: it is what its functions were compiled to.
    """
    found, own = [], kind.__module__.partition(".")[0]
    for part in kind.__mro__:
        if part.__module__.partition(".")[0] == own:
            try:
                found.append(ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(part)))))
            except (OSError, TypeError, SyntaxError):
                parts = {name: _compiled(value) for name, value in vars(part).items()}
                found.append(f"{part.__qualname__} {sorted(parts.items())}")
    return found


def _compiled(value: Any) -> str:
    """What a member of a class does, where it is code or a plain value; nothing of any other."""
    if isinstance(value, property):
        return " ".join(_compiled(each) for each in (value.fget, value.fset, value.fdel))
    value = getattr(value, "__func__", value)
    if inspect.isfunction(value):
        value = inspect.unwrap(value).__code__
    if isinstance(value, CodeType):
        # Sets among the constants are in another order in each process.
        constants = [sorted(map(repr, c)) if isinstance(c, frozenset) else _compiled(c) for c in value.co_consts]
        return f"{value.co_code.hex()} {value.co_names} {constants}"
    return repr(value) if isinstance(value, (bool, int, float, complex, str, bytes, tuple, NoneType)) else ""
