"""Settings: in which values of their configurations runs differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cellgraph.studies.runs import StudiedRun

#: What tells repetitions apart, or is no setting.
NOT_SETTINGS = ("seed", "resume")
#: The key of a part's class.
CLASS = "_target_"
#: Of more keys than these, as where one part at a time is left out, only what differs is told.
ALL_TOLD = 3


def differing(runs: Sequence[StudiedRun]) -> list[dict[str, Any]]:
    """The values that each run has for the keys in which any two differ, the seed aside.

    A choice may change many values at once, as another cell does, and one value may stand in several places, as the
    lattice's shape does in the cell. Of keys that part the runs alike the one nearest to the root stands for all, and
    what a part of another class does not have goes with its class.

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
    # A seed below that goes with the root's is no setting either.
    by_parting: dict[tuple[int, ...], str] = {}
    repeated = tuple(_parting([leaves.get("seed") for leaves in flat]))
    for key in sorted({key for leaves in flat for key in leaves}, key=lambda key: (key.count("."), key)):
        if key in NOT_SETTINGS:
            continue
        parting = tuple(_parting([leaves.get(key) for leaves in flat]))
        if not all(key in leaves for leaves in flat) and _goes_with_a_class(key, parting, flat):
            continue
        if len(set(parting)) > 1 and not (key.endswith(".seed") and parting == repeated):
            by_parting.setdefault(parting, key)
    return [{key: leaves.get(key) for key in by_parting.values()} for leaves in flat]


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


def _goes_with_a_class(key: str, parting: tuple[int, ...], flat: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the class of a part above tells runs apart at least as far as the key does."""
    parts = key.split(".")
    for length in range(1, len(parts)):
        classes = _parting([leaves.get(".".join([*parts[:length], CLASS])) for leaves in flat])
        if key != ".".join([*parts[:length], CLASS]) and len({*zip(classes, parting, strict=True)}) == len({*classes}):
            return True
    return False


def _named(key: str) -> str:
    return (key.removesuffix(f".{CLASS}") if key.endswith(CLASS) else key).rsplit(".", 1)[-1]


def _leaves(node: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """The values of a configuration by their path; lists are values, and a mapping without any is nothing."""
    found: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, f"{before}{key}.")
        else:
            found[f"{before}{key}"] = value
    return found
