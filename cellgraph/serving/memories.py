"""Memories: what dialogues have left behind in a network, kept by the questions that led there."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor

from cellgraph.numbers import plain_numbers


class DialogueMemories:
    """The memories of the dialogues that were asked last, as many as fit.

    What a dialogue leaves behind follows from its questions alone. So nobody has a session here: who asks says what was
    asked before, and what is found here only need not be heard again.

    Args:
        max_bytes: Most bytes of the memories together.
    """

    @plain_numbers
    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, dialogue: Sequence[str], memory: Tensor) -> None:
        """Keep what questions have left behind, and forget what was not asked for the longest time."""
        known = _digests(dialogue)[-1]
        self._forget(known)
        self._kept[known] = memory
        self.num_bytes += _size(memory)
        while self.num_bytes > self.max_bytes:
            self._forget(next(iter(self._kept)))

    def longest(self, dialogue: Sequence[str]) -> tuple[int, Tensor | None]:
        """How many of a dialogue's first questions are known, and what they left behind; ``None`` of none."""
        digests = _digests(dialogue)
        for heard in range(len(dialogue), 0, -1):
            known = digests[heard]
            if known in self._kept:
                self._kept.move_to_end(known)
                return heard, self._kept[known]
        return 0, None

    def _forget(self, known: bytes) -> None:
        memory = self._kept.pop(known, None)
        self.num_bytes -= 0 if memory is None else _size(memory)


def _digests(dialogue: Sequence[str]) -> list[bytes]:
    """What stands for the first questions of a dialogue, from none of them to all: whole texts would take memory."""
    digest = hashlib.sha256()
    found = [digest.digest()]
    for question in dialogue:
        text = question.encode("utf-8", "surrogatepass")
        digest.update(len(text).to_bytes(8, "big") + text)
        found.append(digest.digest())
    return found


def _size(memory: Tensor) -> int:
    return memory.nbytes + hashlib.sha256().digest_size
