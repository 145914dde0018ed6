"""How long from the text of a question to the text of its answer?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from cellgraph.answering import AnswerBank, Confidence, FinishedRun, Session
from cellgraph.data import docstring_pairs
from cellgraph.model import CellGraph
from cellgraph.teacher import EmbeddingCache, LSATeacher, Teacher, minilm_teacher

from .progress import Progress
from .report import Report
from .setting import Setting, add_shape

#: ``cellgraph ask`` answers on the processor, and so does this unless it is told.
DEFAULTS: dict[str, Any] = {"device": "cpu", "shape": Setting.shape, "questions": 300, "teacher": "minilm"}
QUICK: dict[str, Any] = {"questions": 60, "teacher": "lsa"}

#: What a question passes through, in order; then what is reported of it.
PARTS = ("teacher", "lattice", "nearest answer")
WHOLE: dict[str, tuple[str, ...]] = {"question to answer": PARTS, "without the teacher": PARTS[1:]}
PERCENTILES = (50, 95, 99)
#: Questions before those that count: in the first ones ways to take a step are tried.
WARM_UP = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this question."""
    add_shape(parser)
    parser.add_argument("run", type=Path, nargs="?", help="run folder of `cellgraph train`; a new network by default")
    parser.add_argument("--questions", type=int, help="questions to ask, one at a time")
    parser.add_argument("--teacher", choices=("minilm", "lsa"), help="teacher of the new network")


def check(given: argparse.Namespace) -> None:
    """Look at the options as they were given, before defaults stand in for others.

    Raises:
        ValueError: If one of them is about a new network, and a run was named.
    """
    extra = [f"--{name}" for name in ("teacher", "shape") if getattr(given, name) is not None]
    if given.run is not None and extra:
        raise ValueError(
            f"a run has a teacher and a lattice of its own: expected no {' or '.join(extra)} beside {given.run}"
        )


def run(options: argparse.Namespace, report: Report, device: torch.device) -> None:
    """Ask questions one at a time, as ``cellgraph ask`` does, and report the percentiles of their times."""
    times: list[list[float]] = []
    with Progress("latency") as progress:
        progress.say("embedding the answers")
        session, questions = (
            _of_run(options.run) if options.run is not None else _new(options.shape, options.teacher, device)
        )
        session.model.to(device)
        progress.say("warming up")
        for place in range(WARM_UP):
            ask(session, questions[place % len(questions)])
        asked = [questions[place % len(questions)] for place in range(options.questions)]
        try:
            for question in progress.over(asked, total=len(asked)):
                times.append(ask(session, question))
                progress.say("asking")
        finally:
            if times:
                summarise(report, session, np.array(times))


def ask(session: Session, question: str) -> list[float]:
    """Ask a question, the first of its dialogue; the seconds that each of :data:`PARTS` took."""
    [answer], _ = session.answer([question], [None])
    known = [answer.seconds[part] for part in PARTS[:2]]
    return [*known, answer.seconds["total"] - sum(known)]


def summarise(report: Report, session: Session, times: np.ndarray) -> None:
    """Fill the report from the seconds of the questions' parts, ``[num_questions, len(PARTS)]``."""
    teacher, (setting, own) = type(session.teacher).__name__, described(session.model)
    for name, parts in (WHOLE | {part: (part,) for part in PARTS}).items():
        seconds = times[:, [PARTS.index(part) for part in parts]].sum(1)
        found = np.percentile(seconds, PERCENTILES)
        columns = {f"p{p}_ms": float(value) * 1e3 for p, value in zip(PERCENTILES, found, strict=True)}
        report.add(setting, seconds=seconds.tolist(), more={**own, "part": name, **columns, "teacher": teacher})
    first = report.rows[0]
    report.answers.append(
        f"question to answer: p50 {first['p50_ms']:.1f} ms, p95 {first['p95_ms']:.1f} ms, p99 {first['p99_ms']:.1f} ms "
        f"({teacher}, {len(times)} questions, {len(session.bank):,} answers to choose from)"
    )


def described(model: Any) -> tuple[Setting, dict[str, Any]]:
    """The setting of a network that is asked one question at a time, and columns in which a row of it differs.

    A chain of blocks has no lattice of its own, and a cell of another kind than the gated one no hidden width.
    """
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    alike: dict[str, Any] = {"batch": 1, "dtype": dtype, "mode": "forward"}
    if not isinstance(model, CellGraph):
        lacking = ("rollout", "neighbourhood", "num_steps", "num_cells", "channels", "hidden", "cell_steps_per_s")
        return Setting(type(model).__name__, **alike), dict.fromkeys(lacking)
    cell, lattice, steps = model.cell, model.lattice, model.num_steps[1]
    setting = Setting(
        cell.neighbour_sum.chosen.name,
        tuple(lattice.shape),
        lattice.num_directions,
        cell.channels,
        num_steps=steps,
        cone=model.cone(steps) is not None,
        **alike,
    )
    return setting, {"num_cells": lattice.num_nodes, "hidden": getattr(cell, "hidden", None)}


def _new(shape: tuple[int, ...], kind: str, device: torch.device) -> tuple[Session, list[str]]:
    """The default network, untrained, over the default pairs: an answer takes as long as from a trained one."""
    pairs = docstring_pairs()
    teacher: Teacher = minilm_teacher(device=str(device)) if kind == "minilm" else LSATeacher(width=225)
    if isinstance(teacher, LSATeacher):
        teacher.fit([text for pair in pairs for text in (pair.question, pair.answer)])
    texts = [pair.answer for pair in pairs]
    bank = AnswerBank(texts, EmbeddingCache().embed(teacher, texts, progress=True))
    return _session(new_network(shape, teacher.width), teacher, bank), [pair.question for pair in pairs]


def new_network(shape: tuple[int, ...], in_features: int) -> CellGraph:
    """The network that ``cellgraph train`` builds by default, of another shape if need be, ready to be asked."""
    # The least steps that cross it, as by default.
    chosen = [f"lattice.shape={list(shape)}", f"model.num_steps={max(1, shape[0] - 1)}"]
    with initialize_config_module("cellgraph.conf", version_base="1.3"):
        config = compose("train", overrides=chosen)
    network: CellGraph = instantiate(config.model)(in_features=in_features)
    network.compile_step(compiling=False)
    return network


def _of_run(folder: Path) -> tuple[Session, list[str]]:
    """The network, the teacher and the pairs of a run; its held-out questions are asked."""
    found = FinishedRun.load(folder)
    session = _session(found.model, found.teacher, found.bank(), reader=found.reader)
    return session, [pair.question for pair in found.pairs.test]


def _session(model: Any, teacher: Teacher, bank: AnswerBank, **more: Any) -> Session:
    # Any confidence takes as long as one that was learned from questions.
    anyhow = Confidence((1.0, 1.0), 0.0, None, precision=0.8, num_questions=1, answered=0.0, equivalence=1.0)
    return Session(model, teacher, bank, anyhow, **more)
