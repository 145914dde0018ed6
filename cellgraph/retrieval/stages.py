"""Stages: what is trained beside a network, each in a folder of its own: the first stage and the baselines."""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from cellgraph import training
from cellgraph.files import write_json
from cellgraph.generators import own_generators
from cellgraph.model import CellGraph
from cellgraph.numbers import plain_numbers
from cellgraph.reading import faults, read_json
from cellgraph.retrieval.controls import Control
from cellgraph.retrieval.networks import Network, load_network
from cellgraph.retrieval.objectives import Objective
from cellgraph.retrieval.settings import TrainSettings
from cellgraph.retrieval.task import Retrieval
from cellgraph.retrieval.trials import Trials, TrialSettings
from cellgraph.retrieval.twins import (
    alone,
    with_chain,
    with_frozen_cell,
    with_perceptron,
    without_lateral_messages,
)
from cellgraph.sequence import SequenceGraph
from cellgraph.training import Job
from cellgraph.training.accelerator import check_accelerator
from cellgraph.training.optimizer import check_optimizer
from cellgraph.training.schedule import check_multipliers

#: The first stage of training.
FIRST = "first"

#: The trained baselines, by their names in the table.
ADAPTERS_ALONE, LINEAR_MLP, BEST_MLP = "adapters alone", "linear + MLP", "best MLP"
#: Those that have a lattice, and cost as much as the network.
FROZEN, NO_LATERAL = "cell frozen at random", "no lateral messages"

#: All the names that are the stages' own.
NAMES = (FIRST, ADAPTERS_ALONE, LINEAR_MLP, BEST_MLP, FROZEN, NO_LATERAL)

#: Bytes of the name of a trial's folder: file systems take 255, some fewer, and a whole path has a limit as well.
LONGEST_PLACE = 120

#: What a baseline has something else in the place of: a network's cell, a chain's blocks.
CORES = ("cell", "blocks")
#: Parts that a baseline without a lattice shares with the network.
SHARED = {"question_adapter", "answer_adapter", "path"}


class Trained(NamedTuple):
    """Something that was trained beside the network.

    Attributes:
        model: It.
        seconds: What training it took.
        score: The validation figure that chose its weights.
        trials: How many settings were tried; these are the best by validation.
        trial: These.
    """

    model: Network
    seconds: float
    score: float
    trials: int = 1
    trial: TrialSettings = TrialSettings()


