"""How fast is a step, against its matrix products alone and against other ways to write it?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from cellgraph.ops import backend_needs

from .floor import FLOOR, floor_contender
from .lineup import COMPILED_SECONDS, Budget, Lineup
from .peers import PEERS, peer_contender
from .progress import Progress
from .report import Report
from .sentences import answers, auto_answers, check_required, summarise
from .setting import DTYPES, DTYPES_FASTEST_FIRST, FASTEST_DTYPE, MODES, Setting, add_shape
from .workload import auto_way, backend_names, compiles, library_contender

#: The peer whose program is compiled as a whole.
JITTED = "cax"

DEFAULTS: dict[str, Any] = {
    "shape": Setting.shape,
    "batch": [2, 1, 8, 32],
    "peer_batch": None,
    "peer_dtypes": None,
    "neighbourhoods": [6, 26],
    "dtypes": DTYPES_FASTEST_FIRST,
    "checkpoint": [0, 4],
    "cone_steps": [10, 12, 20],
    "backends": backend_names(),
    "peers": list(PEERS),
    "modes": list(MODES),
    "steps": 12,
    "rounds": 7,
    "slot": 0.3,
    "longest": 10.0,
    "budget": 1800.0,
    "require": 0.0,
}
#: Scatter and segment take most of a minute to compile, as JAX does.
QUICK: dict[str, Any] = {
    "batch": [1],
    "peer_dtypes": [FASTEST_DTYPE],
    "neighbourhoods": [6],
    "checkpoint": [0],
    "cone_steps": [10],
    "backends": [name for name in backend_names() if name not in ("scatter", "segment")],
    "peers": ["pyg", "conv3d", "python_loop"],
    "rounds": 3,
    "slot": 0.1,
    "longest": 0.5,
    "budget": 100.0,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this question."""
    add_shape(parser)
    first = "the first one is the base, the others are measured on the first backend"
    parser.add_argument("--backends", nargs="+", choices=backend_names(), help="the library's backends to measure")
    parser.add_argument("--peers", nargs="*", choices=PEERS, help="other ways to write the cell")
    parser.add_argument("--batch", type=int, nargs="+", help=f"samples in a call: {first}")
    parser.add_argument("--peer-batch", type=int, nargs="+", help="the same of the peers; the base by default")
    parser.add_argument("--neighbourhoods", type=int, nargs="+", choices=(6, 18, 26), help=first)
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), help=first)
    parser.add_argument("--peer-dtypes", nargs="+", choices=list(DTYPES), help="the same of the peers; all by default")
    parser.add_argument("--checkpoint", type=int, nargs="+", help=f"steps between two kept states, 0 for none: {first}")
    parser.add_argument("--cone-steps", type=int, nargs="*", help="steps of light cones, each beside the full rollout")
    parser.add_argument("--modes", nargs="+", choices=MODES, help="what to measure")
    parser.add_argument("--steps", type=int, help="steps of a rollout")
    parser.add_argument("--rounds", type=int, help="rounds in which all are measured in turn")
    parser.add_argument("--slot", type=float, help="seconds for each in a round; one call is always made")
    parser.add_argument("--longest", type=float, help="seconds that a call may take: it is of fewer steps otherwise")
    parser.add_argument("--budget", type=float, help="seconds that all of it may take: what comes last is left out")
    parser.add_argument(
        "--require",
        type=float,
        metavar="RATIO",
        help="fail unless the first backend has this share of the speed of each of the others, in every mode",
    )


def run(options: argparse.Namespace, report: Report, device: torch.device) -> None:
    """Measure the library's backends, the peers and the floor in one run.

    Raises:
        ValueError: If the first backend is slower than was required.
    """
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
        lineup = Lineup(
            report,
            device,
            progress,
            slot=options.slot,
            longest=options.longest,
            rounds=options.rounds,
            budget=Budget(options.budget),
        )
        assemble(lineup, base, options)
        try:
            lineup.play()
        finally:
            summarise(report, lineup.contenders)
            report.answers += answers(report.rows, base)
        # It may try ways anew: not where somebody wants to have it stopped.
        report.answers += auto_answers(report.rows, base, auto_ways(base, options.modes, lineup))
    if options.require:
        check_required(report.rows, base, modes=options.modes, backends=options.backends, ratio=options.require)


