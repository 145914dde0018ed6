"""The verb ``report``: what a run's network learned, on one page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cellgraph.analysis.report import report_run
from cellgraph.cli.building import experiment, load_config


def main(arguments: Sequence[str]) -> None:
    """Show what a run's network learned, on one page with pictures."""
    parser = argparse.ArgumentParser(prog="cellgraph report", description=main.__doc__)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    parser.add_argument("--out", type=Path, help="folder of the report (RUN/report by default)")
    parser.add_argument("--quick", action="store_true", help="measure less: rougher figures, in a fraction of the time")
    given = parser.parse_args(arguments)
    job = experiment(load_config(given.run), given.run)
    pairs = job.load_pairs()
    page = report_run(
        given.run, pairs.test, job.embed(pairs)["test"], given.out or given.run / "report", quick=given.quick
    )
    print(f"the report is {page}")
