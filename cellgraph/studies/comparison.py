"""The comparison: mean and spread of each setting over its seeds, and paired tests."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cellgraph.studies.runs import AUTOMATON, StudiedRun
from cellgraph.studies.settings import differing, labels

#: What is compared, of the systems of a table, unless told otherwise.
OURS, MEASURE = "lattice", "mrr"


@dataclass(frozen=True)
class Outcome:
    """A figure of one system in one setting over seeds, and how it differs from another.

    Attributes:
        setting: Values by key.
        name: The setting in a line.
        system: Name in the tables of the runs.
        seeds: Of the runs, in their order.
        values: The figure in each.
        against: What it is compared with: a setting, or another system of the same runs.
        differences: Of the runs that have a partner with their seed there.
        p: Two-sided, of a paired t test of these; not a number of fewer than two.
        q: The same among all comparisons of the study, by Benjamini and Hochberg (1995).
    """

    setting: Mapping[str, Any]
    name: str
    system: str
    seeds: tuple[Any, ...]
    values: tuple[float, ...]
    against: str = ""
    differences: tuple[float, ...] = ()
    p: float = math.nan
    q: float = math.nan

    @property
    def mean(self) -> float:
        """Of the values."""
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float:
        """The sample standard deviation of the values; not a number of a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    @property
    def lead(self) -> float:
        """The mean difference; not a number where there is none."""
        return statistics.fmean(self.differences) if self.differences else math.nan

    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean difference by Student's t; not numbers of fewer than two."""
        from scipy.stats import t

        count = len(self.differences)
        if count < 2 or _alike(self.differences, self.values):
            return math.nan, math.nan
        half = t.ppf(0.975, count - 1) * statistics.stdev(self.differences) / math.sqrt(count)
        return self.lead - half, self.lead + half


@dataclass(frozen=True)
class Comparison:
    """All that a study found.

    Attributes:
        measure: What was measured.
        system: The system that settings are compared by.
        keys: In which the runs differ.
        settings: One outcome a setting, against the setting of reference.
        systems: One outcome a setting and other system: less the system of comparison, paired by run.
        runs: How many there were.
    """

    measure: str
    system: str
    keys: tuple[str, ...]
    settings: tuple[Outcome, ...]
    systems: tuple[Outcome, ...]
    runs: int


def compare(
    runs: Sequence[StudiedRun], *, measure: str | None = None, system: str | None = None, reference: int = 0
) -> Comparison:
    """Compare the settings of a sweep over its seeds.

    Args:
        runs: The runs.
        measure: A figure of their tables, by default the mean reciprocal rank, or an automaton's first.
        system: A row of their tables, by default the lattice.
        reference: Number of the setting that the others are compared with, in the order of the runs.

    Raises:
        ValueError: If there are no runs, they have no such figure or there is no such setting, or a setting has two
            runs of one seed.
    """
    if not runs:
        raise ValueError("a comparison needs runs, got none")
    system = system or (AUTOMATON if all(AUTOMATON in run.figures for run in runs) else OURS)
    measure = measure or (next(iter(runs[0].figures.get(AUTOMATON, {})), MEASURE) if system == AUTOMATON else MEASURE)
    for run in runs:
        _figure(run, system, measure)
    settings = differing(runs)
    groups: dict[str, list[int]] = {}
    for number, setting in enumerate(settings):
        groups.setdefault(json.dumps(setting, sort_keys=True, default=str), []).append(number)
    members = list(groups.values())
    for numbers in members:
        seeds = [runs[i].seed for i in numbers]
        twice = [seed for seed in seeds if seeds.count(seed) > 1]
        if twice:
            names = " and ".join(str(runs[i].folder) for i in numbers if runs[i].seed == twice[0])
            raise ValueError(f"expected one run a setting and seed, got {names} of seed {twice[0]}")
    if not 0 <= reference < len(members):
        raise ValueError(f"the reference must be the number of one of {len(members)} settings, got {reference}")
    different = [settings[numbers[0]] for numbers in members]
    outcomes = [
        _outcome([runs[i] for i in numbers], setting, name, system, measure)
        for numbers, setting, name in zip(members, different, labels(different, reference=reference), strict=True)
    ]
    ours = [_against(outcome, outcomes[reference]) for outcome in outcomes]
    others = []
    for numbers, outcome in zip(members, outcomes, strict=True):
        chosen = [runs[i] for i in numbers]
        for name in chosen[0].figures:
            if name != system and all(measure in run.figures.get(name, {}) for run in chosen):
                other = _outcome(chosen, outcome.setting, outcome.name, name, measure)
                gap = tuple(b - a for a, b in zip(outcome.values, other.values, strict=True))
                others.append(replace(other, against=system, differences=gap, p=_p(gap, other.values)))
    corrected = _corrected([*ours, *others])
    return Comparison(
        measure=measure,
        system=system,
        keys=tuple(settings[0]),
        settings=tuple(corrected[: len(ours)]),
        systems=tuple(corrected[len(ours) :]),
        runs=len(runs),
    )


def _figure(run: StudiedRun, system: str, measure: str) -> float:
    if system not in run.figures:
        raise ValueError(f"{run.folder} has no system {system!r}, only {', '.join(map(repr, run.figures))}")
    figures = run.figures[system]
    if measure not in figures:
        raise ValueError(f"{run.folder} has no {measure!r} of {system!r}, only {', '.join(map(repr, figures))}")
    return figures[measure]


def _outcome(runs: Sequence[StudiedRun], setting: Mapping[str, Any], name: str, system: str, measure: str) -> Outcome:
    values = tuple(_figure(run, system, measure) for run in runs)
    return Outcome(setting, name, system, tuple(run.seed for run in runs), values)


def _against(outcome: Outcome, reference: Outcome) -> Outcome:
    if outcome is reference:
        return outcome
    partner = dict(zip(reference.seeds, reference.values, strict=True))
    gap = tuple(
        value - partner[seed] for seed, value in zip(outcome.seeds, outcome.values, strict=True) if seed in partner
    )
    return replace(outcome, against=reference.name, differences=gap, p=_p(gap, outcome.values))


def _alike(differences: Sequence[float], values: Sequence[float]) -> bool:
    # What rounding leaves is in proportion to what was subtracted.
    return max(differences) - min(differences) <= 1e-12 * max(map(abs, (*differences, *values)))


def _p(differences: Sequence[float], values: Sequence[float]) -> float:
    from scipy.stats import ttest_1samp

    if len(differences) < 2:
        return math.nan
    if _alike(differences, values):
        # Without spread, but for rounding, there is nothing to test by.
        return math.nan
    return float(ttest_1samp(differences, 0.0).pvalue)


def _corrected(outcomes: Sequence[Outcome]) -> list[Outcome]:
    from scipy.stats import false_discovery_control

    tested = [i for i, outcome in enumerate(outcomes) if not math.isnan(outcome.p)]
    found = list(outcomes)
    if tested:
        for i, q in zip(tested, false_discovery_control([outcomes[i].p for i in tested]), strict=True):
            found[i] = replace(outcomes[i], q=float(q))
    return found
