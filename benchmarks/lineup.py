"""The line-up: contenders made ready one by one while time is left, then measured in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from .measure import Contender
from .progress import Progress
from .report import Report
from .setting import Setting

Build = Callable[[Setting, torch.device], Contender]

#: A contender is first tried on a lattice this small, so that one that is slow beyond measure is not started at all.
_PROBE_SHAPE = (4, 8, 8)
#: What making one ready takes until one has been: most of a minute for a compiled step on two cores, little for others.
COMPILED_SECONDS, _READY_SECONDS = 60.0, 2.0


class Budget:
    """The time that a benchmark may take.

    Args:
        seconds: From now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._end - time.perf_counter()


class Lineup:
    """Contenders of one run.

    Args:
        report: Where is noted what is left out, and why.
        device: Where they run.
        progress: Where is shown what is being done.
        slot: Seconds for each in a round.
        longest: Seconds that a call may take: of a rollout that would take longer so many steps are measured as fit.
        rounds: Rounds in which all are measured.
        budget: Time for all of it.
    """

    def __init__(
        self,
        report: Report,
        device: torch.device,
        progress: Progress,
        *,
        slot: float,
        longest: float,
        rounds: int,
        budget: Budget,
    ) -> None:
        self.report, self.device, self.progress = report, device, progress
        self.slot, self.longest, self.rounds, self.budget = slot, longest, rounds, budget
        self.contenders: list[Contender] = []
        self._compiled_seconds = COMPILED_SECONDS

    def add(self, setting: Setting, build: Build, *, compiled: bool = False, probe: bool = True) -> Contender | None:
        """Make one ready to be measured; what cannot be is noted in the report with the reason.

        Args:
            setting: What it is measured at.
            build: Makes it.
            compiled: Whether its first call compiles it.
            probe: Whether to try it on a small lattice first; what is compiled never is, it would be compiled twice.
        """
        self.progress.say(f"warming up {setting}")
        expected = self._compiled_seconds if compiled else _READY_SECONDS
        left = self.budget.left - self._promised() - self.rounds * self.slot
        if expected > left:
            what = "compile in about" if compiled else "be measured in"
            self.report.skip(setting, f"no time was left to {what} {expected:.0f} s (--budget {self.budget.seconds:g})")
            return None
        try:
            contender = build(setting, self.device)
            if probe and not compiled:
                self._probe(contender, build)
            contender.warm_up(self.device, slot=self.slot, longest=self.longest)
        except (ValueError, RuntimeError, ImportError) as error:
            self.report.skip(setting, error)
            return None
        if compiled and contender.first_seconds is not None:
            self._compiled_seconds = contender.first_seconds
        self.contenders.append(contender)
        return contender

    def play(self) -> None:
        """Measure all in turn, again and again, so that the machine's noise falls on all alike.

        Once the budget is spent no further round begins that would not be the first.
        """
        turns = self._turns()
        for contender in self.progress.over(turns, total=self.rounds * len(self.contenders)):
            self.progress.say(str(contender.setting))
            contender.play()

    def _turns(self) -> Iterator[Contender]:
        for number in range(self.rounds):
            if number and self.budget.left < self._promised(rounds=1):
                return
            yield from self.contenders

    def _promised(self, *, rounds: int | None = None) -> float:
        """Seconds that the rounds will take."""
        return (self.rounds if rounds is None else rounds) * sum(each.round_seconds for each in self.contenders)

    def _probe(self, contender: Contender, build: Build) -> None:
        """Refuse what would take too long for a single step, judged by a step of a small lattice.

        Raises:
            ValueError: If it would.
        """
        setting = contender.setting
        small = replace(setting, shape=_PROBE_SHAPE, batch=1, num_steps=1)
        if small.num_cells >= setting.num_cells * contender.share:
            return
        probe = build(small, self.device)
        cells = setting.batch * setting.num_cells * contender.share / (small.num_cells * probe.share)
        for _ in range(2):  # whatever else the machine does can make one call slow, and rarely two
            probe.warm_up(self.device, slot=0.0, longest=self.longest)
            if (seconds := cells * probe.call_seconds) <= self.longest:
                return
        allowed = f"more than the {self.longest:g} s that a call may take (--longest)"
        raise ValueError(f"a single step would take {seconds:.1f} s, {allowed}")
