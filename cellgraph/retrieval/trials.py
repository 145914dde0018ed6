"""Trials: the settings of which a trained baseline is the best."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellgraph.retrieval.memory_bank import MemoryBank
from cellgraph.retrieval.objectives import Objective
from cellgraph.retrieval.perceptron import ResidualPerceptron
from cellgraph.retrieval.settings import TrainSettings

#: What may be tried beside the settings of training, by the part that it is of.
PARTS: Mapping[str, Sequence[str]] = {"mlp": ("hidden", "layers", "dropout"), "objective": ("temperature",)}

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class TrialSettings:
    """What differs from the network's settings.

    Attributes:
        training: Settings of training.
        objective: The temperature that the objective starts at, where it is another.
        mlp: Of the :class:`~cellgraph.retrieval.perceptron.ResidualPerceptron`.
    """

    training: Settings = field(default_factory=dict)
    objective: Settings = field(default_factory=dict)
    mlp: Settings = field(default_factory=dict)

    def __str__(self) -> str:
        parts = {"": self.training, "objective.": self.objective, "mlp.": self.mlp}
        return ", ".join(f"{part}{key}={value}" for part, given in parts.items() for key, value in given.items())

    def of(self, objective: Objective) -> Objective:
        """The objective of the trial."""
        return objective.with_temperature(self.objective["temperature"]) if self.objective else objective


@dataclass(frozen=True)
class Trials:
    """All combinations of values, those of a perceptron for the one baseline that may have any.

    Args:
        given: Lists of values by the name of a setting of training; under ``mlp`` by ``hidden``, ``layers`` and
            ``dropout``; under ``objective`` by ``temperature``.

    Raises:
        ValueError: If there is no such setting, or a value is none that it takes.

    Example:
        >>> trials = Trials({"lr": [1e-3, 3e-3], "mlp": {"hidden": [64, 256]}})
        >>> [str(trial) for trial in trials.common]
        ['lr=0.001', 'lr=0.003']
        >>> len(trials.of_perceptron)
        4
    """

    given: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part, name, values in list(_lists(self.given)):
            for value in values:
                _check(part, name, value)

    @property
    def common(self) -> list[TrialSettings]:
        """Those of every baseline."""
        return self._combined("", "objective")

    @property
    def of_perceptron(self) -> list[TrialSettings]:
        """Those of the baseline whose perceptron is of any size; none where no size is to be tried."""
        return self._combined("", "objective", "mlp") if self.given.get("mlp") else []

    def check(self, objective: Objective) -> None:
        """Refuse a temperature for an objective that has none."""
        if self.given.get("objective") and not any(isinstance(part, MemoryBank) for part in objective.modules()):
            raise ValueError(f"control_trials.objective.temperature: the objective has none: {objective.extra_repr()}")

    def _combined(self, *parts: str) -> list[TrialSettings]:
        named = [(part, name, values) for part, name, values in _lists(self.given) if part in parts]
        found = []
        for chosen in itertools.product(*(values for *_, values in named)):
            trial: dict[str, dict[str, Any]] = {"": {}, "objective": {}, "mlp": {}}
            for (part, name, _), value in zip(named, chosen, strict=True):
                trial[part][name] = value
            found.append(TrialSettings(*trial.values()))
        return found


def check_settings(settings: Any, what: str, *, optional: bool = False) -> dict[str, Any]:
    """Settings in which a stage of training differs, known to be such; none of them is a stage that there is not.

    Args:
        settings: By name.
        what: What they are called.
        optional: Whether there may be no updates at all, with ``max_steps`` 0 or ``None``.

    Raises:
        ValueError: If one is none, or has a value that is none of its own.
    """
    if not isinstance(settings, Mapping):
        raise ValueError(f"{what} must be settings by name, got {settings!r}")
    unknown = sorted(settings.keys() - {field.name for field in dataclasses.fields(TrainSettings)})
    if unknown:
        raise ValueError(f"{what} must be settings of training, got {', '.join(map(repr, unknown))}")
    try:
        skipped = optional and not settings.get("max_steps")
        TrainSettings(**{**settings, **({"max_steps": 1} if skipped else {})})
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    return dict(settings)


def _lists(given: Any) -> Iterator[tuple[str, str, list[Any]]]:
    """Part, name and values of all that is to be tried; settings of training are of no part."""
    wanted = f"control_trials must be lists of values by the name of a setting, got {given!r}"
    if not isinstance(given, Mapping):
        raise ValueError(wanted)
    for key, values in given.items():
        in_part = key in PARTS and isinstance(values, Mapping)
        for name, tried in values.items() if in_part else [(key, values)]:
            if not isinstance(tried, list | tuple) or not tried:
                raise ValueError(wanted)
            yield key if in_part else "", name, list(tried)


def _check(part: str, name: str, value: Any) -> None:
    of_training = {field.name for field in dataclasses.fields(TrainSettings)}
    if name not in (PARTS[part] if part else of_training):
        others = ", or ".join(f"under {key} {', '.join(names)}" for key, names in PARTS.items())
        place = f"{part}.{name}" if part else name
        raise ValueError(f"control_trials must be settings of training, or {others}; got {place!r}")
    try:
        if part == "mlp":
            ResidualPerceptron.check(**{name: value})
        elif part == "objective":
            MemoryBank(temperature=value)
        else:
            check_settings({name: value}, "control_trials")
    except ValueError as error:
        raise ValueError(f"control_trials.{part}: {error}" if part else str(error)) from None
