"""Runs of a linear map, and of a lattice as small: settings, and the columns of their log."""

from __future__ import annotations

import csv

import torch
from on_pairs import plain_settings

from cellgraph import CellGraph, CellGraphOutput, GMLPCell, Lattice

WIDTH = 6


class Line(torch.nn.Module):
    """The least that can be trained: a linear map called like a network."""

    def __init__(self, poison_at: int | None = None) -> None:
        super().__init__()
        self.map = torch.nn.Linear(WIDTH, WIDTH)
        self.calls, self.poison_at = 0, poison_at

    def target_surface(self, answer):
        return answer

    def forward(self, question, memory=None, *, num_steps=None, generator=None, trajectory=False):
        embedding = self.map(question)
        if self.training:
            self.calls += 1
            if self.calls == self.poison_at:
                embedding = embedding * torch.nan
        return CellGraphOutput(embedding=embedding, surface=embedding)


def lattice_model(**options):
    cell = GMLPCell(Lattice((2, 3, 3)), 8, hidden=8, heads=2, **options)
    return CellGraph(cell, in_features=WIDTH, surface_channels=1, path="none", num_steps=(2, 4))


def quick(**options):
    base = {"max_steps": 12, "batch_size": 8, "warmup_steps": 2, "val_every": 4, "accelerator": "cpu", "ema": 0.0}
    # Tolerances are float32's, whatever the processor multiplies.
    return plain_settings(**{**base, "precision": "32-true", **options})


def columns(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))
