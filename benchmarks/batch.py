"""Which batch size is best: speed, memory, and what is learned from an equal number of samples?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from cellgraph.lattice import Lattice
from cellgraph.model import CellGraph
from cellgraph.nn import GMLPCell
from cellgraph.ops import AUTO

from .floor import FLOOR, floor_contender
from .lineup import Budget, Lineup
from .measure import SAFE_SHARE, Contender, free_memory
from .progress import Progress
from .report import Report
from .sentences import speed
from .setting import DTYPES, FASTEST_DTYPE, Setting, add_shape
from .step import floor_settings
from .workload import backend_names, compile_cell, compiles, fastest_backend, library_contender

SIZES = [2**power for power in range(13)]

DEFAULTS: dict[str, Any] = {
    "shape": Setting.shape,
    "batch": SIZES,
    "backend": None,
    "dtypes": [FASTEST_DTYPE],
    "checkpoint": [0],
    "steps": 12,
    "rounds": 3,
    "seconds": 20.0,
    "samples": 4096,
}
QUICK: dict[str, Any] = {"batch": [1, 2, 4, 8, 64], "seconds": 4.0, "samples": 512}

#: A size may learn this much less, in cosine, and still be called best for its speed.
_ALIKE = 0.02

#: The task: a fixed random network of tanh units, from unit vectors to unit vectors of this width.
_WIDTH, _TASK_SHAPE, _TASK_STEPS, _HELD_OUT = 64, (4, 8, 8), 4, 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this question."""
    add_shape(parser)
    parser.add_argument("--batch", type=int, nargs="+", help="batch sizes, ascending")
    parser.add_argument("--backend", choices=backend_names(), help="the fastest that runs by default")
    parser.add_argument("--dtypes", nargs=1, choices=list(DTYPES), help="precision")
    parser.add_argument("--checkpoint", type=int, nargs=1, help="steps between two kept states, 0 for none")
    parser.add_argument("--steps", type=int, help="steps of a rollout")
    parser.add_argument("--rounds", type=int, help="rounds in which all sizes are measured in turn")
    parser.add_argument("--seconds", type=float, help="longest call: larger batches are left out")
    parser.add_argument("--samples", type=int, help="samples of the training that compares what is learned")


def run(options: argparse.Namespace, report: Report, device: torch.device) -> None:
    """Measure a training step at each batch size, then train a small network at each for equally many samples."""
    base = Setting(
        options.backend or AUTO,
        options.shape,
        num_steps=options.steps,
        dtype=options.dtypes[0],
        checkpoint=options.checkpoint[0],
    )
    if base.backend == AUTO:
        base = replace(base, backend=fastest_backend(base, device))
    options.modes, options.cone_steps = ["train"], []
    with Progress("batch") as progress:
        limits = {"slot": 0.5, "longest": options.seconds, "rounds": options.rounds, "budget": Budget(float("inf"))}
        lineup = Lineup(report, device, progress, **limits)
        try:
            _sizes(lineup, base, options)
            for setting in floor_settings(base, options, device):
                lineup.add(setting, floor_contender)
            lineup.play()
        finally:
            measured = [contender for contender in lineup.contenders if contender.seconds]
            contenders = [contender for contender in measured if contender.setting.backend != FLOOR]
            floor = max((speed(each) for each in measured if each.setting.backend == FLOOR), default=None)
            for contender in contenders:
                report.add_contender(contender, floor=floor)
        for row, learned in zip(report.rows, _learn(contenders, options, device, progress), strict=True):
            row |= learned
    if report.rows:
        report.answers.append(answer(report.rows, options.samples))


def answer(rows: Sequence[dict[str, Any]], samples: int) -> str:
    """Name the best batch size: the fastest of those that learn as much as any, or nearly so."""
    fastest = max(rows, key=lambda row: row["samples_per_s"])
    most = max(row["quality"] for row in rows)
    good = [row for row in rows if row["quality"] >= most - _ALIKE]
    best = max(good, key=lambda row: row["samples_per_s"])
    learner = max(rows, key=lambda row: row["quality"])
    return (
        f"best batch: {best['batch']} ({best['samples_per_s']:.3g} samples/s, held-out cosine {best['quality']:.3f} "
        f"after {samples} samples); fastest: {fastest['batch']} ({fastest['samples_per_s']:.3g} samples/s), "
        f"learns most from a sample: {learner['batch']} (cosine {learner['quality']:.3f})"
    )


def _sizes(lineup: Lineup, base: Setting, options: argparse.Namespace) -> None:
    """Add contenders of rising batch to the line-up, as far as memory and patience go."""
    last: Contender | None = None
    for batch in sorted(options.batch):
        setting = replace(base, batch=batch)
        reason = "" if last is None else _too_much(last, batch, options.seconds, lineup.device)
        if reason:
            lineup.report.skip(f"batch {batch} and larger", reason)
            return
        last = lineup.add(setting, library_contender, compiled=compiles(base.backend))
        if last is None:
            return
        last.play()


def _too_much(last: Contender, batch: int, longest: float, device: torch.device) -> str:
    """Why a batch should not be tried, judged by the last one: memory and time grow no faster than the batch."""
    growth = batch / last.setting.batch
    free = free_memory(device)
    if last.peak_bytes is not None and growth * last.peak_bytes > SAFE_SHARE * free:
        return f"would take {growth * last.peak_bytes / 2**30:.1f} GiB of the {free / 2**30:.1f} GiB free"
    seconds = growth * last.seconds[-1]
    return (
        f"a call would take {seconds:.0f} s, more than the {longest:g} s allowed (--seconds)"
        if seconds > longest
        else ""
    )


def _learn(
    contenders: Sequence[Contender], options: argparse.Namespace, device: torch.device, progress: Progress
) -> Iterator[dict[str, Any]]:
    """What a small network has learned after equally many samples, for each of the batch sizes."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(_WIDTH, _WIDTH, generator=generator) for _ in range(2))
    question = F.normalize(torch.randn(options.samples + _HELD_OUT, _WIDTH, generator=generator), dim=1)
    answers = F.normalize(torch.tanh(question @ first) @ second * _WIDTH**-0.5, dim=1)
    question, answers = question.to(device), answers.to(device)
    for contender in contenders:
        batch = min(contender.setting.batch, options.samples)
        progress.say(f"learning from {options.samples} samples in batches of {batch}")
        # Adam's rate grows with the square root of the batch (Malladi et al. 2022, https://arxiv.org/abs/2205.10287).
        lr = 1e-3 * (batch / 32) ** 0.5
        quality = _train(question, answers, batch, lr, contender.setting.backend, options.samples)
        yield {"quality": quality, "updates": options.samples // batch, "lr": lr}


def _train(question: torch.Tensor, answers: torch.Tensor, batch: int, lr: float, backend: str, samples: int) -> float:
    """Held-out cosine of a small network, trained once through the samples in order."""
    torch.manual_seed(0)
    cell = GMLPCell(Lattice(_TASK_SHAPE), 16, hidden=32, backend=backend)
    model = CellGraph(cell, in_features=_WIDTH, surface_channels=1, adapter="linear", num_steps=_TASK_STEPS).to(
        question.device
    )
    compile_cell(cell, question.device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, fused=True)
    for start in range(0, samples - batch + 1, batch):
        rows = slice(start, start + batch)
        optimizer.zero_grad()
        loss = 1 - F.cosine_similarity(model(question[rows]).embedding, answers[rows]).mean()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        predicted = model.eval()(question[samples:]).embedding
    return float(F.cosine_similarity(predicted, answers[samples:]).mean())
