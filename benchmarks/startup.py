"""How much processor time does a start take, before anything is computed?

``python -m cellgraph.benchmarks.startup [RUN]``: user and system time of new processes, the least of several, taken in
turn so that a busy machine is busy for all of them. With a run folder of ``cellgraph train`` a question is asked, too.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from cellgraph.texts import markdown_table

from .entry import enter

COMMAND = "import sys; sys.argv = {}; from cellgraph.cli import main; main()"
QUESTION = "What does torch.nn.Linear do?"

#: What is started: program by name, the first three for comparison.
PROGRAMS = {
    "import torch": "import torch",
    "import transformers' BERT": "import transformers.models.bert.modeling_bert",
    "import torch and MessagePassing": "import torch; import torch_geometric.nn.conv.message_passing",
    "import cellgraph": "import cellgraph",
    "from cellgraph import CellGraph, GMLPCell, Lattice": "from cellgraph import CellGraph, GMLPCell, Lattice",
    **{f"cellgraph {word}": COMMAND.format(["cellgraph", word]) for word in ("--help", "--version", "no-such-verb")},
}


def processor_seconds(program: str) -> float:
    """User and system time of a new Python process that runs the program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description="Measure the processor time of a start.")
    parser.add_argument("run", type=Path, nargs="?", help="run folder of `cellgraph train`, to ask a question")
    parser.add_argument("--rounds", type=int, default=5, help="starts of each (5)")
    given = parser.parse_args()
    programs = dict(PROGRAMS)
    if given.run is not None:
        programs["cellgraph ask RUN QUESTION"] = COMMAND.format(["cellgraph", "ask", str(given.run), QUESTION])
    for program in programs.values():
        processor_seconds(program)  # fills the caches of files and of bytecode
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(given.rounds):
        for name, program in programs.items():
            times[name].append(processor_seconds(program))
    rows = [[name, f"{min(taken):.2f}", f"{statistics.median(taken):.2f}"] for name, taken in times.items()]
    print(*markdown_table(["start", "least, s", "median, s"], rows), sep="\n")


if __name__ == "__main__":
    enter(main)
