"""Building: from a configuration of plain types to an experiment of its parts."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cellgraph.automata import Automaton
from cellgraph.data import Split, split_pairs
from cellgraph.folder import RunFolder
from cellgraph.numbers import integer
from cellgraph.retrieval import QuestionAnswering
from cellgraph.runs.experiment import Experiment
from cellgraph.teacher import EmbeddingCache, default_cache_folder

#: Keys of a part that say what to build.
TARGET, PARTIAL = "_target_", "_partial_"


def build_experiment(config: Mapping[str, Any], folder: str | Path | RunFolder) -> Experiment:
    """The experiment that a configuration describes.

    Args:
        config: Nested plain types; a mapping with ``_target_`` is a call of what that names, with the rest as keyword
            arguments, or with ``_partial_`` a function that makes it later. Only parts of this library are built: a
            configuration may have come with a run folder from somebody else.
        folder: The run folder.

    Raises:
        ValueError: If a value is missing or none that its part takes, or a part is not this library's.
    """
    check_targets(config)
    torch.manual_seed(integer("seed", config["seed"]))
    make = _automaton if is_automaton(config) else _question_answering
    try:
        return make(config, RunFolder(folder))
    except KeyError as error:
        raise ValueError(f"the configuration lacks {error.args[0]!r}") from error


def is_automaton(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is of an automaton, not of question answering."""
    return bool(config.get("task"))


def build(node: Any, **more: Any) -> Any:
    """What a node of a configuration describes, from the inside out.

    Args:
        node: Plain types.
        more: Further arguments of the outermost part, which may be anything.

    Raises:
        ValueError: If a part is unknown, or an argument none of its own.
    """
    if isinstance(node, Mapping):
        parts = {key: build(value) for key, value in node.items() if key not in (TARGET, PARTIAL, *more)}
        if TARGET not in node:
            return parts | more
        part = _locate(node[TARGET])
        if node.get(PARTIAL):
            return functools.partial(part, **parts, **more)
        try:
            return part(**parts, **more)
        except TypeError as error:
            raise ValueError(f"cannot build {node[TARGET]}: {error}") from error
    return [build(value) for value in node] if isinstance(node, (list, tuple)) else node


def check_targets(config: Mapping[str, Any]) -> None:
    """Refuse a configuration that builds anything else than this library's parts."""
    for target in targets(config):
        if not target.startswith("cellgraph."):
            raise ValueError(f"a configuration may only build parts of cellgraph, got {TARGET}: {target}")


def targets(node: Any) -> list[str]:
    """All parts that a nested configuration names."""
    if isinstance(node, Mapping):
        own = [str(node[TARGET])] if TARGET in node else []
        return own + [target for value in node.values() for target in targets(value)]
    return [target for value in node for target in targets(value)] if isinstance(node, (list, tuple)) else []


def make_split(data: Mapping[str, Any]) -> Split:
    """The pairs that the part ``data`` of a configuration names, split by group."""
    seed = integer("data.seed", data["seed"])
    return split_pairs(build(data["source"])(), test=data["test"], validation=data["validation"], seed=seed)


def _question_answering(config: Mapping[str, Any], folder: RunFolder) -> Experiment:
    # In this order: what draws its first weights does so from one stream.
    teacher, model = build(config["teacher"]), build(config["model"])
    task = QuestionAnswering(
        functools.partial(make_split, config["data"]),
        teacher,
        build(config["objective"]),
        cache=EmbeddingCache(default_cache_folder()),
        start=config["start"],
        adapters_first=config["adapters_first"],
        # An earlier version had neither.
        control_trials=config.get("control_trials"),
        lattice_controls=config.get("lattice_controls", False),
    )
    return Experiment(folder, task, model, build(config["training"]))


def _automaton(config: Mapping[str, Any], folder: RunFolder) -> Experiment:
    task = build(config["task"])
    told = {"lattice": task.lattice}
    if not config["cell"].get("context_channels"):
        told["context_channels"] = task.context_channels
    cell = build(config["cell"], **told)
    settings = build(config["training"])
    task.pool = build(config["pool"]) if config.get("pool") else None
    task.curriculum = build(config["curriculum"]) if config.get("curriculum") else None
    return Experiment(folder, task, Automaton(cell, task), settings)


def _locate(target: str) -> Any:
    """What a dotted name names: a module's attribute, or an attribute's."""
    names = target.split(".")
    for count in range(len(names) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(names[:count]))
        except ModuleNotFoundError:
            continue
        try:
            return functools.reduce(getattr, names[count:], found)
        except AttributeError:
            break
    raise ValueError(f"there is nothing called {target}")
