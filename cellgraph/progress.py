"""Progress: a bar on the standard error stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    total: int, *, enabled: bool, doing: str = "embedding", of: str = "texts"
) -> Iterator[Callable[[int], None]]:
    """Show how much of a long work is done, on the standard error stream.

    Args:
        total: Number of parts.
        enabled: Whether to show anything.
        doing: What is done, in a word.
        of: What its parts are.

    Returns:
        A context whose value is to be called with the number of parts just done.
    """
    if not enabled:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn(of), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda done: bar.advance(task, done)
