"""The page of a set of pairs, or of two side by side: diversity, questions, answers and balance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cellgraph.analysis.plots import PALETTE, plain_label
from cellgraph.analysis.report.drawing import Picture, blank, png, titled
from cellgraph.analysis.report.page import fill
from cellgraph.analysis.report.subject import Numbers
from cellgraph.data.metrics import QUESTION_TYPES, Portrait
from cellgraph.texts import one_line

#: Size of a panel in inches and its dots an inch: two stand side by side on a wide page, one on a telephone, where its
#: letters can still be read.
PANEL, DPI = (3.7, 2.9), 170
#: Colours of the sets, and of the categories of a single one.
COLOURS = list(PALETTE.values())
#: Categories with a bar of their own, and those with a colour of their own on the map.
MOST_BARS, MOST_COLOURS = 12, 6
#: Points of a set on the map.
MOST_POINTS = 1200


@dataclass(frozen=True)
class DatasetStudy:
    """One set of pairs, or two that are compared.

    Args:
        portraits: What was measured of each.
        teacher: What the embeddings are from, in words.
    """

    portraits: Sequence[Portrait]
    teacher: str

    @property
    def numbers(self) -> Numbers:
        """All the figures, by set."""
        return {"teacher": self.teacher, "sets": [{"name": p.name, **p.numbers} for p in self.portraits]}

    def pictures(self) -> Iterator[Picture]:
        """The panels, of one width."""
        yield _picture("map", self._map())
        yield _picture("spectrum", self._spectrum())
        yield _picture("types", self._types())
        for name, label, title in (
            ("question_words", "words in a question", "Length of questions"),
            ("question_grade", "school year (Coleman-Liau)", "Readability of questions"),
            ("answer_words", "words in an answer", "Length of answers"),
            ("answer_grade", "school year (Coleman-Liau)", "Readability of answers"),
        ):
            yield _picture(name, self._histogram(name, label, title))
        yield _picture("coherence", self._coherence())
        if any(self._counts("category")):
            yield _picture("balance", self._balance())

    def _map(self) -> Figure:
        """Questions on the plane in which they differ most, all sets in one."""
        figure, axis = _panel()
        rng = np.random.default_rng(0)
        chosen = [np.sort(rng.permutation(len(p.questions))[:MOST_POINTS]) for p in self.portraits]
        parts = [p.questions[some] for p, some in zip(self.portraits, chosen, strict=True)]
        everything = np.concatenate(parts).astype(np.float64)
        mean = everything.mean(0)
        axes = np.linalg.svd(everything - mean, full_matrices=False)[2][:2]
        for number, (portrait, some, part) in enumerate(zip(self.portraits, chosen, parts, strict=True)):
            points = (part - mean) @ axes.T
            if points.shape[1] < 2:
                points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
            own = [portrait.categories[i] for i in some]
            shown = list(self._counts("category")[0])[:MOST_COLOURS] if len(self.portraits) == 1 else []
            groups = {name: [i for i, found in enumerate(own) if found == name] for name in shown}
            rest = [i for i, found in enumerate(own) if found not in groups]
            if rest:
                label = portrait.name if len(self.portraits) > 1 or not groups else "others"
                colour = COLOURS[number] if label == portrait.name else "#AAAAAA"
                _scatter(axis, points[rest], colour, label)
            for colour, (name, members) in zip(COLOURS, groups.items(), strict=False):
                _scatter(axis, points[members], colour, name)
        titled(axis, "first axis (no unit)", "second axis (no unit)", "Questions by meaning")
        _legend(axis)
        return figure

    def _spectrum(self) -> Figure:
        figure, axis = _panel()
        for colour, portrait in zip(COLOURS, self.portraits, strict=False):
            for part, line in (("questions", "-"), ("answers", "--")):
                values = np.concatenate([[0], np.cumsum(portrait.spectra[part])])
                label = f"{portrait.name}, {part}" if len(self.portraits) > 1 else part
                axis.plot(range(len(values)), values, color=colour, linestyle=line, label=_short(label, 26))
        axis.set_ylim(0, 1.02)
        titled(axis, "directions, the strongest first", "share", "What the directions hold")
        _legend(axis)
        return figure

    def _types(self) -> Figure:
        figure, axis = _panel()
        shares = [portrait.numbers["questions"]["types"] for portrait in self.portraits]
        shown = [name for name in QUESTION_TYPES if any(each[name] for each in shares)]
        _bars(axis, shown, [[each[name] for name in shown] for each in shares], self.portraits)
        titled(axis, "share of questions", "", "Types of questions")
        return figure

    def _histogram(self, name: str, label: str, title: str) -> Figure:
        figure, axis = _panel()
        values = [portrait.values[name].astype(np.float64) for portrait in self.portraits]
        everything = np.concatenate(values)
        if name.endswith("words"):
            top = max(2.0, float(everything.max()))
            edges = np.unique(np.geomspace(1, top + 1, 25).round()) - 0.5
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axis.xaxis.set_minor_formatter(FuncFormatter(lambda x, _: ""))
        else:
            # A text of one long word is of the hundredth year; the few such would leave no room for the others.
            low, high = np.quantile(everything, [0.005, 0.995])
            edges = np.linspace(low, max(high, low + 1), 30)
        for number, (own, portrait) in enumerate(zip(values, self.portraits, strict=True)):
            _steps(axis, np.clip(own, edges[0], edges[-1]), edges, COLOURS[number], portrait.name, filled=number == 0)
        titled(axis, label, "share", title)
        if len(self.portraits) > 1:
            _legend(axis)
        return figure

    def _coherence(self) -> Figure:
        figure, axis = _panel()
        judged = [portrait for portrait in self.portraits if len(portrait.coherence.own)]
        parts = [part for p in judged for part in (p.coherence.own, p.coherence.shuffled)]
        edges = np.linspace(min(map(np.min, parts)), max(map(np.max, parts)), 40) if parts else np.linspace(0, 1, 40)
        for number, portrait in enumerate(judged):
            name = f"{portrait.name}, " if len(self.portraits) > 1 else ""
            _steps(axis, portrait.coherence.own, edges, COLOURS[number], f"{name}own answer", filled=number == 0)
            label = f"{name}others' answers"
            _steps(axis, portrait.coherence.shuffled, edges, COLOURS[number], label, line=":")
        titled(axis, "cosine of question and answer", "share", "Coherence")
        _legend(axis)
        return figure

    def _balance(self) -> Figure:
        figure, axis = _panel()
        counts = self._counts("category")
        share = [{name: count / max(sum(each.values()), 1) for name, count in each.items()} for each in counts]
        names = sorted(set().union(*share), key=lambda name: -sum(each.get(name, 0.0) for each in share))
        shown, rest = names[:MOST_BARS], names[MOST_BARS:]
        values = [[each.get(name, 0.0) for name in shown] for each in share]
        if rest:
            shown = [*shown, f"{len(rest)} others"]
            values = [
                [*own, sum(each.get(name, 0.0) for name in rest)] for own, each in zip(values, share, strict=True)
            ]
        _bars(axis, shown, values, self.portraits)
        titled(axis, "share of pairs", "", "Categories")
        return figure

    def _counts(self, column: str) -> list[dict[str, int]]:
        return [portrait.numbers["balance"][column]["counts"] for portrait in self.portraits]


def render_dataset(study: DatasetStudy, pictures: Mapping[str, Picture], title: str) -> str:
    """The page of sets of pairs, see :func:`~cellgraph.analysis.report.page.fill`."""
    return fill("dataset.html.j2", pictures, title, s=study.numbers)


def _panel() -> tuple[Figure, Axes]:
    figure = blank(*PANEL)
    return figure, figure.subplots()


def _picture(name: str, figure: Figure) -> Picture:
    return Picture(f"{name}.png", png(figure, dpi=DPI))


def _scatter(axis: Axes, points: np.ndarray, colour: str, label: str) -> None:
    axis.scatter(points[:, 0], points[:, 1], s=6, color=colour, alpha=0.5, linewidths=0, label=_short(label))


def _steps(
    axis: Axes, values: np.ndarray, edges: np.ndarray, colour: str, label: str, *, filled: bool = False, line: str = "-"
) -> None:
    """A histogram of shares as one line, which two sets can share a panel with."""
    counts, _ = np.histogram(values, edges)
    shares = counts / max(len(values), 1)
    axis.stairs(shares, edges, color=colour, linestyle=line, linewidth=1.5, label=_short(label, 26))
    if filled:
        axis.stairs(shares, edges, color=colour, alpha=0.2, fill=True)


def _bars(axis: Axes, names: Sequence[str], values: Sequence[Sequence[float]], sets: Sequence[Portrait]) -> None:
    height = 0.8 / len(values)
    places = np.arange(len(names))
    for number, (own, portrait) in enumerate(zip(values, sets, strict=True)):
        axis.barh(places + number * height, own, height, color=COLOURS[number], label=_short(portrait.name))
    axis.set_yticks(places + 0.4 - height / 2, [_short(name, 20) for name in names])
    axis.invert_yaxis()
    if len(values) > 1:
        _legend(axis)


def _legend(axis: Axes) -> None:
    """Names below the panel, where no data is."""
    figure = axis.get_figure()
    assert isinstance(figure, Figure)
    figure.legend(fontsize="x-small", loc="outside lower center", ncols=2, frameon=False, markerscale=2)


def _short(text: str, length: int = 22) -> str:
    return plain_label(one_line(text, length))
