"""Older runs: what their configurations called things, and what those are called now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Parts that have moved.
MOVED = {
    "cellgraph.training.TrainSettings": "cellgraph.retrieval.TrainSettings",
    "cellgraph.training.Objective": "cellgraph.retrieval.standard_objective",
}


def upgraded(node: Any) -> Any:
    """A configuration that an earlier version wrote, in the words of this one."""
    if isinstance(node, Mapping):
        return {key: MOVED.get(value, value) if key == "_target_" else upgraded(value) for key, value in node.items()}
    return [upgraded(value) for value in node] if isinstance(node, list) else node
