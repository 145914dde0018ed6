"""Settings: in which values of their configurations runs differ."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cellgraph.studies.runs import StudiedRun

#: What tells repetitions apart, or is no setting.
NOT_SETTINGS = ("seed", "resume")
#: The key of a part's class.
CLASS = "_target_"
#: Last parts of keys that say what something is, rather than how it is: of a part its class, or what it is called.
NAMING = (CLASS, "name", "name_or_path", "path")
#: Of these, the ones with which keys of the same part come and go.
KINDS = (CLASS, "name")
#: Of more keys than these, as where one part at a time is left out, only what differs is told.
ALL_TOLD = 3


def differing(runs: Sequence[StudiedRun]) -> list[dict[str, Any]]:
    """The values that each run has for the keys in which any two differ, the seed aside.

    A choice may change many values at once, as another cell does, and one value may stand in several places, as the
    lattice's shape does in the cell. Of keys that part the runs alike one stands for all: one that every run has, if
    there is such a key, of these one that names something, and of those the one nearest to the root. What a part of
    another class or name does not have goes with that, and what only follows the seed, as a checkpoint of the same seed
    does, with the seed.

    Args:
        runs: The runs.

    Returns:
        For each run its values by key, all with the same keys in the same order.

    Example:
        >>> from cellgraph.folder import RunFolder
        >>> def run(**config): return StudiedRun(RunFolder("."), config)
        >>> differing([run(seed=0, model={"steps": 3}), run(seed=1, model={"steps": 5})])
        [{'model.steps': 3}, {'model.steps': 5}]
    """
    flat = [_leaves(run.config) for run in runs]
    shared = set.intersection(*map(set, flat)) if flat else set()
    seeds = [leaves.get("seed") for leaves in flat]
    by_parting: dict[tuple[int, ...], list[str]] = {}
    for key in {key for leaves in flat for key in leaves if key not in NOT_SETTINGS}:
        values = [leaves.get(key) for leaves in flat]
        parting = tuple(_parting(values))
        if len(set(parting)) == 1 or (key not in shared and _goes_with_a_kind(key, parting, flat)):
            continue
        if not _goes_with_the_seed(key, values, seeds):
            by_parting.setdefault(parting, []).append(key)
    chosen = [
        min(keys, key=lambda key: (key not in shared, _last(key) not in NAMING, *_from_the_root(key)))
        for keys in by_parting.values()
    ]
    return [{key: leaves.get(key) for key in sorted(chosen, key=_from_the_root)} for leaves in flat]


def labels(settings: Sequence[Mapping[str, Any]], *, reference: int) -> list[str]:
    """Settings in a line each, by the last part of each key where that is enough to tell it.

    Args:
        settings: Different values by the same keys.
        reference: Number of one: of more than :data:`ALL_TOLD` keys those alone are told whose values differ from it.

    Example:
        >>> labels([{"cell._target_": "mine.Cell"}, {"cell._target_": "cellgraph.nn.NCACell"}], reference=0)
        ['cell=Cell', 'cell=NCACell']
    """
    keys = list(settings[0])
    short = Counter(map(_named, keys))
    told: list[list[str]] = [[] for _ in settings]
    for key in keys:
        name = _named(key) if short[_named(key)] == 1 else key
        parting = _parting([setting[key] for setting in settings])
        for number, value in enumerate(_values(key, [setting[key] for setting in settings], parting)):
            if len(keys) <= ALL_TOLD or parting[number] != parting[reference]:
                told[number].append(f"{name}={value}")
    return [", ".join(parts) or ("the reference" if keys else "all alike") for parts in told]


def _parting(values: Sequence[Any]) -> list[int]:
    """For each value the place of the first that equals it."""
    told = [json.dumps(value, sort_keys=True, default=str) for value in values]
    return [told.index(each) for each in told]


def _values(key: str, values: Sequence[Any], parting: Sequence[int]) -> list[str]:
    """Values in words that differ where they do: a class without its module, if no other is called so."""
    words = [list(map(str, values)), list(map(repr, values))]
    if key.endswith(CLASS):
        words.insert(0, [str(value).rsplit(".", 1)[-1] for value in values])
    return next((told for told in words if len(set(told)) == len(set(parting))), words[-1])


def _goes_with_a_kind(key: str, parting: tuple[int, ...], flat: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the class or name of a part above tells runs apart at least as far as the key does."""
    parts = key.split(".")
    for length in range(1, len(parts)):
        for kind in (".".join([*parts[:length], last]) for last in KINDS):
            kinds = _parting([leaves.get(kind) for leaves in flat])
            if key != kind and len({*zip(kinds, parting, strict=True)}) == len({*kinds}):
                return True
    return False


def _goes_with_the_seed(key: str, values: Sequence[Any], seeds: Sequence[Any]) -> bool:
    """Whether a key has one value for each seed, and another for another, without being what was studied.

    It is not where runs of one seed differ otherwise, or the values differ in the seed that stands in them alone.
    """
    parting = _parting(seeds)
    if _parting(values) != parting:
        return False
    names = [str(value).split("/") for value in values]
    # The folders that all lie in may have the digits of a seed, and are none of its doing.
    shared = sum(1 for _ in itertools.takewhile(lambda level: len({*level}) == 1, zip(*names, strict=False)))
    alone = {"/".join(rest[shared:]).replace(str(seed), "") for rest, seed in zip(names, seeds, strict=True)}
    return _last(key) == "seed" or len({*parting}) < len(parting) or len(alone) == 1


def _from_the_root(key: str) -> tuple[int, str]:
    return key.count("."), key


def _last(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _named(key: str) -> str:
    """The part that a kind is of, or what a value is."""
    above, _, last = key.rpartition(".")
    return _last(above) if above and last in KINDS else last


def _leaves(node: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The values of a configuration by their path; lists are values, and a mapping without any is nothing."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found
