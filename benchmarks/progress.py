"""Progress: what is being measured and how far it has come."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

Item = TypeVar("Item")


class Progress:
    """Context that shows a bar on standard error; where that is no terminal, nothing.

    Args:
        title: What the bar is of.
    """

    def __init__(self, title: str) -> None:
        console = Console(file=sys.stderr)
        columns = (TextColumn(title), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(
            *columns,
            TextColumn("{task.fields[now]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            # A drawing thread would take processor time from what is being measured.
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", total=None, now="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.stop()

    def say(self, what: str) -> None:
        """Show what is being done."""
        self._bar.update(self._task, now=what, refresh=True)

    def over(self, items: Iterable[Item], *, total: int) -> Iterator[Item]:
        """The items, counted."""
        self._bar.update(self._task, total=total, completed=0)
        for item in items:
            self._bar.advance(self._task)
            yield item
