"""What does a cell cost, and what would a cube of a thousand million take?

``python -m cellgraph.benchmarks.split`` walks cubes of growing size a few steps, forward and in training, whole and in
slabs of several processes, and prints the cost a cell and a step, the memory a cell, and what the exchange of halos
costs with and without something being computed meanwhile. From these figures it computes a plan for a larger cube: the
bytes that a process exchanges in a step, and the time that this takes by bandwidth.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import socket
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist

from cellgraph.nn import GMLPCell
from cellgraph.parallel import DepthSplit, SplitCell

from .entry import enter
from .machine import describe_machine

#: Bandwidths of a link in bytes a second, each way: 10 Gbit/s and 100 Gbit/s Ethernet, 400 Gbit/s InfiniBand.
LINKS = {"10 Gbit/s": 1.25e9, "100 Gbit/s": 12.5e9, "400 Gbit/s": 50e9}
FLOAT = 4


@dataclass(frozen=True)
class Case:
    """What is walked.

    Attributes:
        cells: About how many; the edge of the cube is rounded.
        processes: How many share it.
        channels, hidden: Of the cell.
        overlap: Whether it is computed while the halo travels.
        train: Whether it is walked backward, too.
        steps: How many steps.
        repeats: How often; the least time counts.
        device: Where.
    """

    cells: int
    processes: int
    channels: int
    hidden: int
    overlap: bool = True
    train: bool = False
    steps: int = 2
    repeats: int = 3
    device: str = "cpu"

    @property
    def edge(self) -> int:
        """Cells along each edge of the cube."""
        return round(self.cells ** (1 / 3))


@dataclass(frozen=True)
class Figures:
    """What it took.

    Attributes:
        seconds: Of a step.
        exchange: Seconds of an exchange of halos by itself.
        memory: Peak bytes of all processes together, less what they have before the cube is made.
    """

    seconds: float
    exchange: float
    memory: float


def main() -> None:
    """Measure, print and plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=float, nargs="+", default=[1e4, 1e5, 1e6])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--train-up-to", type=float, default=1e5, help="cells of the largest cube that is trained")
    parser.add_argument("--plan", type=float, default=1e9, help="cells of the cube that is planned")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda with one process")
    given = parser.parse_args()
    print({key: value for key, value in describe_machine(torch.device("cpu")).items() if key != "packages"})
    print(f"channels {given.channels}, hidden {given.hidden}, 6 neighbours, float32, batch 1, {given.device}\n")
    print(
        "| cells | processes | overlap | what | ns a cell and step | bytes a cell | exchange alone, share of a step |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    found: dict[bool, tuple[Case, Figures]] = {}
    for cells in given.cells:
        for processes in given.processes:
            for overlap in (True, False) if processes > 1 else (True,):
                for train in (False, True) if cells <= given.train_up_to else (False,):
                    common = (given.channels, given.hidden, overlap, train, given.steps, given.repeats, given.device)
                    case = Case(int(cells), processes, *common)
                    figures = measured(case)
                    print(_row(case, figures), flush=True)
                    if processes == 1:
                        found[train] = case, figures
    for train, (case, figures) in found.items():
        print("\n" + "\n".join(plan(case, figures, int(given.plan), train=train)))


def measured(case: Case) -> Figures:
    """What a case takes, in new processes, so that memory is its own."""
    context = multiprocessing.get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    queue = context.Queue()
    members = [
        context.Process(target=_walk, args=(case, rank, port, queue), daemon=True) for rank in range(case.processes)
    ]
    for member in members:
        member.start()
    parts: list[tuple[float, float, float]] = []
    while len(parts) < case.processes:
        if any(member.exitcode for member in members):
            raise ValueError(f"a process ended early, as one does that is out of memory, at {asdict(case)}")
        if not queue.empty():
            parts.append(queue.get())
        time.sleep(0.05)
    for member in members:
        member.join()
    return Figures(max(p[0] for p in parts), max(p[1] for p in parts), sum(p[2] for p in parts))


def plan(case: Case, figures: Figures, cells: int, *, train: bool) -> list[str]:
    """What a larger cube would take at the measured cost a cell, as lines of a table.

    A process with neighbours on both sides sends a layer of states to each in a step and takes as much; training sends
    the gradients of these the other way, too.
    """
    edge, walked = round(cells ** (1 / 3)), case.edge**3
    cost, memory = figures.seconds / walked, figures.memory / walked
    exchanged = 2 * edge * edge * case.channels * FLOAT * (2 if train else 1)
    kept = f", states of {case.steps} steps kept" if train else ""
    lines = [
        f"{'Training' if train else 'Forward'}, {edge}^3 = {edge**3:.2e} cells at {1e9 * cost:.0f} ns a cell and step "
        f"and {memory:.0f} bytes a cell{kept} (measured at {walked:.1e} cells, {case.device}); a process sends "
        f"{exchanged / 1e6:.0f} MB a step, whatever their number:",
        "",
        "| processes | layers each | computing a step, s | "
        + " | ".join(f"at {name}, s" for name in LINKS)
        + " | GiB each |",
        "| --- " * (4 + len(LINKS)) + "|",
    ]
    for processes in (1, 8, 64, 250, edge // 3):
        layers = edge / processes
        sent = exchanged if processes > 1 else 0
        links = " | ".join(f"{sent / bandwidth:.3g}" for bandwidth in LINKS.values())
        computed, gib = cost * edge**3 / processes, memory * edge**3 / processes / 2**30
        lines.append(f"| {processes} | {layers:.0f} | {computed:.3g} | {links} | {gib:.3g} |")
    return lines


def _row(case: Case, figures: Figures) -> str:
    walked = case.edge**3
    what = "forward and backward" if case.train else "forward"
    overlap = "-" if case.processes == 1 else "yes" if case.overlap else "no"
    share = "-" if case.processes == 1 else f"{figures.exchange / figures.seconds:.1%}"
    cost, memory = 1e9 * figures.seconds / walked, figures.memory / walked
    return f"| {walked:,} | {case.processes} | {overlap} | {what} | {cost:.0f} | {memory:.0f} | {share} |"


def _walk(case: Case, rank: int, port: int, queue: Any) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    # The processes share the processor.
    torch.set_num_threads(max(1, torch.get_num_threads() // case.processes))
    if case.processes > 1:
        dist.init_process_group("gloo", rank=rank, world_size=case.processes)
    torch.manual_seed(0)
    before = _peak(case.device)
    split = DepthSplit((case.edge,) * 3)
    options: dict[str, Any] = {"hidden": case.hidden, "heads": 4, "gate_std": 0.2, "out_std": 0.5}
    cell = SplitCell(split, lambda lattice: GMLPCell(lattice, case.channels, **options), overlap=case.overlap)
    cell.to(case.device)
    x = torch.randn(1, split.nodes[1] - split.nodes[0], case.channels, device=case.device)

    def step() -> None:
        with torch.set_grad_enabled(case.train):
            after = cell(x, num_steps=case.steps)
            if case.train:
                split.total(after.square().mean()).backward()
                cell.reduce_gradients()

    def exchange() -> None:
        exchange = split.exchange(1)
        with torch.no_grad():
            exchange.end(exchange.begin(x))

    step()
    taken = min(_seconds(step, case.device) for _ in range(case.repeats)) / case.steps
    alone = min(_seconds(exchange, case.device) for _ in range(case.repeats))
    queue.put((taken, alone * (2 if case.train else 1), _peak(case.device) - before))
    if case.processes > 1:
        dist.barrier()
        dist.destroy_process_group()


def _seconds(run: Any, device: str) -> float:
    if dist.is_initialized():
        dist.barrier()
    begin = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def _peak(device: str) -> float:
    if device != "cpu":
        return float(torch.cuda.max_memory_allocated())
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    enter(main)
