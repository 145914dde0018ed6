"""The entry of a question that is a program of its own, ``python -m cellgraph.benchmarks.QUESTION``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from cellgraph.texts import one_line


def enter(main: Callable[[], None]) -> None:
    """Run it; what is wrong with what was given is told in one line."""
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {one_line(str(error))}")
