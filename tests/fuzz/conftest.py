"""Prints what became of the random inputs; where they are led by the lines that they reach, has these lines counted."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from fuzzing import GUIDED, OUTCOMES

if GUIDED:
    import atheris

    with atheris.instrument_imports(include=["cellgraph"]):
        import cellgraph

        for module in pkgutil.walk_packages(cellgraph.__path__, "cellgraph."):
            if not module.name.startswith(("cellgraph.ops.triton", "cellgraph.benchmarks", "cellgraph.conf")):
                importlib.import_module(module.name)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not OUTCOMES:
        return
    terminalreporter.section("random inputs")
    total = 0
    for kind, count in sorted(OUTCOMES.items()):
        total += count.total()
        terminalreporter.line(
            f"{kind:<34}{count.total():>9,}  taken {count['taken']:>8,}  refused {count['refused']:>8,}"
        )
    terminalreporter.line(f"{'all':<34}{total:>9,}")
