"""The terminal: a conversation with a run, line by line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cellgraph.answering.session import Answer, Session
from cellgraph.texts import one_line, printable

#: Longer answers than the first are cut.
SHOWN_CHARS = 100
HELP = ":history shows the turns so far, :reset forgets them, :quit (or Ctrl-D) ends, :help shows this"


def converse(session: Session, show: Callable[[Answer], None], *, console: Console, history: Path) -> None:
    """Answer lines from the terminal until it is closed.

    Args:
        session: Answers them.
        show: Shows an answer.
        console: Where the rest is told.
        history: File in which questions are remembered for the arrow keys, from session to session.
    """
    alone = "each question stands alone" + ("" if session.model.remembers else ", the network has no memory")
    memory = "each question builds on those before it" if session.remembers else alone
    console.print(f"{memory}; {HELP}", highlight=False, soft_wrap=True)
    for line in _lines(history):
        if line in (":quit", ":q"):
            return
        if line == ":reset":
            session.reset()
            console.print("all turns forgotten")
        elif line == ":history":
            for number, turn in enumerate(session.history, 1):
                said = turn.answers[0].text if turn.known else "I do not know"
                console.print(Text(f"{number}. {one_line(turn.question)}\n   {one_line(said, SHOWN_CHARS)}"))
        elif line.startswith(":"):
            console.print(HELP if line == ":help" else f"no such command; {HELP}", highlight=False, soft_wrap=True)
        elif line:
            show(session.ask(line))


def show_answer(answer: Answer, *, console: Console, decoder: str, asked: bool = False) -> None:
    """Show an answer to people.

    Args:
        answer: The answer.
        console: Where to.
        decoder: ``"bank"``, ``"generate"`` or ``"both"``.
        asked: Whether to show the question as well.
    """
    lines = Text("> ", style="dim").append(printable(answer.question) + "\n", style="not dim") if asked else Text()
    percent = f"{answer.confidence:.0%}"
    if answer.generated is not None:
        lines.append("generated  ", style="dim").append(printable(answer.generated) + "\n")
    if decoder != "generate":
        if answer.known:
            lines.append(printable(answer.answers[0].text), style="bold").append(
                f"  (confidence {percent})\n", style="dim"
            )
        else:
            lines.append("I do not know", style="bold").append(f"  (confidence {percent}). Nearest:\n", style="dim")
        for candidate in answer.answers[1:] if answer.known else answer.answers:
            lines.append(f"  {candidate.rank}. {candidate.shown}  ", style="dim")
            lines.append(one_line(candidate.text, SHOWN_CHARS) + "\n")
    alone = answer.teacher_answers[0]
    lines.append(f"teacher alone: {alone.score:.3f}  {one_line(alone.text, SHOWN_CHARS)}\n", style="dim")
    times = ", ".join(f"{part} {seconds * 1e3:.0f} ms" for part, seconds in answer.seconds.items())
    lines.append(f"{answer.num_steps} steps; {times}", style="dim")
    console.print(lines, soft_wrap=True)


def _lines(history: Path) -> Iterator[str]:
    """Lines typed at a prompt with the arrow keys' history, or read from a pipe."""
    if not sys.stdin.isatty():
        yield from map(str.strip, sys.stdin)
        return
    try:
        import readline
    except ImportError:  # Windows has none
        readline = None  # type: ignore[assignment]
    if readline is not None:
        with contextlib.suppress(OSError):
            readline.read_history_file(history)
        readline.set_history_length(1000)
    try:
        while True:
            yield input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
    finally:
        if readline is not None:
            # A folder that cannot be written is no reason to end in an error.
            with contextlib.suppress(OSError):
                history.parent.mkdir(parents=True, exist_ok=True)
                readline.write_history_file(history)
