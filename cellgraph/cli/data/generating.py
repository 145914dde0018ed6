"""Progress of generation: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from cellgraph.data.generation import Generator
from cellgraph.numbers import plain_numbers
from cellgraph.texts import one_line


class GeneratingProgress:
    """Shows the pairs there are of those wanted, what was used, and what is waited for.

    Args:
        console: Where to.
        generator: Whose progress.
        interval: Seconds between two lines where the output is no terminal.
    """

    @plain_numbers
    def __init__(self, console: Console, generator: Generator, *, interval: float = 10.0) -> None:
        self.console, self.interval = console, interval
        self._told = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn("pairs"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[told]}", markup=False), console=console)
            self._task = self._bar.add_task("", total=generator.plan.pairs, told="")
        self(generator)

    def __call__(self, generator: Generator) -> None:
        """Show how far it is."""
        wanted = generator.plan.pairs
        there = wanted - generator.missing
        if self._bar is not None:
            self._bar.update(self._task, completed=there, told=self._text(generator))
        elif time.monotonic() - self._told >= self.interval:
            self._told = time.monotonic()
            self.console.print(Text(f"pairs {there:,}/{wanted:,}  {self._text(generator)}"), soft_wrap=True)

    def __enter__(self) -> GeneratingProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()

    @staticmethod
    def _text(generator: Generator) -> str:
        budget = generator.budget
        waiting = f"  waiting: {one_line(generator.waiting, 60)}" if generator.waiting else ""
        return f"{budget.used_requests:,} requests  {budget.used_tokens:,} tokens{waiting}"
