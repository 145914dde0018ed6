"""A finished run, trained once for all tests that ask it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from asked import ANIMALS, PLACES, SETTINGS
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from once import made_once

from cellgraph import RunFolder
from cellgraph.runs import load_experiment


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run folder and its cache are; its cells have memory."""
    return made_once(tmp_path_factory, "asked", train)


@pytest.fixture(scope="module")
def folder(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder, for the tests of one file: asking keeps what it finds out in it."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("job"), dirs_exist_ok=True) / "run"


@pytest.fixture
def _own_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLGRAPH_CACHE", str(folder.parent / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("cellgraph.ops.fused.backend.load_operators", lambda: False)


def train(place: Path) -> None:
    rows = [
        {"question": f"Where is it that the {a} {t} near the {p}?", "answer": f"the {a} {t} by the {p}", "topic": a + p}
        for a in ANIMALS
        for p in PLACES
        for t in ("eats", "sleeps", "hides")
    ]
    (place / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with initialize_config_module("cellgraph.conf", version_base="1.3"):
        config = compose("train", overrides=[*SETTINGS, f"data.source.path={place / 'pairs.jsonl'}"])
    run = place / "run"
    RunFolder.claim(run, OmegaConf.to_yaml(config, resolve=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLGRAPH_CACHE", str(place / "cache"))
        patch.setattr("cellgraph.ops.fused.backend.load_operators", lambda: False)  # would be built anew in that cache
        load_experiment(run).run()
