"""Teachers from folders."""

from __future__ import annotations

import os
from collections.abc import Callable

from cellgraph.teacher.base import BaseTeacher
from cellgraph.teacher.encoder import TransformersTeacher
from cellgraph.teacher.lsa import LSATeacher
from cellgraph.teacher.minilm import MiniLMTeacher
from cellgraph.teacher.protocol import Teacher
from cellgraph.teacher.state import read_state
from cellgraph.teacher.static import StaticTeacher
from cellgraph.teacher.tfidf import TfidfTeacher

#: The kinds of teacher a folder can hold. A file names one of these, never a class or a function.
KINDS: dict[str, Callable[[str | os.PathLike[str]], Teacher]] = {
    LSATeacher.kind: LSATeacher.from_pretrained,
    MiniLMTeacher.kind: MiniLMTeacher.from_pretrained,
    StaticTeacher.kind(): StaticTeacher.from_pretrained,
    TfidfTeacher.kind(): TfidfTeacher.from_pretrained,
    TransformersTeacher.kind: TransformersTeacher.from_pretrained,
}


def load_teacher(folder: str | os.PathLike[str]) -> Teacher:
    """Build the teacher that its ``save_pretrained`` wrote; nothing in the folder is executed.

    A teacher of your own, a :class:`~cellgraph.teacher.BaseTeacher` or one that is added to :data:`KINDS`, must have
    been imported.

    Args:
        folder: Folder with a ``teacher.json``.

    Raises:
        OSError: If there is no such file.
        ValueError: If it is damaged or names an unknown kind of teacher.
    """
    kind = read_state(folder)["kind"]
    if kind in BaseTeacher.kinds:
        return BaseTeacher.kinds[kind].from_pretrained(folder)
    if kind not in KINDS:
        module = kind.rpartition(".")[0]
        own = f"; if it is yours, import {module} before it is loaded" if module else ""
        raise ValueError(f"{folder} holds a teacher of kind {kind!r}, expected one of {sorted(KINDS)}{own}")
    return KINDS[kind](folder)
