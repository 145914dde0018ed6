"""Loading: a run folder's trained model, or its whole experiment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import yaml

from cellgraph.automata import Automaton
from cellgraph.folder import RunFolder
from cellgraph.model import CellGraph
from cellgraph.older import upgraded
from cellgraph.runs.building import build_experiment, is_automaton
from cellgraph.runs.experiment import Experiment


def load(run: str | os.PathLike[str]) -> CellGraph | Automaton:
    """The trained model of a run folder, in evaluation mode: a network, or an automaton with its ``cell`` and ``task``.

    Nothing in the folder is executed, and no part is built that is not this library's.

    Args:
        run: The run folder.

    Raises:
        ValueError: If it is none, holds no trained model, or something in it is damaged.
    """
    folder = RunFolder.open(run)
    config = read_config(folder)
    if not is_automaton(config):
        return CellGraph.from_pretrained(folder.model)
    model = build_experiment(config, folder).load()
    assert isinstance(model, Automaton)
    return model


def load_experiment(run: str | os.PathLike[str]) -> Experiment:
    """The experiment of a run folder, to go on with it or to judge its model again.

    Args:
        run: The run folder.

    Raises:
        ValueError: If it is none, or its configuration cannot be read.
    """
    folder = RunFolder.open(run)
    return build_experiment(read_config(folder), folder)


def read_config(folder: RunFolder) -> Mapping[str, Any]:
    """The configuration of a run folder, whichever version wrote it.

    Raises:
        ValueError: If it cannot be read.
    """
    try:
        config = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder.config} is damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(config, dict) or "seed" not in config:
        raise ValueError(f"{folder.config} must hold the settings of a run")
    return dict(upgraded(config))
