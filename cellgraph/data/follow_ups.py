"""Follow-up questions: dialogues made of pairs by a rule, whose later questions mean nothing without the first."""

from __future__ import annotations

import os
import random
import re
from dataclasses import replace

from cellgraph.numbers import integer
from cellgraph.texts import marks

from .pairs import QAPair, normalise_text
from .readers import read_pairs

__all__ = ["follow_up_pairs"]

#: What a topic's name becomes.
PRONOUN = "it"


def follow_up_pairs(
    path: str | os.PathLike[str],
    *,
    question: str = "question",
    answer: str = "answer",
    topic: str | None = None,
    category: str | None = None,
    full: bool = False,
    most_turns: int = 6,
    orders: int = 1,
    seed: int = 0,
) -> list[QAPair]:
    """Pairs of one topic as the turns of a dialogue: the first question stands, later ones say "it".

    The rule: pairs are gathered by topic, those of a topic shuffled by the seed and cut into dialogues of at most
    ``most_turns``. The question of the first turn is left as it is; in each later one the topic's name, wherever it
    stands as whole words and in any case, becomes "it". Pairs whose question does not name their topic are left out,
    and so are dialogues of a single turn. What a later turn is about is known from the turns before alone.

    Args:
        path: A file of pairs with a topic, see :func:`~cellgraph.data.read_pairs`.
        question, answer, topic, category: Names of columns, see there.
        full: Leave the names where they are: the same dialogues, each question complete. What a system reaches there
            is the most that memory can give it.
        most_turns: The most turns of a dialogue.
        orders: How often the pairs of a topic are shuffled and cut anew: more dialogues of the same pairs.
        seed: Of the order within a topic.

    Raises:
        ValueError: If there is no dialogue of two turns, or as :func:`~cellgraph.data.read_pairs`.

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "pairs.jsonl"
        >>> rows = ['{"question": "What is rust?", "answer": "A.", "topic": "Rust"}',
        ...         '{"question": "Who has Rust?", "answer": "B.", "topic": "Rust"}']
        >>> _ = file.write_text("\\n".join(rows))
        >>> [pair.question for pair in follow_up_pairs(file, seed=1)]
        ['What is rust?', 'Who has it?']
    """
    seed, most_turns, orders = integer("seed", seed), integer("most_turns", most_turns), integer("orders", orders)
    if most_turns < 2:
        raise ValueError(f"most_turns must be at least 2, got {most_turns}")
    if orders < 1:
        raise ValueError(f"orders must be positive, got {orders}")
    by_topic: dict[str, list[QAPair]] = {}
    columns = {"question": question, "answer": answer, "topic": topic, "category": category}
    for pair in read_pairs(path, dialogue="", turn="", **columns):  # type: ignore[arg-type]
        if pair.topic and _named(pair.topic).search(pair.question):
            by_topic.setdefault(normalise_text(pair.topic), []).append(pair)
    made = []
    for name in sorted(by_topic):
        pairs = sorted(by_topic[name], key=lambda pair: (pair.question, pair.answer))
        draw = random.Random(f"{seed} {name}")
        for order in range(orders):
            draw.shuffle(pairs)
            for number, first in enumerate(range(0, len(pairs), most_turns)):
                turns = pairs[first : first + most_turns]
                if len(turns) < 2:
                    continue
                for turn, pair in enumerate(turns):
                    said = pair.question if full or not turn else _named(pair.topic).sub(PRONOUN, pair.question)
                    made.append(replace(pair, question=said, dialogue=f"{name} {seed}.{order}.{number}", turn=turn))
    if not made:
        raise ValueError(f"{os.fspath(path)}: no topic has two pairs whose questions name it")
    return made


def _named(topic: str) -> re.Pattern[str]:
    letter = rf"[\w{marks()}]"
    return re.compile(rf"(?<!{letter}){re.escape(topic)}(?!{letter})", re.IGNORECASE)
