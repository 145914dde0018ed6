"""The verb ``automaton``: ``train`` for a cell from states to states."""

from __future__ import annotations

from collections.abc import Sequence

from cellgraph.cli import train


def main(arguments: Sequence[str]) -> None:
    """Run the verb.

    Raises:
        ValueError: If nothing says what to train for.
    """
    told = ("experiment=", "task=", "task.", "resume=", "--", "-h")
    if not any(argument.lstrip("+").startswith(told) for argument in arguments):
        raise ValueError("give experiment=NAME or task=NAME, see cellgraph automaton --help for the names")
    resumes = any(argument.startswith("resume=") for argument in arguments)
    train.main(arguments if resumes else [*arguments, train.AUTOMATON], verb="automaton")
