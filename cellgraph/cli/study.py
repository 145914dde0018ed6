"""The verb ``study``: the runs of a sweep in one table and figure."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cellgraph.studies import PowerLaw, compare, read_runs, write_study
from cellgraph.studies.pages import print_study


def main(arguments: Sequence[str]) -> None:
    """Compare the runs of a sweep: mean, spread over seeds and paired tests, as study.md, .csv, .json and .png."""
    parser = argparse.ArgumentParser(prog="cellgraph study", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="folder of a sweep, such as multirun/2026-01-31/12-00-00")
    parser.add_argument("--measure", help="a figure of the runs' tables (mrr, or an automaton's first, by default)")
    parser.add_argument("--system", help="the row of the runs' tables that settings are compared by (lattice)")
    parser.add_argument("--reference", type=int, default=0, help="number of the setting to compare with (0, the first)")
    parser.add_argument("--law", metavar="KEY", help="fit 1 - measure as a power of this key, such as data.train")
    parser.add_argument("--out", type=Path, help="folder of the study (FOLDER/study by default)")
    given = parser.parse_args(arguments)
    runs, unfinished = read_runs(given.folder)
    found = compare(runs, measure=given.measure, system=given.system, reference=given.reference)
    law = None
    if given.law:
        if found.keys != (given.law,):
            differ = ", ".join(found.keys) or "the seed alone"
            raise ValueError(
                f"--law needs runs that differ in that key alone; they differ in {differ}, got {given.law}"
            )
        points = [(one.setting[given.law], 1 - value) for one in found.settings for value in one.values]
        wrong = next((size for size, _ in points if isinstance(size, bool) or not isinstance(size, int | float)), None)
        if wrong is not None:
            raise ValueError(f"--law must be a key of numbers, got {given.law}={wrong}")
        outside = next((error for _, error in points if not 0 <= error <= 1), None)
        if outside is not None:
            raise ValueError(f"--law is of a measure between 0 and 1, got {1 - outside:g} of {found.measure}")
        law = PowerLaw.fit(*zip(*points, strict=True))
    out = given.out or given.folder / "study"
    # First, so that it is not lost where it cannot be written.
    print_study(found)
    page = write_study(found, out, law=law, law_key=given.law or "", unfinished=unfinished)
    for path in unfinished:
        print(f"left out, as it is not finished: {path}")
    print(f"the study is {page}")
