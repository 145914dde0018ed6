"""Prints what became of the random inputs."""

from __future__ import annotations

from typing import Any

from fuzzing import OUTCOMES


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
