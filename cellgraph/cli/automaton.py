"""The verb ``automaton``: ``train`` for a cell from states to states."""

from __future__ import annotations

from collections.abc import Sequence

from cellgraph.cli import train


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    resumes = any(argument.lstrip("+").startswith("resume=") for argument in arguments)
    train.main(arguments if resumes else train.beside_overrides(arguments, train.AUTOMATON), verb="automaton")
