"""The verb ``export``: a run's network for other runtimes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cellgraph.automata import Automaton, AutomatonSettings
from cellgraph.integrations.export import export_onnx, export_torch
from cellgraph.runs import load, load_experiment
from cellgraph.sequence import SequenceGraph


def main(arguments: Sequence[str]) -> None:
    """Write a run's model as ONNX or for torch.export, checked for equal output."""
    parser = argparse.ArgumentParser(prog="cellgraph export", description=main.__doc__)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="write an ONNX model")
    parser.add_argument("--torch", type=Path, metavar="FILE", help="write a program that torch.export.load reads")
    parser.add_argument(
        "--num-steps", type=int, metavar="N", help="steps of the rollout, by default the most of training"
    )
    options = parser.parse_args(arguments)
    wanted = [(export_onnx, options.onnx), (export_torch, options.torch)]
    if not any(path for _, path in wanted):
        parser.error("expected --onnx FILE, --torch FILE or both")
    _check_files(options.onnx, options.torch)
    model, steps = load(options.run), options.num_steps
    if isinstance(model, SequenceGraph):
        raise ValueError(f"{options.run} holds a network over sequences; what is exported are networks of one lattice")
    if isinstance(model, Automaton) and steps is None:
        settings = load_experiment(options.run).settings
        assert isinstance(settings, AutomatonSettings)
        steps = settings.steps[1]
    for write, path in wanted:
        if path is not None:
            report = write(model, path, num_steps=steps)
            print(
                f"{path}: {report.num_bytes / 1e6:.1f} MB, {', '.join(report.inputs)} -> {', '.join(report.outputs)}, "
                f"differs by at most {report.difference:.1e}"
            )


def _check_files(*paths: Path | None) -> None:
    """See to it, before the work, that each file can be one, and none is another one's."""
    given = [path for path in paths if path is not None]
    for path in given:
        if path.is_dir():
            raise ValueError(f"expected a file to write, got {path}: it is a folder")
    if len({path.resolve() for path in given}) < len(given):
        raise ValueError(f"--onnx and --torch are two files, got {given[0]} for both")
