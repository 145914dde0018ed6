"""The pairs in a reply, each checked before it is believed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from ..pairs import QAPair
from ..quality import clean_pairs
from .client import Reply
from .plan import Topic

__all__ = ["Found", "read_reply"]

#: Models put JSON into a fence of Markdown, whatever they are told.
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
#: Characters of a question and an answer; what is outside is no pair of the kind that was asked for.
_SHORTEST_QUESTION, _LONGEST_QUESTION = 4, 600
_SHORTEST_ANSWER, _LONGEST_ANSWER = 2, 3000


@dataclass(frozen=True)
class Found:
    """What there is in a reply.

    Args:
        pairs: The pairs.
        malformed: Number of entries that are none.
        fault: Why there are no pairs, where there are none.
    """

    pairs: tuple[QAPair, ...] = ()
    malformed: int = 0
    fault: str = ""


def read_reply(reply: Reply, topic: Topic, most: int) -> Found:
    """Reads the pairs in a reply, tidied; entries beyond the number asked for are left out.

    Args:
        reply: The reply.
        topic: The topic that was asked for.
        most: Number of pairs that were asked for.

    Example:
        >>> topic = Topic("science", "tides", 10)
        >>> read_reply(Reply('{"pairs": [{"question": "Why tides?", "answer": "The Moon."}, {}]}', 9, 9), topic, 5)
        Found(pairs=(QAPair(question='Why tides?', answer='The Moon.', topic='tides', category='science', dialogue='', turn=0),), malformed=1, fault='')
        >>> read_reply(Reply("Sure!", 9, 9), topic, 5).fault
        'it is no JSON'
    """  # noqa: E501
    text = reply.text
    if fenced := _FENCED.fullmatch(text):
        text = fenced[1]
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return Found(fault="it was cut off at the limit of tokens" if reply.cut else "it is no JSON")
    entries = content.get("pairs") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        return Found(fault='it has no list of "pairs"')
    pairs = [_pair(entry, topic) for entry in entries[:most]]
    good = tuple(pair for pair in pairs if pair is not None)
    fault = "" if good else f"none of its {len(pairs)} entries is a question with an answer"
    return Found(good, len(pairs) - len(good), fault)


def _pair(entry: Any, topic: Topic) -> QAPair | None:
    if not isinstance(entry, dict):
        return None
    question, answer = entry.get("question"), entry.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str):
        return None
    cleaned = clean_pairs(
        [QAPair(question, answer, topic=topic.name, category=topic.category)],
        min_question_chars=_SHORTEST_QUESTION,
        max_question_chars=_LONGEST_QUESTION,
        min_answer_chars=_SHORTEST_ANSWER,
        max_answer_chars=_LONGEST_ANSWER,
    )
    return cleaned[0] if cleaned else None
