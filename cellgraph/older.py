"""Older versions: what their configurations called things, and what those are called now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Parts that have moved.
MOVED = {
    "cellgraph.training.TrainSettings": "cellgraph.retrieval.TrainSettings",
    "cellgraph.training.Objective": "cellgraph.retrieval.standard_objective",
}
#: Settings that have another name.
RENAMED = {
    "teacher_width": "in_features",
    "update_rate": "fire_rate",
    "rollout_checkpoint_every": "remat_every",
}
#: The same of an objective.
TERMS = {"bounded": "overflow", "active": "variance", "diverse": "covariance"}
#: Words for a setting's value.
WORDS = {
    "order": {"together": "synchronous", "sweep": "sequential"},
    "injection": {"held": "clamped"},
}


def upgraded(node: Any) -> Any:
    """A configuration that an earlier version wrote, of a run or of a network, in the words of this one.

    Example:
        >>> upgraded({"cell": {"update_rate": 0.5, "order": "sweep"}})
        {'cell': {'fire_rate': 0.5, 'order': 'sequential'}}
    """
    if isinstance(node, list):
        return [upgraded(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    # Of a network, which has an adapter, not of its training, where the word still means what it did.
    network = "adapter" in node
    renamed = RENAMED | ({"checkpoint_every": "remat_every"} if network else {})
    if "objective" in str(node.get("_target_", "")).lower():
        renamed |= TERMS
    found = {renamed.get(key, key): _value(key, value) for key, value in node.items()}
    # Before there was a path beside it the lattice carried all of the signal.
    return {**found, "path": found.get("path", "none")} if network else found


def _value(key: str, value: Any) -> Any:
    if key == "_target_":
        return MOVED.get(value, value)
    return WORDS[key].get(value, value) if key in WORDS else upgraded(value)
