"""The task: what a model is trained for, as the training loop and an experiment see it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor, nn

from cellgraph.folder import RunFolder
from cellgraph.texts import printable
from cellgraph.training.settings import RunSettings


class Samples(Protocol):
    """A batch of samples, of whatever kind."""

    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors by name."""


@dataclass(frozen=True)
class Learned:
    """What a lesson makes of a batch.

    Attributes:
        loss: The loss to be walked backward.
        terms: What it is made of, by name, without gradient.
        batch: The samples.
        rows: How many there are.
        num_steps: Steps of the rollouts, in the mean.
    """

    loss: Tensor
    terms: Mapping[str, Tensor]
    batch: Samples
    rows: int
    num_steps: float


class Lesson(ABC):
    """One training for a task: the batches, what is learned from each, and what lives from one to the next.

    Attributes:
        objective: What is trained beside the model and not part of it, such as a temperature.
        validates: Whether there is something to validate on.
        shardable: Whether the model's weights may be shared out among processes: not where a lesson copies them.
    """

    objective: nn.Module | None = None
    validates: bool = True
    shardable: bool = True

    @abstractmethod
    def batches(self) -> Any:
        """As many batches as all updates accumulate, with a ``state_dict`` that tells the place among them."""

    @abstractmethod
    def learn(self, model: nn.Module, batch: Any, *, done: float, generator: torch.Generator) -> Learned:
        """The loss of a batch.

        Args:
            model: The model, in training mode.
            batch: One of :meth:`batches`, on the model's device.
            done: Share of the updates that are done.
            generator: Source of everything random, on the model's device.
        """

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Figures while training goes on.

        Args:
            model: The model, in evaluation mode.
        """
        return {}

    def constrain(self) -> None:  # noqa: B027 - most have nothing to do
        """Bring the objective's parameters back into their range, after each update."""

    def readings(self) -> dict[str, float]:
        """What the training log is to have beside the means."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What lives between updates, for the checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most have nothing to do
        """Take it back."""

    def upgrade(self, weights: dict[str, Tensor], names: Sequence[str]) -> None:  # noqa: B027 - most have nothing to do
        """Rename, in place, the weights of a checkpoint that an earlier version wrote.

        Args:
            weights: The checkpoint's.
            names: What they are called now.
        """


@dataclass(frozen=True)
class Job:
    """What a task is told of the experiment that it is part of.

    Attributes:
        folder: The run folder.
        settings: How the model is trained.
        console: Where progress is told.
        go_on: The command that goes on after an interruption.
    """

    folder: RunFolder
    settings: Any
    console: Console
    go_on: str = ""

    def say(self, line: str) -> None:
        """Tell a line."""
        self.console.print(Text(printable(line)), soft_wrap=True)


class Task(ABC):
    """What a model is trained for: for the loop its :meth:`lesson`, for an experiment the way from data to figures.

    Attributes:
        monitor: Name of the validation figure that chooses the weights to keep, the greater the better; ``None`` keeps
            those at the end. Figures on held-out data must not choose.
        shown: Names of the values that progress shows.
        Settings: Kind of its settings.
    """

    monitor: str | None = None
    shown: Sequence[str] = ("train/loss",)
    Settings: type[RunSettings] = RunSettings

    @abstractmethod
    def lesson(self, settings: Any) -> Lesson:
        """A new training by these settings."""

    def finish(self, model: nn.Module, settings: Any) -> None:  # noqa: B027 - most have nothing to do
        """Do what is to be done with the trained weights before the model is used.

        Args:
            model: The model, on the CPU and in evaluation mode.
            settings: How it was trained.
        """

    def check(self, make: Any, settings: Any) -> None:  # noqa: B027 - most have nothing to do
        """Refuse what does not fit before anything takes long.

        Args:
            make: The model, or what :meth:`build` makes it from.
            settings: How it is to be trained.

        Raises:
            ValueError: If something does not fit.
        """

    def prepare(self, job: Job) -> None:  # noqa: B027 - most have nothing to do
        """Get the data ready: from the run folder what is there, and into it what is not."""

    def build(self, make: Any, job: Job) -> nn.Module:
        """The model to be trained, from what an experiment has of it: here that itself."""
        return make

    @abstractmethod
    def save(self, model: nn.Module, folder: RunFolder) -> None:
        """Write a trained model into a run folder."""

    @abstractmethod
    def load(self, make: Any, folder: RunFolder) -> nn.Module:
        """The trained model of a run folder.

        Raises:
            ValueError: If there is none.
        """

    @abstractmethod
    def judge(self, model: nn.Module, job: Job, training: Mapping[str, Any]) -> Any:
        """Judge a trained model on held-out data: write, show and return the figures.

        Args:
            model: The model.
            job: The experiment.
            training: What training came to, as plain types.
        """
