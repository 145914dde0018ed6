"""Devices by Lightning's names, against machines that have them and do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cellgraph.folder import RunFolder
from cellgraph.training.accelerator import ACCELERATORS, check_accelerator, device_type
from cellgraph.training.settings import RunSettings
from cellgraph.training.trainer import build_trainer


def machine(monkeypatch: pytest.MonkeyPatch, *devices: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in devices)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in devices)


@pytest.mark.parametrize(
    ("devices", "known"),
    [
        ((), {"auto": "cpu", "cpu": "cpu"}),
        (("cuda",), {"auto": "cuda", "cpu": "cpu", "gpu": "cuda", "cuda": "cuda"}),
        (("mps",), {"auto": "mps", "cpu": "cpu", "gpu": "mps", "mps": "mps"}),
    ],
)
def test_only_devices_of_the_machine_are_taken(
    monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], known: dict[str, str]
) -> None:
    machine(monkeypatch, *devices)
    for accelerator in ACCELERATORS:
        if accelerator in known:
            check_accelerator(accelerator)
            assert device_type(accelerator) == known[accelerator]
        else:
            has = " and ".join(["cpu", *devices])
            with pytest.raises(ValueError, match=f"this machine, which has {has}; got '{accelerator}'"):
                check_accelerator(accelerator)


def test_a_trainer_needs_its_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch)
    for accelerator, said in (("gpu", "which has cpu; got 'gpu'"), ("tpu", "one of .*, got 'tpu'"), ("x", "got 'x'")):
        with pytest.raises(ValueError, match=f"accelerator must be .*{said}"):
            build_trainer(RunFolder(tmp_path / "run"), RunSettings(max_steps=1, accelerator=accelerator))
    assert not (tmp_path / "run").exists()
