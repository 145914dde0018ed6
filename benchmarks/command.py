"""``cellgraph bench``: the questions, their options, and what is printed and written."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch

from cellgraph.files import write_atomically
from cellgraph.interruption import Interrupted, interruptible

from . import batch, latency, memory, scale, step
from .machine import describe_machine
from .report import Report
from .workload import chosen_device

QUESTIONS: dict[str, ModuleType] = {
    "step": step,
    "batch": batch,
    "memory": memory,
    "latency": latency,
    "scale": scale,
}

_MAY_BE_ZERO = ("checkpoint", "slot", "seconds", "longest", "budget", "require")


def main(arguments: Sequence[str]) -> None:
    """Measure speed, memory and latency on this machine.

    Raises:
        ValueError: If an option is out of range, or the JSON cannot be written where it should.
        OSError: If the JSON cannot be written.
    """
    options = parse(arguments)
    question = QUESTIONS[options.question]
    if options.json is not None and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        raise ValueError(f"--json must name a file in a folder that exists, got {options.json}")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = chosen_device(options.device)
    settings = {name: _plain(value) for name, value in vars(options).items() if name != "json"}
    report = Report(describe_machine(device), settings)
    try:
        with interruptible():
            question.run(options, report, device)
    except Interrupted as stop:
        what = "these are the figures up to there" if report.rows else "nothing had been measured"
        report.answers.append(f"interrupted by {stop.name}: {what}")
        # It has been told here, and there is nothing to go on with.
        stop.told = True
        raise
    finally:
        if report.rows or report.skipped or report.answers:
            print(report.to_markdown())
        # A file of earlier figures is not overwritten by none.
        if options.json is not None and (report.rows or report.skipped):
            write_atomically(options.json, report.to_json().encode())


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; those not given take the question's defaults, or its quick ones.

    Raises:
        ValueError: If a number is out of range.
    """
    parser = argparse.ArgumentParser(prog="cellgraph bench", description="Measure speed, memory and latency here.")
    questions = parser.add_subparsers(dest="question", required=True, metavar="QUESTION")
    for name, module in QUESTIONS.items():
        sentence = (module.__doc__ or "").splitlines()[0]
        own = questions.add_parser(name, help=sentence, description=sentence)
        own.add_argument("--quick", action="store_true", help="at most two minutes on two cores, and coarser")
        own.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
        own.add_argument("--threads", type=int, help="threads of PyTorch and of the peers")
        own.add_argument("--device", choices=("auto", "cpu", "cuda"))
        module.add_arguments(own)
    options = parser.parse_args(list(arguments))
    module = QUESTIONS[options.question]
    if module is latency:
        latency.check(options)
    defaults = {"device": "auto"} | module.DEFAULTS | (module.QUICK if options.quick else {})
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if "shape" in options:
        options.shape = tuple(options.shape)
    for name, value in vars(options).items():
        values = value if isinstance(value, (list, tuple)) else [value]
        numbers = [number for number in values if isinstance(number, (int, float)) and not isinstance(number, bool)]
        least = 0 if name in _MAY_BE_ZERO else 1
        if numbers and min(numbers) < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {min(numbers)}")
    return options


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
