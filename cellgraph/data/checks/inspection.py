"""All the checks of a file, and what comes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..pairs import QAPair
from ..rows import Rows
from .coherence import judge_coherence
from .encoding import encoding_faults, repaired
from .finding import KINDS, Embed, Finding
from .language import language_faults
from .leakage import leaks, made_split
from .lengths import length_faults
from .near import near_repetitions
from .neighbours import neighbours
from .repeats import repetitions
from .settings import CheckSettings
from .units import Unit, is_held_out, units_of

__all__ = ["Inspection", "inspect_pairs"]


@dataclass(frozen=True)
class Inspection:
    """What the checks found.

    Args:
        rows: What was checked.
        settings: By which thresholds.
        pairs: The pairs by row, repaired where that is asked for.
        findings: The findings, by row.
        numbers: What was measured beside them, by check.
        undone: Why a check was not made, by check.
    """

    rows: Rows
    settings: CheckSettings
    pairs: list[QAPair | None]
    findings: list[Finding]
    numbers: dict[str, Any]
    undone: dict[str, str]

    @property
    def removed(self) -> dict[int, list[Finding]]:
        """The rows that are to be removed, each with the reasons."""
        return self._by_action("remove")

    @property
    def repaired(self) -> dict[int, list[Finding]]:
        """The rows that stay and are to be repaired, each with the reasons."""
        removed = self.removed
        return {row: found for row, found in self._by_action("repair").items() if row not in removed}

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to remove or repair; there may be notes."""
        return not self.removed and not self.repaired

    def counts(self) -> dict[str, int]:
        """How many rows have findings of each kind, for the kinds that were found."""
        counts = Counter(kind for kind, _ in {(finding.kind, finding.row) for finding in self.findings})
        return {kind: counts[kind] for kind in KINDS if counts[kind]}

    def clean(self) -> list[QAPair]:
        """The pairs that stay, repaired, in their order."""
        removed = self.removed
        return [pair for row, pair in enumerate(self.pairs) if pair is not None and row not in removed]

    def _by_action(self, action: str) -> dict[int, list[Finding]]:
        found: dict[int, list[Finding]] = {}
        for finding in self.findings:
            if self.settings.action(finding.kind) == action:
                found.setdefault(finding.row, []).append(finding)
        return found


def inspect_pairs(
    rows: Rows | Sequence[QAPair],
    settings: CheckSettings | None = None,
    *,
    embed: Embed | None = None,
    progress: Callable[[str, float], None] = lambda check, share: None,
) -> Inspection:
    """Checks a set of pairs.

    First each row by itself, repairs included: what is removed for its own faults is not compared with the others, so
    that nothing is removed for repeating what is gone. Then leakage, repetitions and neighbours, in the order in which
    rows are kept: the first of those that repeat each other, held-out parts before training. A dialogue stays or goes
    as a whole. Checking what :meth:`Inspection.clean` gives finds nothing more to remove, but where pairs are removed
    by a measure of the set's own: what is incoherent is so among the pairs at hand, and a teacher may be fitted to
    them.

    Args:
        rows: The rows of a file (:func:`~cellgraph.data.read_rows`), or pairs.
        settings: Thresholds, and what happens to what is found.
        embed: Turns texts into embeddings; without it, coherence and neighbours are not looked at.
        progress: Called with a check and the share of it that is done.

    Raises:
        ValueError: If a package that a check needs is missing.

    Example:
        >>> pairs = [QAPair("Who are you?", "A network."), QAPair("who are you", "A network!")]
        >>> found = inspect_pairs(pairs, CheckSettings(without=("near", "encoding", "language")))
        >>> found.counts(), found.clean() == pairs[:1]
        ({'exact': 1}, True)
    """
    rows = rows if isinstance(rows, Rows) else Rows(list(rows))
    inspector = _Inspector(rows, settings or CheckSettings(), embed, progress)
    inspector.run()
    findings = sorted(inspector.findings, key=lambda found: (found.row, list(KINDS).index(found.kind)))
    return Inspection(rows, inspector.settings, inspector.pairs, findings, inspector.numbers, inspector.undone)


