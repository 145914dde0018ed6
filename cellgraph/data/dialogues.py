"""Dialogues in YAML, in the form of the `ChatterBot corpus <https://github.com/gunthercox/chatterbot-corpus>`_."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .pairs import QAPair

__all__ = ["read_dialogue_folder", "read_dialogues"]

#: Lists and mappings in one another: far more than dialogues have, far fewer than the thousand at which Python's
#: recursion ends.
_DEEPEST = 100
#: Times its own length, in characters, that a file may come to by its aliases; small files may come to more.
_MOST_COPIES, _SMALL = 10, 1_000_000


def read_dialogue_folder(folder: Path) -> Iterator[QAPair]:
    """Yields the pairs of all the YAML files of a folder, sorted by name.

    Raises:
        ValueError: If there is none, or as :func:`read_dialogues`.
    """
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".yml", ".yaml"))
    if not files:
        raise ValueError(f"{folder}: expected a folder of .yml or .yaml dialogues, found none")
    numbers: Counter[str] = Counter()  # goes on counting where a.yml and a.yaml share their stem
    for file in files:
        yield from read_dialogues(file, numbers)


def read_dialogues(path: Path, numbers: Counter[str]) -> Iterator[QAPair]:
    """Yields the pairs of a file: every turn of a conversation but the last with the one after it.

    Args:
        path: The file.
        numbers: How many conversations have been read from files of a name; counted on here.

    Raises:
        ValueError: If the file is empty, damaged, or of another form.
        OSError: If it cannot be opened.
    """
    with path.open(encoding="utf-8-sig") as file:
        content = _parsed(path, file.read())
    if not content:
        raise ValueError(f"{path}: no question-answer pairs in it, the file is empty")
    if not isinstance(content, dict) or "conversations" not in content:
        there = ", ".join(repr(key) for key in content) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path}: expected a mapping with 'conversations', got {there}")
    conversations = content["conversations"]
    if not isinstance(conversations, list):
        raise ValueError(f"{path}: 'conversations' must be a list, got {type(conversations).__name__}")
    category = ", ".join(_turns(content.get("categories", [])))
    for number, conversation in enumerate(conversations, start=1):
        turns = list(_turns(conversation))
        if not all(turn.strip() for turn in turns):
            raise ValueError(f"{path}, conversation {number}: a turn is missing or empty")
        dialogue = f"{path.stem}-{numbers[path.stem]}"
        numbers[path.stem] += 1
        for turn, (asked, answered) in enumerate(itertools.pairwise(turns)):
            yield QAPair(asked, answered, category=category, dialogue=dialogue, turn=turn)


def _parsed(path: Path, text: str) -> Any:
    """Returns the one document of a YAML text in lists, dicts and texts; ``None`` if there is none.

    Every scalar is text. A loader would read the turns `yes` and `42` as a truth value and a number, could no longer
    tell how they were written, would drop the first of two equal keys, and would go as deep as the text has it and copy
    as often: here each of these is an error that names its line.
    """
    import yaml

    parser = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    most = max(_MOST_COPIES * len(text), _SMALL)
    documents: list[Any] = []
    stack = [_Open(documents)]
    anchored: dict[str, tuple[Any, int]] = {}
    total = 0
    try:
        for event in yaml.parse(text, Loader=parser):
            place = f"{path}, line {event.start_mark.line + 1}: "  # type: ignore[union-attr]
            value: Any
            if isinstance(event, yaml.CollectionStartEvent):
                if len(stack) > _DEEPEST:
                    raise ValueError(f"{place}more than {_DEEPEST} lists or mappings in one another")
                stack.append(_Open({} if isinstance(event, yaml.MappingStartEvent) else [], event.anchor, total))
                continue
            # Everything counts as one character more, so that empty lists add up too.
            if isinstance(event, yaml.ScalarEvent):
                value, characters, anchor = event.value, len(event.value) + 1, event.anchor
            elif isinstance(event, yaml.AliasEvent):
                if event.anchor not in anchored:
                    raise ValueError(f"{place}invalid YAML: nothing before it is called {event.anchor!r}")
                (value, characters), anchor = anchored[event.anchor], None
            elif isinstance(event, yaml.CollectionEndEvent):
                done = stack.pop()
                value, characters, anchor = done.content, total - done.before + 1, done.anchor
                total = done.before
            elif isinstance(event, yaml.DocumentStartEvent) and documents:
                raise ValueError(f"{place}invalid YAML: expected one document, got another")
            else:
                continue
            total += characters
            if total > most:
                raise ValueError(f"{place}its aliases repeat the file more than {_MOST_COPIES} times over")
            if anchor is not None:
                anchored[anchor] = value, characters
            stack[-1].add(value, place)
    except yaml.YAMLError as error:
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise ValueError(f"{path}{line}: invalid YAML: {reason}") from None
    return documents[0] if documents else None


@dataclass
class _Open:
    """A list or mapping that is being read: its anchor, the characters before it, the key that waits for its value."""

    content: list[Any] | dict[str, Any]
    anchor: str | None = None
    before: int = 0
    key: str | None = None

    def add(self, value: Any, place: str) -> None:
        if isinstance(self.content, list):
            self.content.append(value)
        elif self.key is not None:
            self.content[self.key], self.key = value, None
        elif not isinstance(value, str):
            raise ValueError(f"{place}invalid YAML: a key must be text, got a {type(value).__name__}")
        elif value in self.content:
            raise ValueError(f"{place}the key {value!r} is there more than once")
        else:
            self.key = value


def _turns(node: Any) -> Iterator[str]:
    """Yields the turns of a conversation, nested lists flattened, a turn that YAML took for a mapping made text."""
    if isinstance(node, list):
        for item in node:
            yield from _turns(item)
    elif isinstance(node, dict):
        # "Note: it is hot" without quotes is a mapping to YAML and a sentence to its author.
        yield "; ".join(f"{key}: {' '.join(_turns(value))}".strip() for key, value in node.items())
    else:
        yield node
