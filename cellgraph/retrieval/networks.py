"""Networks: whatever kind of network a folder holds, as its configuration tells."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from cellgraph.model import CellGraph
from cellgraph.pretrained import CONFIG
from cellgraph.reading import read_json
from cellgraph.retrieval.controls import Control
from cellgraph.sequence import SequenceGraph

#: What turns questions into answers.
Network: TypeAlias = CellGraph | SequenceGraph | Control


def load_network(folder: Path) -> Network:
    """The network that a folder holds; nothing in it is executed.

    Raises:
        ValueError: If there is none, or it is damaged.
    """
    try:
        keys = read_json(folder / CONFIG).keys()
    except (OSError, ValueError):
        keys = ()
    if "blocks" in keys:
        return SequenceGraph.from_pretrained(folder)
    if "kind" in keys:
        return Control.from_pretrained(folder)
    # It says what is wrong with a folder, too.
    return CellGraph.from_pretrained(folder)
