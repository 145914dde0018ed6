"""A small network with pairs and a log, and its report: what the tests of the report look at."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.analysis.plots import read_metrics
from cellgraph.analysis.report import Effort, Study, study, write_report
from cellgraph.data import QAPair
from cellgraph.retrieval import EmbeddedPairs

TINY = Effort(
    projected=40,
    probed=60,
    min_count=10,
    controls=2,
    ablated=6,
    tangents=64,
    sources=2,
    shuffles=9,
    patterned=1,
    beyond=16,
)

WIDTH = 18
#: What a table would say of the lead over the adapters alone.
LEAD = {"mrr": 0.0625, "mrr_low": 0.03125, "mrr_high": 0.09375, "mrr_p": 0.015625}
WORDS = ("What", "How", "Why")


def network(lattice: Lattice, **options) -> CellGraph:
    ends = {1: ("left", "right"), 2: ("top", "bottom"), 3: ("front", "back")}[lattice.dim]
    model = CellGraph(
        GMLPCell(lattice, channels=4, hidden=8, heads=2),
        in_features=WIDTH,
        input_nodes=ends[0],
        output_nodes=ends[1],
        num_steps=3,
        **{"surface_channels": 1, "path": "none", **options},
    )
    with torch.no_grad():
        for weight in model.cell.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model.eval()


def some_pairs(count: int) -> tuple[list[QAPair], EmbeddedPairs]:
    """Pairs whose embeddings hold their topic and the question's first word."""
    texts = [
        QAPair(f"{WORDS[i % 3]} <b>is</b> thing {i}?", f"An answer & {i}.", topic=f"{'ab'[i % 2]}.{i // 4}")
        for i in range(count)
    ]
    kind = torch.nn.functional.one_hot(torch.arange(count) % 3, WIDTH) + torch.nn.functional.one_hot(
        5 + torch.arange(count) % 2, WIDTH
    )
    question = 2 * kind + 0.5 * torch.randn(count, WIDTH)
    return texts, EmbeddedPairs(question, question + 0.3 * torch.randn(count, WIDTH))


def write_log(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["step", "seconds", "train/loss", "train/grad_norm", "train/lr", "train/temperature", "val/cosine"]
        )
        writer.writerows([[10, 1.5, 2.5, 3.25, 0.001, 0.05, ""], [20, 3.0, 1.25, 4.5, 0.0005, 0.04, 0.625]])


@dataclass
class Made:
    folder: Path
    model: CellGraph
    pairs: list[QAPair]
    embedded: EmbeddedPairs
    study: Study
    training: torch.Tensor

    @property
    def figures(self) -> dict:
        return json.loads((self.folder / "report.json").read_text())

    @property
    def page(self) -> str:
        return (self.folder / "report.html").read_text()


_MADE: list[Made] = []


def make(folder: Path) -> Made:
    """The report, made in the folder of whoever asks first."""
    if not _MADE:
        _MADE.append(_make(folder))
    return _MADE[0]


def _make(folder: Path) -> Made:
    torch.manual_seed(0)
    write_log(folder / "metrics.csv")
    # As wide as the embeddings are: the adapters lose nothing.
    model = network(Lattice((3, 3, 6)))
    pairs, embedded = some_pairs(60)
    training = torch.randn(90, WIDTH)
    result = study(
        model,
        pairs,
        embedded.question,
        embedded.answer,
        read_metrics(folder / "metrics.csv"),
        training=training,
        lead=LEAD,
        effort=TINY,
    )
    write_report(result, folder, title="A <title>")
    return Made(folder, model, pairs, embedded, result, training)
