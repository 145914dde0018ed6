"""What a stranger might send: folders of networks and of runs with something in them, and what must come of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.data import save_pairs, starter_pairs
from cellgraph.teacher import LSATeacher


class Planted:
    """What makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


def refused(act: Callable[[], Any], kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as caught:
        act()
    assert type(caught.value) in (kind, FileNotFoundError), caught.value
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def model_folder(path: Path, /, **changed: Any) -> Path:
    """A tiny network's folder, some of its description changed."""
    model = CellGraph(
        GMLPCell(Lattice((3, 2, 2)), 4, hidden=4, heads=2), in_features=4, surface_channels=1, num_steps=3
    )
    model.save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    for key, value in changed.items():
        *outer, name = key.split("__")
        node = config
        for part in outer:
            node = node[part]
        node[name] = value
    (path / "config.json").write_text(json.dumps(config))
    return path


def run_folder(path: Path, /, **changed: Any) -> Path:
    """A run folder as somebody else would send it: a description, pairs, a teacher and a network."""
    model_folder(path / "model")
    pairs = starter_pairs()[:24]
    for part in ("train", "validation", "test"):
        save_pairs(path / "pairs" / f"{part}.jsonl", pairs)
    teacher = LSATeacher(width=4, min_texts=1)
    teacher.fit([text for pair in pairs for text in (pair.question, pair.answer)])
    teacher.save_pretrained(path / "teacher")
    config: dict[str, Any] = {
        "seed": 0,
        "model": {"_target_": "cellgraph.CellGraph", "_partial_": True, "num_steps": 3, "surface_channels": 1},
        "teacher": {"_target_": "cellgraph.teacher.LSATeacher", "width": 4},
        "objective": {"_target_": "cellgraph.retrieval.standard_objective"},
        "training": {"_target_": "cellgraph.retrieval.TrainSettings"},
        "data": {"source": {"_target_": "cellgraph.data.starter_pairs", "_partial_": True}, "test": 8, "validation": 8},
        "start": "identity",
        "adapters_first": {},
    }
    config["data"]["seed"] = 0
    cell = {"_target_": "cellgraph.GMLPCell", "channels": 4, "hidden": 4, "heads": 2}
    config["model"]["cell"] = {**cell, "lattice": {"_target_": "cellgraph.Lattice", "shape": [3, 2, 2]}}
    (path / "config.yaml").write_text(yaml.safe_dump({**config, **changed}))
    return path