class Stages:
    """The first stage and the trained baselines of a run: trained once, and read from its folder after that.

    Args:
        task: What they are trained for, as the network is.
        job: The experiment.
        new: Makes a new network, its adapters fitted, always the same one.
        first: Settings in which the first stage differs; without ``max_steps`` there is none.
        trials: Each baseline is trained with all of them, and the best by validation is taken. Where they are of the
            perceptron, too, there is one more, whose perceptron may be of any of the sizes, the equal one included.
        lattices: Whether there are the two baselines that have a lattice, too.
        fronts: Chains of blocks by name, each a baseline more of a network that is a chain.
        depends: What else a stage depends on, as plain types.
    """

    @plain_numbers
    def __init__(
        self,
        task: Retrieval,
        job: Job,
        new: Callable[[], CellGraph],
        *,
        first: Mapping[str, Any],
        trials: Trials,
        lattices: bool = False,
        fronts: Mapping[str, Any] | None = None,
        depends: Mapping[str, Any] | None = None,
    ) -> None:
        self.task, self.job, self.new, self.first = task, job, new, TrialSettings(first)
        self.fronts = {} if fronts is None else dict(fronts)
        self.depends = {} if depends is None else dict(depends)
        self.trials = {
            **dict.fromkeys((ADAPTERS_ALONE, LINEAR_MLP), trials.common),
            **({BEST_MLP: trials.of_perceptron} if trials.of_perceptron else {}),
            **(dict.fromkeys((FROZEN, NO_LATERAL), trials.common) if lattices else {}),
            **dict.fromkeys(self.fronts, trials.common),
        }

    def take_first(self, model: CellGraph) -> float:
        """Take the adapters of a new network through the first stage; the seconds that it took."""
        if not self.first.training.get("max_steps"):
            return 0.0
        kept = self._kept(FIRST, self.first)
        bare = alone(model)
        if kept is None:
            self.job.say("first stage: the adapters without the lattice")
            kept = self._train(FIRST, bare, self.first)
        else:
            bare.load_state_dict(kept.model.state_dict())
        model.train()
        return kept.seconds

    def baselines(self) -> tuple[float, dict[str, Trained]]:
        """Seconds of the first stage, and the baselines by name.

        They have the network's adapters, start, loss, stages and number of updates.
        """
        every = [(name, trial) for name, trials in self.trials.items() for trial in trials]
        kept = [self._kept(_place(name, trial), trial) for name, trial in every]
        first = self._kept(FIRST, self.first) if self.first.training.get("max_steps") else None
        seconds = 0.0 if first is None else first.seconds
        if None in kept:
            model = self.new()
            # New weights are drawn here, in one order, whatever is trained or read.
            perceptron = with_perceptron(model)
            seconds = self.take_first(model)
            perceptron.load_state_dict(alone(model).state_dict(), strict=False)
            made: dict[str, Callable[[TrialSettings], Network]] = {
                ADAPTERS_ALONE: lambda trial: alone(model),
                LINEAR_MLP: lambda trial: perceptron,
                BEST_MLP: lambda trial: with_perceptron(model, **trial.mlp),
                FROZEN: lambda trial: with_frozen_cell(model),
                NO_LATERAL: lambda trial: without_lateral_messages(model),
                **{name: functools.partial(self._chain, model, name) for name in self.fronts},
            }
            for number, (name, trial) in enumerate(every):
                if kept[number] is None:
                    self.job.say(f"baseline: {_place(name, trial)}")
                    # Or here, each as if it were the only one, and not as the network's were.
                    with own_generators(self.job.settings.seed + 1):
                        baseline = copy.deepcopy(made[name](trial))
                    kept[number] = self._train(_place(name, trial), baseline, trial)
        found = {}
        for name in self.trials:
            # The one of equal size has been tried, too.
            names = (BEST_MLP, LINEAR_MLP) if name == BEST_MLP else (name,)
            of_it = [one for (its_name, _), one in zip(every, kept, strict=True) if its_name in names and one]
            found[name] = max(of_it, key=lambda one: one.score)._replace(trials=len(of_it))
            if len(of_it) > 1:
                what = str(found[name].trial) or "as many parameters as the lattice"
                self.job.say(f"{name}: the best of {len(of_it)} by validation has {what}")
        return seconds, found

    def _chain(self, model: CellGraph | SequenceGraph, name: str, trial: TrialSettings) -> SequenceGraph:
        """A new network of one of the other chains."""
        return with_chain(model, self.fronts[name])

    def settings(self, model: Network, trial: TrialSettings) -> TrainSettings:
        """The settings of the whole network; what they say of its whole cell is said of the baseline's own parts.

        What they say of a part that the baseline has not, such as a cell's transport or the readout, is not.
        """
        options: dict[str, Any] = {}
        if isinstance(model, Control | SequenceGraph):
            names = _names(model, self.task.objective)
            # What the network has not.
            learned = {part for part, child in model.named_children() if next(child.parameters(), None) is not None}
            own = sorted(learned - SHARED)
            multipliers: dict[str, float] = {}
            # The longest last, which counts for a parameter's name, too.
            for beginning, factor in sorted(self.job.settings.lr_multipliers.items(), key=lambda item: len(item[0])):
                if any(name.startswith(beginning) for name in names):
                    multipliers[beginning] = factor
                elif any(core.startswith(beginning) for core in CORES):
                    multipliers |= dict.fromkeys(own, factor)
            options = {"lr_multipliers": multipliers, **({"compile": False} if isinstance(model, Control) else {})}
        return dataclasses.replace(self.job.settings, **options | dict(trial.training))

    def _train(self, place: str, model: Network, trial: TrialSettings) -> Trained:
        task = copy.copy(self.task)
        task.objective = trial.of(task.objective)
        stage, settings = self.job.folder.stage(place), self.settings(model, trial)
        options: dict[str, Any] = {"folder": stage, "resume": stage.last.exists(), "go_on": self.job.go_on}
        result = training.train(model, task, settings, progress=False, **options)
        model.save_pretrained(stage.model)
        write_json(stage.training, {**self._described(place, model, trial), **result.to_dict()})
        shutil.rmtree(stage.checkpoints)
        return Trained(model, result.seconds, self._score(result.to_dict()), trial=trial)

    def _kept(self, place: str, trial: TrialSettings) -> Trained | None:
        """What was trained there before by the same settings."""
        stage = self.job.folder.stage(place)
        if not stage.training.exists():
            return None
        told = read_json(stage.training)
        model = load_network(stage.model)
        if not self._described(place, model, trial).items() <= told.items():
            return None
        # Where the process was killed before it came to that.
        shutil.rmtree(stage.checkpoints, ignore_errors=True)
        with faults(str(stage.training)):
            return Trained(model, float(told["seconds"]), self._score(told), trial=trial)

    def _score(self, told: Mapping[str, Any]) -> float:
        score = told.get(f"val/{self.task.monitor}")
        return float("-inf") if score is None else float(score)

    def _described(self, place: str, model: Network, trial: TrialSettings) -> dict[str, Any]:
        """What a stage depends on, as it comes back from JSON."""
        settings = dataclasses.asdict(self.settings(model, trial))
        # Runs of before have it nowhere.
        if not settings["deterministic"]:
            del settings["deterministic"]
        described = {"settings": settings, "objective": repr(trial.of(self.task.objective)), **self.depends}
        for name, chain in self.fronts.items():
            if place == _place(name, trial):
                described["chain"] = chain
        return json.loads(json.dumps(described))


