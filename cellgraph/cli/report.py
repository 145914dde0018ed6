"""The verb ``report``: what a run's network learned, on one page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cellgraph.analysis.report import report_run
from cellgraph.runs import load_experiment


def main(arguments: Sequence[str]) -> None:
    """Show what a run's network learned, on one page with pictures."""
    parser = argparse.ArgumentParser(prog="cellgraph report", description=main.__doc__)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    parser.add_argument("--out", type=Path, help="folder of the report (RUN/report by default)")
    parser.add_argument("--quick", action="store_true", help="measure less: rougher figures, in a fraction of the time")
    given = parser.parse_args(arguments)
    experiment = load_experiment(given.run)
    task, folder = experiment.question_answering(), experiment.folder
    pairs = task.read(folder)
    page = report_run(folder, pairs.test, task.embed(pairs.test, folder), given.out or folder.report, quick=given.quick)
    print(f"the report is {page}")
