"""The verb ``train``: texts to embeddings to a trained cube to a table beside its baselines."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

import hydra
from omegaconf import DictConfig

from cellgraph.cli.building import experiment, make_split
from cellgraph.cli.errors import is_users, one_line
from cellgraph.cli.settling import settle


@hydra.main(version_base="1.3", config_path="pkg://cellgraph.conf", config_name="train")
def train(config: DictConfig) -> float:
    """Train and evaluate. A sweep optimises the mean reciprocal rank on the validation pairs."""
    try:
        config, folder, resume = settle(config)
        job = experiment(config, folder)
        job.run(functools.partial(make_split, config), resume=resume)
    except Exception as error:
        if not is_users(error):
            raise
        # Hydra would put a line of its own before the message.
        sys.exit(f"cellgraph train: {one_line(error)}")
    return job.validation_mrr


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    # Hydra reads its arguments from there.
    sys.argv = ["cellgraph train", *arguments]
    train()
