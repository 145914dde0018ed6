"""What every teacher can do."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from cellgraph.texts import well_formed


@runtime_checkable
class Teacher(Protocol):
    """A frozen text encoder: equal texts always become equal embeddings.

    Shapes:
        - ``encode``: ``num_texts`` texts to ``[num_texts, width]``, float32, on the CPU, rows of unit length
    """

    @property
    def width(self) -> int:
        """Number of components of an embedding."""

    @property
    def fingerprint(self) -> str:
        """Content hash of everything an embedding depends on besides the text: it names the embedding."""

    def fit(self, texts: Sequence[str]) -> None:
        """Learn from training texts; pre-trained teachers have nothing to learn."""

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
        """Turn texts into embeddings, in their order."""

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write what :func:`~cellgraph.teacher.load_teacher` needs to build this teacher again."""


def check_teacher(teacher: Any) -> Teacher:
    """A teacher, known to have all that one needs.

    Raises:
        ValueError: If it lacks something.
    """
    names = ("width", "fingerprint", "fit", "encode", "save_pretrained")
    # A property may well raise an error before the teacher is fitted: it is not asked for its value.
    lacking = [name for name in names if inspect.getattr_static(teacher, name, None) is None]
    if lacking:
        raise ValueError(f"teacher must have {', '.join(names)}, {teacher!r:.80} lacks {', '.join(lacking)}")
    return teacher


def checked_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list, each known to be a string that UTF-8 can write, see :func:`~cellgraph.texts.well_formed`.

    Raises:
        ValueError: If a single string or anything but strings is given.

    Example:
        >>> checked_texts(("one", "two"))
        ['one', 'two']
    """
    # A string is a sequence of strings too, and would be embedded letter by letter.
    if isinstance(texts, (str, bytes)):
        raise ValueError(f"expected a sequence of texts, got one {type(texts).__name__}")
    texts = list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"text {index} is a {type(text).__name__}, expected a string")
    return [text if text.isascii() else well_formed(text) for text in texts]
