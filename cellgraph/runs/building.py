"""Building: from a configuration of plain types to an experiment of its parts."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cellgraph.automata import Automaton, Curriculum, SamplePool
from cellgraph.automata import Task as AutomatonTask
from cellgraph.configuration import REGISTERED, TARGET, admit, arguments, locate
from cellgraph.data import Split, split_pairs, train_on_more
from cellgraph.folder import RunFolder
from cellgraph.nn import Cell
from cellgraph.numbers import integer, seed
from cellgraph.reading import UNFIT, first_line
from cellgraph.retrieval import Objective, QuestionAnswering
from cellgraph.runs.experiment import Experiment
from cellgraph.teacher import EmbeddingCache, check_teacher, default_cache_folder
from cellgraph.training import RunSettings

#: Keys of a part that say how to build it: later, with what it is then given; and, of a term, what it counts.
PARTIAL, WEIGHT = "_partial_", "weight"
#: What a configuration must have, of question answering and of an automaton, and what it may.
NEEDED = {False: ("data", "teacher", "objective", "training"), True: ("task", "cell", "training")}
OPTIONAL = ("front", "pool", "curriculum", "model")
#: What else it must have, of each kind, and what its pairs.
VALUES = {False: ("seed", "start", "adapters_first"), True: ("seed",)}
SPLIT = ("source", "test", "validation", "seed")


def build_experiment(
    config: Mapping[str, Any], folder: str | Path | RunFolder, *, own: bool = False, cuda: bool = True
) -> Experiment:
    """The experiment that a configuration describes; PyTorch's global generators start from its seed.

    Args:
        config: Nested plain types; a mapping with ``_target_`` is a call of what that names, with the rest as keyword
            arguments, or with ``_partial_`` a function that makes it later.
        folder: The run folder.
        own: Whether the configuration is the user's own, who may have anything built. One that has come with a run
            folder may name the library's parts and what :func:`~cellgraph.configuration.admit` lets in.
        cuda: Whether the generators of the GPUs do so, too.

    Raises:
        ValueError: If a value is missing or none that its part takes, or a part is not to be built.
    """
    if not own:
        admit(config, RunFolder(folder))
    needed = NEEDED[is_automaton(config)]
    _require(config, *needed, *VALUES[is_automaton(config)])
    for group in (*needed, *OPTIONAL):
        node = config[group] if group in needed else config.get(group) or {}
        if not isinstance(node, Mapping):
            raise ValueError(f"{group} must be settings by name, got {node!r:.80}")
    check_processes(config.get("processes", 1))
    (torch.manual_seed if cuda else torch.default_generator.manual_seed)(seed("seed", config["seed"]))
    make = _automaton if is_automaton(config) else _question_answering
    return make(config, RunFolder(folder))


def check_processes(count: Any) -> int:
    """The number of processes that are to train together.

    Raises:
        ValueError: If it is no whole number, or none at all.
    """
    count = integer("processes", count)
    if count < 1:
        raise ValueError(f"processes must be at least 1, got {count}")
    return count


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
        return _made(node[TARGET], parts | more, later=bool(node.get(PARTIAL)))
    return [build(value) for value in node] if isinstance(node, (list, tuple)) else node


def build_objective(node: Mapping[str, Any]) -> Any:
    """An objective, with the terms of one's own that its node names under ``terms``.

    Args:
        node: Plain types; each of the terms is a function that is called with what was predicted, or a class of such,
            with its arguments, and beside them its ``weight``.

    Raises:
        ValueError: If a part is unknown, or an argument none of its own.
    """
    if not isinstance(node.get("terms"), Mapping):
        return build(node)
    return build(node, terms=[_term(name, part) for name, part in node["terms"].items()])


def make_split(data: Mapping[str, Any]) -> Split:
    """The pairs that the part ``data`` of a configuration names, split by group.

    Raises:
        ValueError: If it lacks something.
    """
    _require(data, *SPLIT, within="data.")
    sizes = {"test": data["test"], "validation": data["validation"], "seed": seed("data.seed", data["seed"])}
    pairs, train = build(data["source"])(), data.get("train")
    split = split_pairs(pairs, **sizes, train=train)
    if not data.get("more"):
        return split
    # Of few pairs to train on, more does not bring back what they leave.
    trained = {*split.train}
    left_out = [] if train is None else [pair for pair in split_pairs(pairs, **sizes).train if pair not in trained]
    return train_on_more(split, build(data["more"])(), left_out=left_out)


def _question_answering(config: Mapping[str, Any], folder: RunFolder) -> Experiment:
    # In this order: what draws its first weights does so from one stream.
    front = config.get("front") or {}
    if not front.get("network"):
        _require(config, "model")
    teacher, model = check_teacher(build(config["teacher"])), build(front.get("network") or config["model"])
    task = QuestionAnswering(
        functools.partial(make_split, config["data"]),
        teacher,
        _checked("objective", build_objective(config["objective"]), Objective),
        cache=EmbeddingCache(default_cache_folder()),
        start=config["start"],
        adapters_first=config["adapters_first"],
        # An earlier version had none of these.
        control_trials=config.get("control_trials"),
        lattice_controls=config.get("lattice_controls", False),
        tokens=front.get("tokens"),
        front_controls=front.get("controls"),
        on_disk=config.get("on_disk", False),
    )
    return Experiment(folder, task, model, _checked("training", build(config["training"]), RunSettings))


def _automaton(config: Mapping[str, Any], folder: RunFolder) -> Experiment:
    task = _checked("task", build(config["task"]), AutomatonTask)
    told: dict[str, Any] = {"lattice": task.lattice}
    if task.context_channels and not config["cell"].get("context_channels"):
        told["context_channels"] = task.context_channels
    cell = _checked("cell", build(config["cell"], **told), Cell)
    settings = _checked("training", build(config["training"]), RunSettings)
    # A task may have its own.
    for name, kind in (("pool", SamplePool), ("curriculum", Curriculum)):
        # What an experiment sets of one that was not chosen is no pool.
        if TARGET in (config.get(name) or {}):
            setattr(task, name, _checked(name, build(config[name]), kind))
    begun = config.get("weights_from")
    if begun is not None:
        task.weights_from = RunFolder(_checked("weights_from", begun, str))
    return Experiment(folder, task, Automaton(cell, task), settings)


def _require(config: Mapping[str, Any], *names: str, within: str = "") -> None:
    missing = next((name for name in names if name not in config), None)
    if missing is not None:
        raise ValueError(f"the configuration lacks {within + missing!r}")


def _term(name: str, node: Any) -> tuple[str, Any, Any]:
    if not isinstance(node, Mapping) or TARGET not in node:
        raise ValueError(f"the term {name!r} must say what it is, as {TARGET}: module.name; got {node!r}")
    options = {key: value for key, value in node.items() if key != WEIGHT}
    # A function is called with what was predicted, a class is made before.
    later = options.get(PARTIAL, not inspect.isclass(locate(str(node[TARGET]))))
    return name, build({**options, PARTIAL: later}), node.get(WEIGHT, 1.0)


def _made(target: Any, given: Mapping[str, Any], *, later: bool) -> Any:
    part = locate(str(target))
    taken = arguments(part) if callable(part) else set()
    if taken is not None and not given.keys() <= taken:
        unknown, known = ", ".join(sorted(map(str, given.keys() - taken))), ", ".join(sorted(taken)) or "none"
        raise ValueError(f"cannot build {target}: {unknown} is no argument of it; there are {known}")
    if later:
        return functools.partial(_called, target, **given) if target in REGISTERED else functools.partial(part, **given)
    if target in REGISTERED:
        return _called(target, **given)
    try:
        inspect.signature(part).bind(**given)
    except TypeError as error:
        raise ValueError(f"cannot build {target}: {error}") from error
    except ValueError:
        pass  # what is not written in Python need not tell its arguments
    # What goes wrong within a part of one's own, one wants to see in full.
    return part(**given)


def _called(target: str, /, **given: Any) -> Any:
    """A part of the library's: what it is given is at fault where it is of the wrong kind."""
    try:
        return locate(target)(**given)
    except UNFIT as error:
        raise ValueError(f"cannot build {target}: {first_line(error)}") from error


def _checked(key: str, part: Any, kind: type) -> Any:
    """A part, known to be of a kind."""
    if not isinstance(part, kind):
        raise ValueError(f"{key} must be a {kind.__module__}.{kind.__qualname__}, got {part!r:.80}")
    return part
