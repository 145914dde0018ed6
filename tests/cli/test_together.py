"""Several processes for a run: what the command that starts them hands on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from cellgraph.cli import together

TASK = ["processes=2", "seed=3"]
OWN = ["hydra.searchpath=[pkg://cellgraph.conf]", "hydra.job.chdir=false", "hydra.output_subdir=told"]


@pytest.fixture
def _no_configuration() -> Iterator[None]:
    yield
    HydraConfig.instance().cfg = None


def started(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str, name: str = "train") -> list[str]:
    """The command that a job with these overrides starts."""
    with initialize_config_module("cellgraph.conf", version_base="1.3"):
        config = compose("train", overrides=[*TASK, *overrides], return_hydra_config=True)
    with open_dict(config):
        config.hydra.runtime.output_dir = str(folder)
        config.hydra.job.config_name = name
    HydraConfig.instance().set_config(config)
    commands: list[list[str]] = []

    @contextlib.contextmanager
    def popen(command: list[str], **how: Any) -> Iterator[Any]:
        commands.append(command)
        yield type("Ended", (), {"wait": lambda self: 0})()

    monkeypatch.setattr(together.subprocess, "Popen", popen)
    monkeypatch.setattr(together, "_score", lambda folder: 0.5)
    monkeypatch.setattr(sys, "argv", ["cellgraph train"])
    together.run_together(2)
    (command,) = commands
    return command[command.index("train") + 1 :]


@pytest.mark.usefixtures("_no_configuration")
def test_what_was_asked_of_hydra_is_handed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen = f"hydra.run.dir={tmp_path}/here"
    found = started(monkeypatch, tmp_path / "here", *OWN, chosen)
    assert sorted(found) == sorted(["--config-name=train", "hydra.mode=RUN", *OWN, chosen, *TASK])


@pytest.mark.usefixtures("_no_configuration")
def test_a_run_of_a_sweep_is_one_run_in_its_own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = ["hydra.mode=MULTIRUN", "hydra.run.dir=elsewhere"]
    found = started(monkeypatch, tmp_path / "many" / "0", *OWN, *ours, "hydra.sweep.dir=many")
    place = f"hydra.run.dir={tmp_path / 'many' / '0'}"
    assert sorted(found) == sorted(
        ["--config-name=train", "hydra.mode=RUN", place, "hydra.sweep.dir=many", *OWN, *TASK]
    )


@pytest.mark.usefixtures("_no_configuration")
def test_a_configuration_of_another_name_is_handed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "--config-name=mine" in started(monkeypatch, tmp_path / "here", name="mine")
