"""The verb ``evaluate``: a run's network judged again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cellgraph.data import QAPair, Split, read_pairs
from cellgraph.runs import load_experiment


def main(arguments: Sequence[str]) -> None:
    """Judge a run's network again, beside its baselines; with --questions, by category of question."""
    parser = argparse.ArgumentParser(prog="cellgraph evaluate", description=main.__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="run folder")
    parser.add_argument(
        "--questions",
        nargs="*",
        metavar="[CATEGORY=]FILE",
        help="pairs in any format that training reads, by their column `category` or all of one, those of a `dialogue` "
        "as its turns; `test`, which is also meant where nothing is named, are the run's held-out pairs",
    )
    given = parser.parse_args(arguments)
    if given.run is None:
        # Behind the questions it was taken for the last of them.
        if not given.questions:
            parser.error("the following arguments are required: run")
        given.run = Path(given.questions.pop())
    experiment = load_experiment(given.run)
    if given.questions is None:
        experiment.evaluate()
        return
    pairs = experiment.question_answering().read(experiment.folder)
    sources = given.questions or ["test"]
    # Two files may have dialogues of one name.
    asked = [
        replace(pair, dialogue=pair.dialogue and f"{place}: {pair.dialogue}")
        for place, source in enumerate(sources)
        for pair in read_questions(source, pairs)
    ]
    experiment.evaluate_questions(asked)


def read_questions(source: str, pairs: Split) -> list[QAPair]:
    """Pairs to be asked, from ``test``, a file, or ``CATEGORY=FILE``.

    The column of categories of a run's own pairs says how they were made, so it is not taken for one of questions.
    What is before the first ``=`` is the category, but where the whole names a file, or only what follows a later
    ``=`` does: both may have a ``=`` of their own.

    Args:
        source: What was given.
        pairs: The pairs of the run.

    Raises:
        ValueError: If the file is damaged.
        OSError: If it cannot be opened.
    """
    if source == "test":
        return [replace(pair, category="") for pair in pairs.test]
    parts = source.split("=")
    cuts = [("=".join(parts[:count]), "=".join(parts[count:])) for count in range(len(parts))]
    there = [(category, path) for category, path in cuts if path and Path(path).exists()]
    category, path = (there or cuts[1:] or cuts)[0]
    # The topic is of no use here, and need not be what it is in training.
    return [
        replace(pair, category=category or pair.category)
        for pair in read_pairs(path, category="" if category else None, topic="")
    ]
