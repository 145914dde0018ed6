"""Building: from a configuration, or a run folder's, to the parts of an experiment."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from cellgraph.automata import AutomatonExperiment
from cellgraph.data import Split, split_pairs
from cellgraph.experiment import Experiment
from cellgraph.teacher import EmbeddingCache, default_cache_folder

CONFIG = "config.yaml"


def experiment(config: DictConfig, folder: Path) -> Experiment:
    """The experiment that a configuration describes."""
    check_targets(config)
    torch.manual_seed(config.seed)
    build = functools.partial(instantiate, _convert_="all")
    return Experiment(
        folder,
        teacher=build(config.teacher),
        cache=EmbeddingCache(default_cache_folder()),
        model=build(config.model),
        objective=build(config.objective),
        settings=build(config.training),
        start=config.start,
        adapters_first=dict(config.adapters_first),
    )


def automaton_experiment(config: DictConfig, folder: Path) -> AutomatonExperiment:
    """The automaton's experiment that a configuration describes."""
    check_targets(config)
    torch.manual_seed(config.seed)
    build = functools.partial(instantiate, _convert_="all")
    task = build(config.task)
    return AutomatonExperiment(
        folder,
        # Not an argument of instantiate, which would copy the lattice into a configuration.
        cell=build(config.cell, _partial_=True)(lattice=task.lattice),
        task=task,
        settings=build(config.training),
        pool=build(config.pool) if config.get("pool") else None,
        curriculum=build(config.curriculum) if config.get("curriculum") else None,
    )


def make_split(config: DictConfig) -> Split:
    """The pairs that a configuration names, split by group."""
    data = config.data
    return split_pairs(instantiate(data.source)(), test=data.test, validation=data.validation, seed=data.seed)


def load_config(folder: Path) -> DictConfig:
    """The configuration of a run folder.

    Raises:
        ValueError: If the folder is no run folder, or its configuration cannot be read.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} is no run folder of cellgraph: {CONFIG} is missing")
    config = OmegaConf.load(path)
    if not isinstance(config, DictConfig):
        raise ValueError(f"{path} must hold a mapping")
    return config


def check_targets(config: DictConfig) -> None:
    """Refuse a configuration that builds anything else than this library's parts."""
    for target in targets(OmegaConf.to_container(config)):
        # A run folder may come from somebody else: its configuration may name this library's parts and no others.
        if not target.startswith("cellgraph."):
            raise ValueError(f"a configuration may only build parts of cellgraph, got _target_: {target}")


def targets(node: Any) -> list[str]:
    """All values of ``_target_`` in a nested container."""
    if isinstance(node, dict):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [target for value in node.values() for target in targets(value)]
    return [target for value in node for target in targets(value)] if isinstance(node, list) else []
