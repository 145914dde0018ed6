"""A finished run that is small enough to be trained in seconds, and asked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from cellgraph.answering import FinishedRun, Session
from cellgraph.cli import main

ANIMALS = ["heron", "otter", "badger", "falcon", "beetle", "salmon", "spider", "weasel", "magpie", "lizard"]

PLACES = ["river", "forest", "meadow", "desert", "harbour", "mountain"]

SETTINGS = (
    "teacher=lsa",
    "teacher.width=12",
    "lattice=small",
    "model.num_steps=3",
    "model.surface_channels=1",
    "cell.channels=8",
    "cell.hidden=16",
    "cell.memory_channels=2",
    "data=file",
    "training.compile=false",
    "training.max_steps=6",
    "training.val_every=3",
    "training.batch_size=16",
    "training.warmup_steps=2",
    "adapters_first.max_steps=5",
    "adapters_first.batch_size=16",
    "data.test=30",
    "data.validation=30",
    "training.accelerator=cpu",
)


def cellgraph(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["cellgraph", *map(str, arguments)])
    main()


def session(folder: Path, **options: object) -> Session:
    run = FinishedRun.load(folder)
    bank = run.bank()
    torch.manual_seed(1)
    # So few updates leave the cells all but silent, and memory without effect.
    torch.nn.init.normal_(run.model.cell.out_weight, std=0.5)
    return Session(run.model, run.teacher, bank, run.confidence(bank), **options)  # type: ignore[arg-type]
