"""The plan: which topics are asked for, and how many pairs of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from cellgraph.numbers import integer

from ..pairs import normalise_text

__all__ = ["SHIPPED_PLAN", "Plan", "Topic", "read_plan"]

#: The plan that ships with the package: the categories and topics of the starter set.
SHIPPED_PLAN = Path(__file__).with_name("plan.yaml")
_KEYS = {"plan": ("pairs", "categories"), "category": ("style", "topics"), "topic": ("topic", "pairs", "note")}


@dataclass(frozen=True)
class Topic:
    """A topic that is asked for.

    Args:
        category: The category of its pairs.
        name: The topic of its pairs.
        pairs: Number of pairs wanted.
        note: What the model is told beside its name.
    """

    category: str
    name: str
    pairs: int
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """Topics in the order in which they are asked for.

    Args:
        topics: The topics.

    Raises:
        ValueError: If there are none, or one is there twice.
    """

    topics: tuple[Topic, ...]

    def __post_init__(self) -> None:
        if not self.topics:
            raise ValueError("the plan has no topics")
        seen: set[str] = set()
        for topic in self.topics:
            key = normalise_text(topic.name)
            if key in seen:
                raise ValueError(f"the plan has the topic {topic.name!r} twice")
            seen.add(key)

    @property
    def pairs(self) -> int:
        """Number of pairs wanted, all topics together."""
        return sum(topic.pairs for topic in self.topics)

    def chosen(self, *, categories: Sequence[str] = (), pairs: int | None = None) -> Plan:
        """The part of the plan that is in some categories, with another number of pairs for each topic.

        Args:
            categories: Names of categories, all if none is given.
            pairs: Number of pairs for each topic; as planned by default.

        Raises:
            ValueError: If the plan has no such category, or the number is not positive.
        """
        there = dict.fromkeys(topic.category for topic in self.topics)
        for name in categories:
            if name not in there:
                raise ValueError(f"the plan has no category {name!r}; its categories are {', '.join(map(repr, there))}")
        topics = [topic for topic in self.topics if not categories or topic.category in categories]
        if pairs is not None:
            topics = [replace(topic, pairs=_count(pairs, "pairs")) for topic in topics]
        return Plan(tuple(topics))


def read_plan(path: str | os.PathLike[str] = SHIPPED_PLAN) -> Plan:
    """Reads a plan from YAML.

    ``categories`` maps the name of a category to its ``topics`` (names, or mappings with ``topic`` and perhaps
    ``pairs`` and a ``note`` to the model), with a ``style`` that the model is told for all of them, or to the list of
    topics alone; ``pairs`` is the number for each topic that says nothing else.

    Args:
        path: The file.

    Raises:
        ValueError: If the file is no such plan; the message names the file and the place.
        OSError: If it cannot be read.

    Example:
        >>> plan = read_plan()
        >>> len(plan.topics), plan.topics[0].category, plan.topics[0].name
        (71, 'AI and machine learning', 'neural networks')
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no YAML: {' '.join(str(error).split())}") from None
    try:
        return Plan(tuple(_topics(content)))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _topics(content: Any) -> list[Topic]:
    plan = _mapping(content, "plan", "the plan")
    pairs = _count(plan.get("pairs", 10), "pairs")
    categories = plan.get("categories")
    if not isinstance(categories, dict) or not categories:
        raise ValueError(f"categories must map names to topics, got {_shown(categories)}")
    topics = []
    for category, given in categories.items():
        name = _text(category, "the name of a category")
        part = {"topics": given} if isinstance(given, list) else _mapping(given, "category", f"category {name!r}")
        style = _text(part["style"], f"the style of {name!r}") if part.get("style") else ""
        listed = part.get("topics")
        if not isinstance(listed, list) or not listed:
            raise ValueError(f"category {name!r} must have a list of topics, got {_shown(listed)}")
        for entry in listed:
            whole = _mapping(entry, "topic", f"a topic of {name!r}") if isinstance(entry, dict) else {"topic": entry}
            topic = _text(whole.get("topic"), f"a topic of {name!r}")
            note = _text(whole["note"], f"the note of {topic!r}") if whole.get("note") else ""
            count = _count(whole.get("pairs", pairs), f"the pairs of {topic!r}")
            topics.append(Topic(name, topic, count, " ".join(filter(None, (style, note)))))
    return topics


def _mapping(value: Any, kind: str, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a mapping with {', '.join(_KEYS[kind])}, got {_shown(value)}")
    unknown = [key for key in value if key not in _KEYS[kind]]
    if unknown:
        raise ValueError(f"{what} has an unknown key {unknown[0]!r}; known are {', '.join(_KEYS[kind])}")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what} must be text, got {_shown(value)}")
    return " ".join(value.split())


def _count(value: Any, what: str) -> int:
    count = integer(what, value)
    if count < 1:
        raise ValueError(f"{what} must be at least 1, got {count}")
    return count


def _shown(value: Any) -> str:
    shown = "nothing" if value is None else repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
