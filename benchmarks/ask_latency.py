"""How long one question takes from text to answers: python benchmarks/ask_latency.py RUN (threads: OMP_NUM_THREADS)."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from cellgraph.answering import FinishedRun, Session

#: Left out: the first questions wait for files and memory.
WARM_UP = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    run = FinishedRun.load(parser.parse_args().run)
    bank = run.bank()
    session = Session(run.model, run.teacher, bank, run.confidence(bank))
    seconds = [session.ask(pair.question).seconds for pair in run.pairs.validation][WARM_UP:]
    print(f"{len(seconds)} questions, {len(bank):,} answers, {torch.get_num_threads()} threads")
    for part in ("teacher", "lattice", "total"):
        p50, p95, most = np.quantile([1e3 * row[part] for row in seconds], [0.5, 0.95, 1.0])
        print(f"{part:<8} median {p50:6.1f} ms   p95 {p95:6.1f} ms   longest {most:6.1f} ms")


if __name__ == "__main__":
    main()
