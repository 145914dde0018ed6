"""How much memory does training take, what takes it, and how does it grow?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from cellgraph.ops import AUTO

from .measure import PeakMemory, in_fresh_process, release, resident
from .progress import Progress
from .report import Report
from .setting import DTYPES, DTYPES_FASTEST_FIRST, Setting, add_shape
from .workload import FORWARD, TorchJob, backend_names, fastest_backend, library_job

DEFAULTS: dict[str, Any] = {
    "shape": Setting.shape,
    "batch": [8, 1, 32],
    "steps": [12, 48],
    "checkpoint": [0, 4],
    "dtypes": DTYPES_FASTEST_FIRST,
    "backend": None,
}
QUICK: dict[str, Any] = {"batch": [4], "steps": [12], "dtypes": DTYPES_FASTEST_FIRST[:1]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this question."""
    add_shape(parser)
    parser.add_argument("--batch", type=int, nargs="+", help="batch sizes; the first is the base")
    parser.add_argument("--steps", type=int, nargs="+", help="steps of a rollout; the first is the base")
    parser.add_argument("--checkpoint", type=int, nargs="+", help="steps between two kept states, 0 for none")
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), help="precisions; the first is the base")
    parser.add_argument("--backend", choices=backend_names(), help="the fastest that runs by default")


def run(options: argparse.Namespace, report: Report, device: torch.device) -> None:
    """Measure training steps, each in a process of its own, with every checkpoint policy."""
    base = Setting(AUTO, options.shape, batch=options.batch[0], dtype=options.dtypes[0])
    settings = list(_settings(options, options.backend or fastest_backend(base, device)))
    with Progress("memory") as progress:
        for setting in progress.over(settings, total=len(settings)):
            progress.say(str(setting))
            try:
                figures = in_fresh_process(measure, setting, str(device), torch.get_num_threads())
            except (ValueError, RuntimeError, MemoryError) as error:
                report.skip(setting, error)
            else:
                report.add(setting, peak_bytes=figures.pop("peak_bytes"), more=figures)
    if report.rows:
        report.answers.append(answer(report.rows))


def measure(setting: Setting, device_name: str, threads: int) -> dict[str, Any]:
    """The memory of one training step and its parts, in bytes; meant to be called in a fresh process.

    ``peak_bytes`` is what a step takes above what lies there between steps; ``process_bytes`` the whole process at its
    peak and ``interpreter_bytes`` what it was with the libraries loaded and nothing built; on a GPU, in their place,
    ``allocated_bytes``, what PyTorch had given out of its memory at the peak. Parameters, gradients and the optimiser's
    state are counted; activations, what the forward pass leaves for the backward pass, and workspace, what comes on top
    at the peak, are summed from the allocations in a :mod:`torch.profiler` trace of the same step.
    """
    device = torch.device(device_name)
    torch.set_num_threads(threads)
    interpreter = resident()
    job = library_job(setting, device)
    job(setting.num_steps)  # compiles, and makes the optimiser's state
    with PeakMemory(device) as peak:
        job(setting.num_steps)
    activations, highest = profiled(job, setting.num_steps, device)
    state = [value for values in job.optimizer.state.values() for value in values.values()]
    return {
        "peak_bytes": peak.bytes,
        **whole(peak, interpreter),
        "parameters_bytes": sum(p.nbytes for p in job.parameters),
        "gradients_bytes": sum(p.grad.nbytes for p in job.parameters if p.grad is not None),
        "optimiser_bytes": sum(value.nbytes for value in state if torch.is_tensor(value)),
        "activations_bytes": activations,
        "workspace_bytes": highest - activations,
    }


def whole(peak: PeakMemory, interpreter: int) -> dict[str, int | None]:
    """What there is in all at a peak: of the process, or of a GPU's memory, which holds nothing of the libraries."""
    at_peak = None if peak.bytes is None else peak.before + peak.bytes
    if peak.device.type == "cuda":
        return {"allocated_bytes": at_peak}
    return {"process_bytes": at_peak, "interpreter_bytes": interpreter}


def profiled(job: TorchJob, steps: int, device: torch.device) -> tuple[int, int]:
    """Bytes in use at the end of the forward pass and at the highest, of what one call allocates."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    job.optimizer.zero_grad()
    job.x.grad = None
    release()
    with profile(activities=activities, profile_memory=True, acc_events=True) as trace:
        job(steps)
    events = trace.profiler.kineto_results.events()
    end = max(event.end_ns() for event in events if event.name() == FORWARD)
    kind = DeviceType.CUDA if device.type == "cuda" else DeviceType.CPU
    allocations = [event for event in events if event.name() == "[memory]" and event.device_type() == kind]
    left = used = highest = 0
    for event in sorted(allocations, key=lambda event: event.start_ns()):
        used += event.nbytes()
        highest = max(highest, used)
        left = used if event.start_ns() <= end else left
    return left, highest


def answer(rows: Sequence[dict[str, Any]]) -> str:
    """How much memory is needed, in a sentence: the growth without checkpoints, and the extremes that were measured."""
    plain = [row for row in rows if not row["checkpoint"]]
    parts = []
    if plain:
        largest = max(plain, key=lambda row: row["batch"] * row["num_steps"])
        each = largest["activations_bytes"] / (largest["batch"] * largest["num_steps"]) / 2**20
        parts.append(f"without checkpoints a sample takes {each:.2g} MiB a step ({largest['dtype']})")
    for row in (min(rows, key=_total), max(rows, key=_total)):
        kept = f"a checkpoint every {row['checkpoint']}" if row["checkpoint"] else "no checkpoint"
        if "allocated_bytes" in row:
            taken = f"{_total(row) / 2**30:.2f} GiB of the GPU's memory, without what CUDA itself takes"
        else:
            libraries = row["interpreter_bytes"] / 2**30
            taken = f"{_total(row) / 2**30:.2f} GiB in all, of which {libraries:.2f} the libraries"
        parts.append(f"batch {row['batch']}, {row['num_steps']} steps, {row['dtype']}, {kept}: {taken}")
    return "How much memory do I need? " + "; ".join(dict.fromkeys(parts)) + "."


def _total(row: dict[str, Any]) -> float:
    if "allocated_bytes" in row:
        return float(row["allocated_bytes"])
    return float(row["process_bytes"] or row["interpreter_bytes"] + row["activations_bytes"] + row["workspace_bytes"])


def _settings(options: argparse.Namespace, backend: str) -> Iterator[Setting]:
    """The base with steps, batch and precision changed one at a time, each with every checkpoint policy."""
    steps, batches, dtypes = options.steps, options.batch, options.dtypes
    chosen = [(steps[0], batches[0], dtypes[0])]
    chosen += [(number, batches[0], dtypes[0]) for number in steps[1:]]
    chosen += [(steps[0], batch, dtypes[0]) for batch in batches[1:]]
    chosen += [(steps[0], batches[0], dtype) for dtype in dtypes[1:]]
    for (number, batch, dtype), every in product(chosen, options.checkpoint):
        yield Setting(backend, options.shape, num_steps=number, batch=batch, dtype=dtype, checkpoint=every)