def auto_ways(base: Setting, modes: Sequence[str], lineup: Lineup) -> dict[str, tuple[str, str]]:
    """The backend and the dtype that ``auto`` takes in each mode."""
    ways = {}
    for mode in modes:
        lineup.progress.say(f"asking auto: {mode}")
        setting = replace(base, mode=mode, dtype=FASTEST_DTYPE)
        way = auto_way(setting, lineup.device, compiling=lineup.budget.left > COMPILED_SECONDS)
        ways[mode] = str(way) if way.compiled != compiles(way.backend.name) else way.backend.name, FASTEST_DTYPE
    return ways


def assemble(lineup: Lineup, base: Setting, options: argparse.Namespace) -> None:
    """Make all ready that there is time for: first what takes little of it, the floors early, what compiles last."""
    usable: list[str] = []
    lacking = {name: lack for name, lack in backend_needs().items() if lack is not None and name in options.backends}
    for name, lack in lacking.items():
        lineup.report.skip(name, lack)

    def library(*, compiled: bool) -> None:
        for name in options.backends:
            if compiles(name) != compiled or name in lacking:
                continue
            # Training first where both are compiled: forward takes less time, if any is left for it.
            settings = [replace(base, backend=name, mode=mode) for mode in sorted(options.modes, reverse=compiled)]
            made = [lineup.add(setting, library_contender, compiled=compiled) for setting in settings]
            usable.extend([name] if any(made) else [])

    def on_first(*, compiled: bool) -> None:
        """The variations on the first backend, in their turn."""
        first = next((name for name in options.backends if name in usable), None)
        if first is None or compiles(first) != compiled:
            return
        start = replace(base, backend=first)
        for setting in cone_settings(start, options):
            lineup.add(setting, library_contender, compiled=compiled and not setting.cone, probe=False)
        for setting in variations(start, options):
            lineup.add(setting, library_contender, compiled=compiled)

    library(compiled=False)
    for setting in floor_settings(base, options, lineup.device):
        lineup.add(setting, floor_contender, probe=not setting.cone)
    peers = list(peer_settings(base, options))
    for setting in peers:
        if setting.backend != JITTED:
            lineup.add(setting, peer_contender)
    on_first(compiled=False)
    library(compiled=True)
    on_first(compiled=True)
    for setting in peers:
        if setting.backend == JITTED:
            lineup.add(setting, peer_contender, compiled=True)


def cone_settings(base: Setting, options: argparse.Namespace) -> Iterator[Setting]:
    """Light cones of the base, each beside the full rollout of as many steps where the base is not that."""
    for steps in options.cone_steps:
        for mode in options.modes:
            full = replace(base, mode=mode, num_steps=steps, checkpoint=0)
            yield from [] if full == replace(base, mode=mode) else [full]
            yield replace(full, cone=True)


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
        for dtype in options.peer_dtypes or options.dtypes:
            for mode in options.modes:
                for batch in options.peer_batch or [base.batch]:
                    yield replace(base, backend=name, dtype=dtype, mode=mode, batch=batch, checkpoint=0)


def floor_settings(base: Setting, options: argparse.Namespace, device: torch.device) -> Iterator[Setting]:
    """The products of the full rollout at several batches, in every mode and dtype, of which the floor takes the best;
    and those of the light cones."""
    sizes = (1, 2, 4, 8) if device.type == "cpu" else (32, 128, 512)
    for dtype in options.dtypes:
        for mode in options.modes:
            for batch in sizes:
                yield replace(base, backend=FLOOR, dtype=dtype, mode=mode, batch=batch, checkpoint=0)
    for setting in cone_settings(base, options):
        if setting.cone:
            yield replace(setting, backend=FLOOR)
