"""Pairs in which there is nothing to find, and what is found."""

from __future__ import annotations

from cellgraph.data import QAPair
from cellgraph.data.checks import Inspection

THINGS = ["river", "lamp", "copper", "violin", "glacier", "bakery", "parliament", "spider", "telescope", "harvest"]
DEEDS = ("measure", "repair", "describe", "transport")
GOOD = [
    QAPair(
        f"How would an expert {deed} the {thing} in practice?",
        f"To {deed} a {thing}, an expert first studies how the {thing} came about, and then chooses tools that "
        f"{deed.upper()} well; apprentices of the {thing} guild learn it over {number + 2} long winters.",
        topic=f"{thing} {deed}",
    )
    for number, thing in enumerate(THINGS)
    for deed in DEEDS
]


def found(inspection: Inspection) -> list[tuple[int, str, int | None]]:
    return [(finding.row, finding.kind, finding.repeats) for finding in inspection.findings]