def check_trained(
    model: Any,
    objective: Objective,
    settings: TrainSettings,
    *,
    first: Mapping[str, Any],
    trials: Trials,
    chains: Mapping[str, SequenceGraph],
) -> None:
    """Refuse settings that fit no part of the network, of the first stage or of a baseline, or no device here.

    Args:
        model: The network, new.
        objective: What is learned beside it.
        settings: How the network is trained.
        first: Settings in which the first stage differs.
        trials: Settings in which the baselines do.
        chains: The baselines that are chains of blocks.

    Raises:
        ValueError: If a setting does not fit, or needs what is not there.
    """
    check_multipliers(settings.lr_multipliers, _names(model, objective))
    if first.get("max_steps"):
        _check_differing("adapters_first", settings, first, [alone(model)], objective)
    for trial in (*trials.common, *trials.of_perceptron):
        if trial.training:
            perceptron = with_perceptron(model, **trial.mlp)
            networks = [perceptron] if trial.mlp else [alone(model), perceptron, *chains.values()]
            _check_differing("control_trials", settings, trial.training, networks, objective)


def _check_differing(
    what: str, settings: TrainSettings, differs: Mapping[str, Any], networks: Sequence[nn.Module], objective: Objective
) -> None:
    try:
        told = dataclasses.replace(settings, **differs)
        if "accelerator" in differs:
            check_accelerator(told.accelerator)
        if "optimizer" in differs:
            check_optimizer(told.optimizer)
        for network in networks if "lr_multipliers" in differs else ():
            check_multipliers(told.lr_multipliers, _names(network, objective))
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def _names(model: Any, objective: Objective) -> list[str]:
    return [name for part in (model, objective) for name, _ in part.named_parameters()]


def _place(name: str, trial: TrialSettings) -> str:
    """Name of a stage's folder; a long one ends in a hash of the whole."""
    place = f"{name}, {trial}" if str(trial) else name
    if not str(trial) or len(place.encode()) <= LONGEST_PLACE:
        return place
    digest = hashlib.sha256(place.encode()).hexdigest()[:16]
    return f"{place.encode()[: LONGEST_PLACE - len(digest) - 2].decode(errors='ignore')}, {digest}"
