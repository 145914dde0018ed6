"""The verb ``data``: what is done with files of pairs before anything is trained, a command a module."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "generate": "Ask a language model for pairs by topic; goes on where it was stopped.",
    "check": "Find duplicates, damaged and doubtful pairs and leakage in a file; with --fix, write a clean one.",
    "report": "Show how diverse, complex, coherent and balanced one or two files are, on one page.",
}


def main(arguments: Sequence[str]) -> None:
    """Run one of the commands."""
    command, rest = (arguments[:1] or ["--help"])[0], arguments[1:]
    if command in ("-h", "--help"):
        print(f"usage: cellgraph data {{{','.join(COMMANDS)}}} ...\n\n{__doc__}\n")
        for name, told in COMMANDS.items():
            print(f"  cellgraph data {name:<10}{told}")
        return
    if command not in COMMANDS:
        sys.exit(f"cellgraph data: expected one of {', '.join(COMMANDS)}, got {command!r}")
    importlib.import_module(f"cellgraph.cli.data.{command.replace('-', '_')}").main(rest)
