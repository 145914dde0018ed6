"""How fast is a step, against its matrix products alone and against other ways to write it?"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch

from .floor import FLOOR, floor_contender
from .measure import Contender, round_robin, spread
from .peers import PEERS, peer_contender
from .progress import Progress
from .report import Report
from .setting import DTYPES, MODES, Setting
from .workload import backend_names, library_contender

DEFAULTS: dict[str, Any] = {
    "batch": [2, 1, 8, 32],
    "peer_batch": None,
    "neighbourhoods": [6, 26],
    "dtypes": ["bfloat16", "float32"],
    "checkpoint": [0, 4],
    "backends": backend_names(),
    "peers": list(PEERS),
    "modes": list(MODES),
    "steps": 12,
    "rounds": 7,
    "slot": 0.3,
}
#: JAX takes most of a minute to compile, scatter and segment as long to run.
QUICK: dict[str, Any] = {
    "batch": [1],
    "neighbourhoods": [6],
    "dtypes": ["bfloat16"],
    "checkpoint": [0],
    "backends": [name for name in backend_names() if name not in ("scatter", "segment", "conv")],
    "peers": ["pyg", "conv3d", "python_loop"],
    "rounds": 3,
    "slot": 0.1,
}

Build = Callable[[Setting, torch.device], Contender]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this question."""
    first = "the first one is the base, the others are measured on the first backend"
    parser.add_argument("--backends", nargs="+", choices=backend_names(), help="the library's backends to measure")
    parser.add_argument("--peers", nargs="*", choices=PEERS, help="other ways to write the cell")
    parser.add_argument("--batch", type=int, nargs="+", help=f"samples in a call: {first}")
    parser.add_argument("--peer-batch", type=int, nargs="+", help="the same of the peers; the base by default")
    parser.add_argument("--neighbourhoods", type=int, nargs="+", choices=(6, 18, 26), help=first)
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), help=f"{first}, and on the peers")
    parser.add_argument("--checkpoint", type=int, nargs="+", help=f"steps between two kept states, 0 for none: {first}")
    parser.add_argument("--modes", nargs="+", choices=MODES, help="what to measure")
    parser.add_argument("--steps", type=int, help="steps of a rollout")
    parser.add_argument("--rounds", type=int, help="rounds in which all are measured in turn")
    parser.add_argument("--slot", type=float, help="seconds for each in a round; a call is never cut short")


def run(options: argparse.Namespace, report: Report, device: torch.device) -> None:
    """Measure the library's backends, the peers and the floor in one run."""
    base = Setting(
        options.backends[0],
        options.shape,
        options.neighbourhoods[0],
        num_steps=options.steps,
        batch=options.batch[0],
        dtype=options.dtypes[0],
        checkpoint=options.checkpoint[0],
    )
    with Progress("step") as progress:
        contenders: list[Contender] = []
        usable: list[str] = []
        for backend in options.backends:
            settings = [replace(base, backend=backend, mode=mode) for mode in options.modes]
            ready = warmed_up(settings, library_contender, options, report, device, progress)
            usable += [backend] if ready else []
            contenders += ready
        if usable:
            varied = list(variations(replace(base, backend=usable[0]), options))
            contenders += warmed_up(varied, library_contender, options, report, device, progress)
        peers = peer_settings(base, options)
        contenders += warmed_up(peers, peer_contender, options, report, device, progress)
        floors = warmed_up(floor_settings(base, options, device), floor_contender, options, report, device, progress)
        everyone = [*contenders, *floors]
        rounds = round_robin(everyone, rounds=options.rounds)
        try:
            for contender in progress.over(rounds, total=options.rounds * len(everyone)):
                progress.say(str(contender.setting))
        finally:
            summarise(report, contenders, floors)


def warmed_up(
    settings: Iterable[Setting],
    build: Build,
    options: argparse.Namespace,
    report: Report,
    device: torch.device,
    progress: Progress,
) -> list[Contender]:
    """Contenders that have run twice; what cannot run is noted in the report with the reason."""
    ready = []
    for setting in settings:
        progress.say(f"warming up {setting}")
        try:
            contender = build(setting, device)
            contender.warm_up(device, slot=options.slot)
        except (ValueError, RuntimeError, ImportError) as error:
            report.skip(setting, error)
            continue
        ready.append(contender)
    return ready


