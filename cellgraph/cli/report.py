"""The verb ``report``: what a run's model learned, on one page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cellgraph.analysis.report import Effort, report_automaton, report_run
from cellgraph.analysis.report.subject import evenly
from cellgraph.automata import Automaton, AutomatonSettings
from cellgraph.retrieval import QuestionAnswering
from cellgraph.runs import load_experiment
from cellgraph.sequence import SequenceGraph


def main(arguments: Sequence[str]) -> None:
    """Show what a run's model learned, on one page with pictures."""
    parser = argparse.ArgumentParser(prog="cellgraph report", description=main.__doc__)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    parser.add_argument("--out", type=Path, help="folder of the report (RUN/report by default)")
    parser.add_argument("--quick", action="store_true", help="measure less: rougher figures, in a fraction of the time")
    given = parser.parse_args(arguments)
    experiment = load_experiment(given.run)
    folder, out = experiment.folder, given.out or experiment.folder.report
    if isinstance(experiment.task, QuestionAnswering):
        task, pairs = experiment.task, experiment.task.read(folder)
        if isinstance(experiment.load(), SequenceGraph):
            raise ValueError(f"{folder} holds a network over sequences; the report is of lattices that take one vector")
        # More training questions are not looked at, and need not be embedded.
        some = [pairs.train[i] for i in evenly(len(pairs.train), Effort().fitted)]
        training = task.embed(some, folder).pooled
        page = report_run(folder, pairs.test, task.embed(pairs.test, folder), out, training=training, quick=given.quick)
    else:
        model, settings = experiment.load(), experiment.settings
        assert isinstance(model, Automaton)
        assert isinstance(settings, AutomatonSettings)
        page = report_automaton(model, folder, out, num_steps=settings.steps[1], quick=given.quick)
    print(f"the report is {page}")
