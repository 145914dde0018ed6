"""Stages: what is trained beside a network, each in a folder of its own: the first stage and the baselines."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cellgraph.files import write_json
from cellgraph.model import CellGraph
from cellgraph.numbers import plain_numbers
from cellgraph.pretrained import CONFIG
from cellgraph.retrieval.controls import (
    Control,
    alone,
    with_frozen_cell,
    with_perceptron,
    without_lateral_messages,
)
from cellgraph.retrieval.settings import TrainSettings
from cellgraph.retrieval.task import Retrieval
from cellgraph.training import Job, train

#: The first stage of training.
FIRST = "first"

#: The trained baselines, by their names in the table.
ADAPTERS_ALONE, LINEAR_MLP = "adapters alone", "linear + MLP"
#: Those that have a lattice, and cost as much as the network.
FROZEN, NO_LATERAL = "cell frozen at random", "no lateral messages"

#: Parts that a baseline without a lattice shares with the network.
SHARED = {"question_adapter", "answer_adapter", "path"}

Settings = Mapping[str, Any]


class Trained(NamedTuple):
    """Something that was trained beside the network.

    Attributes:
        model: It.
        seconds: What training it took.
        score: The validation figure that chose its weights.
        trials: How many settings were tried; these are the best by validation.
    """

    model: CellGraph | Control
    seconds: float
    score: float
    trials: int = 1


class Stages:
    """The first stage and the trained baselines of a run: trained once, and read from its folder after that.

    Args:
        task: What they are trained for, as the network is.
        job: The experiment.
        new: Makes a new network, its adapters fitted, always the same one.
        first: Settings in which the first stage differs; without ``max_steps`` there is none.
        trials: Values to try, by setting: each baseline is trained with every combination, and the best by validation
            is taken.
        lattices: Whether there are the two baselines that have a lattice, too.
        depends: What else a stage depends on, as plain types.
    """

    @plain_numbers
    def __init__(
        self,
        task: Retrieval,
        job: Job,
        new: Callable[[], CellGraph],
        *,
        first: Settings,
        trials: Mapping[str, Sequence[Any]],
        lattices: bool = False,
        depends: Mapping[str, Any] | None = None,
    ) -> None:
        self.task, self.job, self.new, self.first = task, job, new, first
        self.depends = {} if depends is None else dict(depends)
        self.trials = [dict(zip(trials, values, strict=True)) for values in itertools.product(*trials.values())]
        self.names = [ADAPTERS_ALONE, LINEAR_MLP, *([FROZEN, NO_LATERAL] if lattices else [])]

    def take_first(self, model: CellGraph) -> float:
        """Take the adapters of a new network through the first stage; the seconds that it took."""
        if not self.first.get("max_steps"):
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
        every = list(itertools.product(self.names, self.trials))
        kept = [self._kept(_place(name, trial), trial) for name, trial in every]
        first = self._kept(FIRST, self.first) if self.first.get("max_steps") else None
        seconds = 0.0 if first is None else first.seconds
        if None in kept:
            model = self.new()
            # New weights are drawn here, in one order, whatever is trained or read.
            perceptron = with_perceptron(model)
            seconds = self.take_first(model)
            perceptron.load_state_dict(alone(model).state_dict(), strict=False)
            made: dict[str, Callable[[], CellGraph | Control]] = {
                ADAPTERS_ALONE: lambda: alone(model),
                LINEAR_MLP: lambda: perceptron,
                FROZEN: lambda: with_frozen_cell(model),
                NO_LATERAL: lambda: without_lateral_messages(model),
            }
            for number, (name, trial) in enumerate(every):
                if kept[number] is None:
                    self.job.say(f"baseline: {_place(name, trial)}")
                    kept[number] = self._train(_place(name, trial), copy.deepcopy(made[name]()), trial)
        found = {}
        for name in self.names:
            of_it = [one for (its_name, _), one in zip(every, kept, strict=True) if its_name == name and one]
            found[name] = max(of_it, key=lambda one: one.score)._replace(trials=len(of_it))
        return seconds, found

    def settings(self, model: CellGraph | Control, trial: Settings) -> TrainSettings:
        """The settings of the whole network, what they say of its cells said of the baseline's own parts."""
        options: dict[str, Any] = {}
        if isinstance(model, Control):
            names = [name for part in (model, self.task.objective) for name, _ in part.named_parameters()]
            # What the network has not.
            own = sorted({part for part, _ in model.named_children()} - SHARED)
            multipliers: dict[str, float] = {}
            for beginning, factor in self.job.settings.lr_multipliers.items():
                fits = any(name.startswith(beginning) for name in names)
                multipliers |= dict.fromkeys([beginning] if fits else own, factor)
            options = {"lr_multipliers": multipliers, "compile": False}
        return dataclasses.replace(self.job.settings, **options | dict(trial))

    def _train(self, place: str, model: CellGraph | Control, trial: Settings) -> Trained:
        stage, settings = self.job.folder.stage(place), self.settings(model, trial)
        options: dict[str, Any] = {"folder": stage, "resume": stage.last.exists(), "go_on": self.job.go_on}
        result = train(model, self.task, settings, progress=False, **options)
        model.save_pretrained(stage.model)
        write_json(stage.training, {**self._described(model, trial), **result.to_dict()})
        shutil.rmtree(stage.checkpoints)
        return Trained(model, result.seconds, self._score(result.to_dict()))

    def _kept(self, place: str, trial: Settings) -> Trained | None:
        """What was trained there before by the same settings."""
        stage = self.job.folder.stage(place)
        if not stage.training.exists():
            return None
        told = json.loads(stage.training.read_text())
        saved = json.loads((stage.model / CONFIG).read_text())
        model = (CellGraph if "cell" in saved else Control).from_pretrained(stage.model)
        if not self._described(model, trial).items() <= told.items():
            return None
        return Trained(model, float(told["seconds"]), self._score(told))

    def _score(self, told: Mapping[str, Any]) -> float:
        score = told.get(f"val/{self.task.monitor}")
        return float("-inf") if score is None else float(score)

    def _described(self, model: CellGraph | Control, trial: Settings) -> dict[str, Any]:
        """What a stage depends on, as it comes back from JSON."""
        settings = dataclasses.asdict(self.settings(model, trial))
        described = {"settings": settings, "objective": repr(self.task.objective), **self.depends}
        return json.loads(json.dumps(described))


def _place(name: str, trial: Settings) -> str:
    """Name of a stage's folder."""
    return ", ".join([name, *(f"{key}={value}" for key, value in trial.items())])
