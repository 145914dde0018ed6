"""The command ``cellgraph``: one verb a module, each a thin shell around the library."""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import os
import select
import shlex
import sys

from cellgraph.interruption import Interrupted, interruptible

VERBS = {
    "train": "Train and evaluate: a cube on question-answer pairs.",
    "automaton": "Train a neural cellular automaton, judge it on held-out data and draw what it does.",
    "evaluate": "Judge a run's network again, beside its baselines; with --questions, by category of question.",
    "report": "Show what a run's network learned, on one page with pictures.",
    "study": "Compare the runs of a sweep: mean, spread over seeds, paired tests, and a figure.",
    "ask": "Talk to a run: one question, a file of questions, or a conversation.",
    "serve": "Serve a run over HTTP: a page to ask, and the JSON of `ask` for programs.",
    "fit-decoder": "Fit the generative decoder of a run to its training answers; goes on where it was interrupted.",
    "embed": "Embed the texts of a file; goes on where it was stopped, and several processes may share the work.",
    "export": "Write a run's network as ONNX or for torch.export, checked for equal output.",
    "data": "Look after files of pairs: generate, check, report.",
    "bench": "Measure speed and memory here, beside peers.",
    "info": "Tell versions, device, backends and folders, or what a run's network consists of.",
}


def main() -> None:
    """Run the verb on the command line; what a user did wrong is told in one line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that lacks a sign is no reason to end in an error.
            stream.reconfigure(errors="backslashreplace")
    try:
        _run((sys.argv[1:2] or ["--help"])[0], sys.argv[2:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read it has seen enough; what is left is not to be written when the process ends either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run(verb: str, arguments: list[str]) -> None:
    if verb in ("-h", "--help"):
        print(f"usage: cellgraph {{{','.join(VERBS)}}} ...\n\n{__doc__}\n")
        for name, told in VERBS.items():
            print(f"  cellgraph {name:<13}{told}")
        return
    if verb == "--version":
        print(importlib.metadata.version("cellgraph"))
        return
    if verb not in VERBS:
        sys.exit(f"cellgraph: expected one of {', '.join(VERBS)}, got {verb!r}")
    # Hydra prints tracebacks and exits by itself unless told that the caller wants to see its errors.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    with interruptible():
        try:
            importlib.import_module(f"cellgraph.cli.{verb.replace('-', '_')}").main(arguments)
        except Interrupted as stop:
            if not stop.told:
                again = shlex.join(["cellgraph", verb, *arguments])
                print(
                    f"cellgraph {verb}: stopped by {stop.name}; nothing is lost, go on with: {again}", file=sys.stderr
                )
            raise
        except Exception as error:
            from cellgraph.cli.errors import is_users, one_line, process

            if not is_users(error) or (isinstance(error, BrokenPipeError) and _nobody_reads()):
                raise
            sys.exit(f"cellgraph {verb}{process()}: {one_line(error)}")


def _nobody_reads() -> bool:
    """Whether what is printed goes nowhere any more, as after ``| head``."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))
