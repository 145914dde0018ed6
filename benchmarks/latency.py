"""How long from the text of a question to the text of its answer?"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph.data import docstring_pairs, read_pairs
from cellgraph.lattice import Lattice
from cellgraph.model import CellGraph
from cellgraph.nn import GMLPCell
from cellgraph.ops import AUTO
from cellgraph.teacher import EmbeddingCache, LSATeacher, Teacher, default_cache_folder, load_teacher, minilm_teacher

from .progress import Progress
from .report import Report
from .setting import DTYPES, FASTEST_DTYPE, Setting
from .workload import compile_cell, fastest_backend

DEFAULTS: dict[str, Any] = {"questions": 300, "teacher": "minilm", "dtypes": [FASTEST_DTYPE]}
QUICK: dict[str, Any] = {"questions": 60, "teacher": "lsa"}

#: What a question passes through, in order; then what is reported of it.
PARTS = ("teacher", "lattice", "nearest answer")
WHOLE: dict[str, tuple[str, ...]] = {"question to answer": PARTS, "without the teacher": PARTS[1:]}
PERCENTILES = (50, 95, 99)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this question."""
    parser.add_argument("run", type=Path, nargs="?", help="run folder of `cellgraph train`; a new network by default")
    parser.add_argument("--questions", type=int, help="questions to ask, one at a time")
    parser.add_argument("--teacher", choices=("minilm", "lsa"), help="teacher of the new network")
    parser.add_argument("--dtypes", nargs=1, choices=list(DTYPES), help="precision of the lattice")


@dataclass
class Answerer:
    """A network, its teacher, and the answers that it can give.

    Attributes:
        teacher: Turns text into an embedding.
        model: Turns the question's embedding into the answer's.
        answers: Texts of the answers.
        bank: Their embeddings, of unit length, ``[num_answers, width]``.
        dtype: Precision of the lattice.
    """

    teacher: Teacher
    model: CellGraph
    answers: Sequence[str]
    bank: Tensor
    dtype: torch.dtype

    def answer(self, question: str) -> tuple[str, list[float]]:
        """The nearest answer, and the seconds that each of :data:`PARTS` took."""
        start = time.perf_counter()
        embedding = self.teacher.encode([question]).to(self.bank.device)
        encoded = time.perf_counter()
        lower = self.dtype is not torch.float32
        with torch.no_grad(), torch.autocast(self.bank.device.type, self.dtype if lower else None, enabled=lower):
            predicted = self.model(embedding).embedding.float()
        if self.bank.is_cuda:
            torch.cuda.synchronize(self.bank.device)
        mapped = time.perf_counter()
        nearest = int((F.normalize(predicted, dim=1) @ self.bank.T).argmax())
        found = time.perf_counter()
        return self.answers[nearest], [encoded - start, mapped - encoded, found - mapped]


def run(options: argparse.Namespace, report: Report, device: torch.device) -> None:
    """Ask questions one at a time and report the percentiles of their times."""
    dtype = options.dtypes[0]
    with Progress("latency") as progress:
        progress.say("embedding the answers")
        backend = fastest_backend(Setting(AUTO, options.shape, batch=1, dtype=dtype, mode="forward"), device)
        load = _from_run if options.run is not None else _new
        answerer, questions = load(options, backend, DTYPES[dtype], device)
        progress.say("compiling")
        compile_cell(answerer.model.cell, device)
        for question in questions[:5]:
            answerer.answer(question)
        asked = [questions[i % len(questions)] for i in range(options.questions)]
        times = []
        for question in progress.over(asked, total=len(asked)):
            times.append(answerer.answer(question)[1])
            progress.say("asking")
    cell = answerer.model.cell
    setting = Setting(
        cell.backend,
        tuple(cell.lattice.shape),
        cell.lattice.neighbourhood,
        cell.channels,
        cell.hidden,
        answerer.model.num_steps[1],
        batch=1,
        dtype=dtype,
        mode="forward",
    )
    summarise(report, setting, np.array(times), len(answerer.answers), type(answerer.teacher).__name__)


def summarise(report: Report, setting: Setting, times: np.ndarray, answers: int, teacher: str) -> None:
    """Fill the report from the seconds of the questions' parts, ``[num_questions, len(PARTS)]``."""
    for name, parts in (WHOLE | {part: (part,) for part in PARTS}).items():
        seconds = times[:, [PARTS.index(part) for part in parts]].sum(1)
        found = np.percentile(seconds, PERCENTILES)
        columns = {f"p{p}_ms": float(value) * 1e3 for p, value in zip(PERCENTILES, found, strict=True)}
        report.add(setting, seconds=seconds.tolist(), more={"part": name, **columns, "teacher": teacher})
    first = report.rows[0]
    report.answers.append(
        f"question to answer: p50 {first['p50_ms']:.1f} ms, p95 {first['p95_ms']:.1f} ms, p99 {first['p99_ms']:.1f} ms "
        f"({teacher}, {len(times)} questions, {answers:,} answers to choose from)"
    )


def _new(
    options: argparse.Namespace, backend: str, dtype: torch.dtype, device: torch.device
) -> tuple[Answerer, list[str]]:
    """The default network, untrained, over the default pairs: an answer takes as long as from a trained one."""
    pairs = docstring_pairs()
    teacher: Teacher = minilm_teacher(device=str(device)) if options.teacher == "minilm" else LSATeacher(width=225)
    if options.teacher == "lsa":
        teacher.fit([text for pair in pairs for text in (pair.question, pair.answer)])
    cell = GMLPCell(Lattice(options.shape), backend=backend)
    steps = Lattice(options.shape).shape[0] - 1
    model = CellGraph(cell, in_features=teacher.width, surface_channels=8, num_steps=steps)
    texts, questions = [pair.answer for pair in pairs], [pair.question for pair in pairs]
    return _answerer(teacher, model, texts, dtype, device), questions


def _from_run(
    options: argparse.Namespace, backend: str, dtype: torch.dtype, device: torch.device
) -> tuple[Answerer, list[str]]:
    """The network, the teacher and the pairs of a run; its held-out questions are asked."""
    folder = options.run
    if not (folder / "model").is_dir():
        raise ValueError(f"{folder} is no finished run folder of cellgraph train: model/ is missing")
    model = CellGraph.from_pretrained(folder / "model")
    if model.cell.backend == "auto":
        model.cell.backend = backend
    pairs = {part: read_pairs(folder / "pairs" / f"{part}.jsonl") for part in ("train", "validation", "test")}
    texts = [pair.answer for part in pairs.values() for pair in part]
    questions = [pair.question for pair in pairs["test"]]
    return _answerer(load_teacher(folder / "teacher"), model, texts, dtype, device), questions


def _answerer(
    teacher: Teacher, model: CellGraph, texts: Sequence[str], dtype: torch.dtype, device: torch.device
) -> Answerer:
    distinct = list(dict.fromkeys(texts))
    bank = EmbeddingCache(default_cache_folder()).embed(teacher, distinct, progress=True)
    return Answerer(teacher, model.to(device).eval(), distinct, F.normalize(bank, dim=1).to(device), dtype)
