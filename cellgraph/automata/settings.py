"""The settings of training an automaton."""

from __future__ import annotations

from dataclasses import dataclass

from cellgraph.automata.curriculum import Steps
from cellgraph.numbers import span
from cellgraph.training import RunSettings


@dataclass(frozen=True)
class AutomatonSettings(RunSettings):
    """How to train an automaton: the settings of any run, and these; see :class:`~cellgraph.automata.AutomatonLesson`.

    Attributes:
        num_steps: Steps of a rollout, or the least and the most.
        supervise: At how many states of a rollout the loss is taken.
        overflow: Weight of the overflow penalty.
        bound: What states may reach without it.
        drift: Weight of the drift penalty.
        drift_steps: Further steps that it looks at.
        noise: Standard deviation of the noise on the states at the start.
        remat_every: Steps from one state that is kept for backward to the next; 0 keeps all of each.
    """

    batch_size: int = 8
    weight_decay: float = 0.0
    warmup_steps: int = 0
    decay: str = "linear"
    min_lr: float = 0.02
    ema: float = 0.0
    num_steps: Steps = (32, 32)
    supervise: int = 1
    overflow: float = 0.0
    bound: float = 1.0
    drift: float = 0.0
    drift_steps: int = 8
    noise: float = 0.0
    remat_every: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        # Refuses what is no number of steps.
        object.__setattr__(self, "num_steps", self.steps)
        self.require("be positive", "drift_steps", "bound")
        self.require("not be negative", "overflow", "drift", "noise", "remat_every")
        if not 1 <= self.supervise <= self.steps[0]:
            raise ValueError(
                f"training setting supervise must be 1 to {self.steps[0]}, the least number of steps, "
                f"got {self.supervise}"
            )

    @property
    def steps(self) -> tuple[int, int]:
        """The least and the most steps."""
        return span("num_steps", self.num_steps)
