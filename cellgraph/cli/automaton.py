"""The verb ``automaton``: a cell trained from states to states, judged and drawn."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import hydra
from omegaconf import DictConfig

from cellgraph.cli.building import automaton_experiment
from cellgraph.cli.errors import is_users, one_line
from cellgraph.cli.settling import settle


@hydra.main(version_base="1.3", config_path="pkg://cellgraph.conf", config_name="automaton")
def automaton(config: DictConfig) -> None:
    """Train a neural cellular automaton, judge it on held-out data and draw what it does."""
    try:
        if config.resume is None and "task" not in config:
            raise ValueError("give experiment=NAME or task=NAME, see cellgraph automaton --help for the names")
        config, folder, resume = settle(config)
        automaton_experiment(config, folder).run(resume=resume)
    except Exception as error:
        if not is_users(error):
            raise
        sys.exit(f"cellgraph automaton: {one_line(error)}")


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    # Hydra reads its arguments from there.
    sys.argv = ["cellgraph automaton", *arguments]
    automaton()