def variations(base: Setting, options: argparse.Namespace) -> Iterator[Setting]:
    """The base with one thing changed at a time."""
    for mode in options.modes:
        start = replace(base, mode=mode)
        yield from (replace(start, dtype=dtype) for dtype in options.dtypes[1:])
        yield from (replace(start, neighbourhood=number) for number in options.neighbourhoods[1:])
        yield from (replace(start, batch=batch) for batch in options.batch[1:])
        if mode == "train":
            yield from (replace(start, checkpoint=every) for every in options.checkpoint[1:])


def peer_settings(base: Setting, options: argparse.Namespace) -> Iterator[Setting]:
    """The peers at the base, in every mode and dtype. They keep every state."""
    for name in options.peers:
        for dtype in options.dtypes:
            for mode in options.modes:
                for batch in options.peer_batch or [base.batch]:
                    yield replace(base, backend=name, dtype=dtype, mode=mode, batch=batch, checkpoint=0)


def floor_settings(base: Setting, options: argparse.Namespace, device: torch.device) -> Iterator[Setting]:
    """The products at several batches, in every mode and dtype: the floor takes the best one."""
    sizes = (1, 2, 4, 8) if device.type == "cpu" else (32, 128, 512)
    for dtype in options.dtypes:
        for mode in options.modes:
            for batch in sizes:
                yield replace(base, backend=FLOOR, dtype=dtype, mode=mode, batch=batch, checkpoint=0)


def summarise(report: Report, contenders: list[Contender], floors: list[Contender]) -> None:
    """Fill the report with the rows and the ratios between them."""
    floor_speeds: dict[tuple[str, str], float] = {}
    for contender in sorted((f for f in floors if f.seconds), key=speed, reverse=True):
        key = contender.setting.mode, contender.setting.dtype
        if key not in floor_speeds:
            floor_speeds[key] = speed(contender)
            report.add_contender(contender, floor=floor_speeds[key])
    measured = [contender for contender in contenders if contender.seconds]
    for contender in measured:
        key = contender.setting.mode, contender.setting.dtype
        report.add_contender(contender, floor=floor_speeds.get(key))
    report.answers += answers(report.rows)


def speed(contender: Contender) -> float:
    """Samples per second, the median of the rounds."""
    return spread([contender.setting.batch / value for value in contender.seconds]).median


def answers(rows: list[dict[str, Any]]) -> list[str]:
    """What the rows say, in ratios: they hold on a busy machine too."""
    sentences = []
    modes = dict.fromkeys((row["mode"], row["dtype"]) for row in rows)
    for mode, dtype in modes:
        here = [row for row in rows if (row["mode"], row["dtype"]) == (mode, dtype)]
        ours = [row for row in here if row["backend"] in backend_names()]
        alike = [row for row in ours if row["neighbourhood"] == ours[0]["neighbourhood"]]
        if not alike:
            continue
        best = max(alike, key=lambda row: row["samples_per_s"])
        parts = [f"{mode}, {dtype}: {best['backend']} at batch {best['batch']}, {best['samples_per_s']:.3g} samples/s"]
        if best["floor_ratio"]:
            parts.append(f"{best['floor_ratio']:.2f} of what the matrix products alone allow")
        for peer in PEERS:
            speeds = [row["samples_per_s"] for row in here if row["backend"] == peer]
            parts += [f"{best['samples_per_s'] / max(speeds):.3g} x {peer}"] if speeds else []
        sentences.append("; ".join(parts))
        sentences += _pairs(ours, "checkpoint", "with a checkpoint every {0} steps", mode, dtype)
        sentences += _pairs(ours, "neighbourhood", "with {0} neighbours", mode, dtype)
    return sentences


def _pairs(rows: list[dict[str, Any]], column: str, words: str, mode: str, dtype: str) -> Iterator[str]:
    """Times of rows that differ in one column from one with the column's smallest value."""
    names = [name for name in ("backend", "neighbourhood", "batch", "checkpoint") if name != column]
    for row in rows:
        alike = [other for other in rows if all(other[name] == row[name] for name in names)]
        least = min(alike, key=lambda other: other[column])
        if least[column] < row[column]:
            ratio = least["samples_per_s"] / row["samples_per_s"]
            yield f"{mode}, {dtype}: {row['backend']} {words.format(row[column])} takes {ratio:.2f} x the time"