class _Inspector:
    """The checks in their order, and what each leaves to those after it."""

    def __init__(
        self, rows: Rows, settings: CheckSettings, embed: Embed | None, progress: Callable[[str, float], None]
    ) -> None:
        self.rows, self.settings, self.embed, self.progress = rows, settings, embed, progress
        self.pairs = list(rows.pairs)
        self.findings = [Finding(row, "unreadable", reason) for row, reason in rows.faults.items()]
        self.gone = set(rows.faults)
        self.numbers: dict[str, Any] = {}
        self.undone = dict.fromkeys(settings.without, "left out")
        self.embedded: tuple[np.ndarray, np.ndarray] | None = None

    def run(self) -> None:
        self.drop_empty()
        if self.asked("encoding"):
            self.take(encoding_faults(self.left()))
            self.repair()
        if self.asked("length"):
            self.take(length_faults(self.left(), self.settings))
        if self.asked("language"):
            found, self.numbers["language"] = language_faults(
                self.left(), self.settings, progress=self.told("language")
            )
            self.take(found)
        self.embed_all()
        if self.asked("coherence"):
            self.judge_coherence()
        self.spread()
        parts = sorted(set(filter(None, self.rows.parts)))
        if self.asked("leakage") and parts and not any(map(is_held_out, parts)):
            told = ", ".join(map(repr, parts[:5]))
            self.undone["leakage"] = f"no part of the split is called test, validation or the like, they are {told}"
        if self.asked("leakage") and parts:
            self.take(leaks(self.rows, self.pairs, self.gone))
            self.spread()
        if self.asked("exact"):
            self.take(repetitions(self.pairs, self.units()))
        if self.asked("near"):
            near = near_repetitions(
                self.pairs,
                self.units("exact"),
                self.settings.near,
                neighbours_stay=self.settings.action("neighbour") != "remove",
                progress=self.told("near"),
            )
            self.compare(near)
        if self.asked("neighbours") and self.embedded is not None:
            close = neighbours(
                self.pairs,
                self.units("exact", "near", "neighbour"),
                *self.embedded,
                self.settings.neighbour,
                progress=self.told("neighbours"),
            )
            self.compare(close)
        if self.asked("leakage") and not self.rows.parts:
            self.split()

    def asked(self, check: str) -> bool:
        return check not in self.undone

    def told(self, check: str) -> Callable[[float], None]:
        return lambda share: self.progress(check, share)

    def left(self) -> list[tuple[int, QAPair]]:
        return [(row, pair) for row, pair in enumerate(self.pairs) if pair is not None and row not in self.gone]

    def units(self, *told: str) -> list[Unit]:
        """What is left, without what was told of already as one of these kinds."""
        return units_of(self.rows, self.pairs, self.gone | {each.row for each in self.findings if each.kind in told})

    def take(self, found: Iterable[Finding]) -> None:
        """Keep findings; what is removed is out of sight from here on."""
        found = list(found)
        self.findings += found
        self.gone |= {finding.row for finding in found if self.settings.action(finding.kind) == "remove"}

    def repair(self) -> None:
        for finding in self.findings:
            pair = self.pairs[finding.row]
            if pair is not None and self.settings.action(finding.kind) == "repair":
                self.pairs[finding.row] = repaired(pair, [finding.kind])
        # Nothing may be left of a text.
        self.drop_empty()

    def drop_empty(self) -> None:
        texts = [(row, name, getattr(pair, name)) for row, pair in self.left() for name in ("question", "answer")]
        empty = {row: name for row, name, text in texts if not text.strip()}
        self.take(Finding(row, "unreadable", f"nothing is shown of its {name}") for row, name in empty.items())

    def spread(self) -> None:
        """A dialogue of which a turn is gone is gone."""
        dialogues: dict[tuple[str, str], list[int]] = {}
        for row, pair in enumerate(self.pairs):
            if pair is not None and pair.dialogue:
                part = self.rows.parts[row] if self.rows.parts else ""
                dialogues.setdefault((part, pair.dialogue), []).append(row)
        for members in dialogues.values():
            lost = [row for row in members if row in self.gone]
            if lost:
                self.take(
                    Finding(row, "dialogue", f"belongs to a dialogue that loses row {lost[0] + 1}")
                    for row in members
                    if row not in self.gone
                )

    def embed_all(self) -> None:
        wanted = [check for check in ("coherence", "neighbours") if self.asked(check)]
        if not wanted:
            return
        if self.embed is None:
            self.undone |= dict.fromkeys(wanted, "there is no teacher")
            return
        left = self.left()
        texts = list(dict.fromkeys(text for _, pair in left for text in (pair.question, pair.answer)))
        place = {text: number for number, text in enumerate(texts)}
        try:
            vectors = np.asarray(self.embed(texts), dtype=np.float32)
        except ValueError as error:
            self.undone |= dict.fromkeys(wanted, str(error))
            return
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
        found = np.zeros((2, len(self.pairs), vectors.shape[1]), dtype=np.float32)
        for row, pair in left:
            found[0, row], found[1, row] = vectors[place[pair.question]], vectors[place[pair.answer]]
        self.embedded = found[0], found[1]
        self.progress("embedding", 1.0)

    def judge_coherence(self) -> None:
        assert self.embedded is not None
        rows = np.array([row for row, _ in self.left()], dtype=np.int64)
        questions, answers = (part[rows] for part in self.embedded)
        judged = judge_coherence(questions, answers, rows, share=self.settings.coherence, seed=self.settings.seed)
        self.numbers["coherence"] = judged.to_dict() | {"not_judged": len(rows) - len(judged.rows)}
        self.take(judged.findings())

    def compare(self, found: Iterator[Finding]) -> None:
        """Take findings of rows that are like others; those across parts of the file's split are leakage."""
        parts, leakage = self.rows.parts, self.asked("leakage")
        taken = []
        for finding in found:
            other = finding.repeats
            assert other is not None
            if leakage and parts and parts[other] != parts[finding.row] and is_held_out(parts[other]):
                reason = f"{finding.reason}, of the part {parts[other]!r}"
                across = {"near": "leak", "neighbour": "shared"}[finding.kind]
                taken.append(Finding(finding.row, across, reason, other, finding.value))
            else:
                taken.append(finding)
        self.take(taken)

    def split(self) -> None:
        """Where the file has no split: what crosses the one that training would make."""
        options = {name: getattr(self.settings, name) for name in ("test", "validation", "seed")}
        try:
            parts = made_split(self.pairs, self.gone, **options)
        except ValueError as error:
            self.undone["leakage"] = f"training could not split what is left: {error}"
            return
        self.numbers["leakage"] = {**options, "rows": dict(Counter(filter(None, parts)))}
        close = [found for found in self.findings if found.kind == "neighbour" and found.repeats is not None]
        for found in close:
            one, other = parts[found.row], parts[found.repeats]  # type: ignore[index]
            if one and other and one != other:
                reason = f"means what row {found.repeats + 1} means, and training would have them in {one} and {other}"  # type: ignore[operator]
                self.findings.append(Finding(found.row, "shared", reason, found.repeats, found.value))
