"""Loading: a run folder's trained model, or its whole experiment."""

from __future__ import annotations

import os

from cellgraph.automata import Automaton
from cellgraph.configuration import admit, read_config
from cellgraph.folder import RunFolder
from cellgraph.generators import own_generators
from cellgraph.model import CellGraph
from cellgraph.retrieval.controls import Control
from cellgraph.retrieval.networks import load_network
from cellgraph.runs.building import build_experiment, is_automaton
from cellgraph.runs.experiment import Experiment
from cellgraph.sequence import SequenceGraph


def load(run: str | os.PathLike[str]) -> CellGraph | SequenceGraph | Automaton:
    """The trained model of a run folder, in evaluation mode: a network, or an automaton with its ``cell`` and ``task``.

    Nothing in the folder is executed, and the random state of the process is as before afterwards. A part of your own,
    such as a cell, is built where you have started the run, have imported that part, or trust its module, see
    :func:`~cellgraph.configuration.admit`.

    Args:
        run: The run folder.

    Raises:
        ValueError: If it is none, holds no trained model, something in it is damaged, or it names a part that is not
            to be built.
    """
    folder = RunFolder.open(run)
    config = read_config(folder)
    if not is_automaton(config):
        admit([config.get("model"), config.get("front")], folder)
        with own_generators():
            network = load_network(folder.model)
        if isinstance(network, Control):
            raise ValueError(f"{folder} holds a {type(network).__name__}, expected a network")
        return network
    with own_generators():
        model = build_experiment(config, folder, cuda=False).load()
    assert isinstance(model, Automaton)
    return model


def load_experiment(run: str | os.PathLike[str]) -> Experiment:
    """The experiment of a run folder, to go on with it or to judge its model again.

    Args:
        run: The run folder.

    Raises:
        ValueError: If it is none, its configuration cannot be read, or names a part that is not to be built.
    """
    folder = RunFolder.open(run)
    return build_experiment(read_config(folder), folder)
