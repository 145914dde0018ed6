"""The page: a study's figures in words, pictures and two interactive views, in one HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from plotly.offline import get_plotlyjs
from torch import Tensor

import cellgraph
from cellgraph.analysis.patterns import STATISTICS
from cellgraph.analysis.plots import PALETTE
from cellgraph.analysis.report.sections import ALL_BUT_TRANSPORT, EVERYTHING
from cellgraph.analysis.report.study import Study
from cellgraph.analysis.states import activity
from cellgraph.data import QAPair
from cellgraph.lattice import Lattice

#: Level of the q-values.
LEVEL = 0.05

#: Longest text shown on pointing at an embedding.
TEXT_LENGTH = 110


@dataclass(frozen=True)
class Picture:
    """A picture: the name of its file and what is in it."""

    file: str
    content: bytes

    @property
    def wide(self) -> bool:
        """Whether it cannot be read at the width of a telephone."""
        return Image.open(io.BytesIO(self.content)).width > 640

    @property
    def uri(self) -> str:
        """The picture inside the page."""
        kind = self.file.rpartition(".")[2]
        return f"data:image/{kind};base64,{base64.b64encode(self.content).decode()}"


def render(study: Study, lattice: Lattice, pairs: Sequence[QAPair], pictures: dict[str, Picture], title: str) -> str:
    """The page as HTML: no request leaves it, which its content security policy forbids as well."""
    environment = Environment(
        loader=PackageLoader("cellgraph.analysis.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fixed": _fixed, "percent": _percent, "thousands": lambda n: f"{n:,}"}
    return environment.get_template("page.html.j2").render(
        title=title,
        version=cellgraph.__version__,
        s=study.summary,
        question=study.shown.question,
        pictures=pictures,
        claims=claims(study),
        statistics=STATISTICS,
        costs=_extremes(study),
        gates=_logged(study),
        everything=EVERYTHING,
        kept=ALL_BUT_TRANSPORT,
        level=LEVEL,
        palette=PALETTE,
        plotly=get_plotlyjs(),
        data={"cube": _cube(study, lattice), "map": _map(study, pairs)},
    )


def claims(study: Study) -> dict[str, str]:
    """By statistic, what may be said of the pattern: of whose making it is, if it is there at all."""
    found = {}
    for name in STATISTICS:
        beyond = {kind: comparison.q[name] <= LEVEL for kind, comparison in study.patterns.comparisons.items()}
        observed, new = study.patterns.comparisons[EVERYTHING].observed[name], study.patterns.new[name]
        if all(beyond.values()) and observed > new:
            found[name] = "learned: more than in both kinds of shuffled networks and in the new one"
        elif beyond[EVERYTHING] and not beyond[ALL_BUT_TRANSPORT]:
            found[name] = "of the transport: gone when it is shuffled, there when only the rest is"
        elif beyond[EVERYTHING]:
            found[name] = "by design: more than in shuffled networks, but no more than in a new one"
        else:
            found[name] = f"no claim: networks with all weights shuffled have as much (q > {LEVEL})"
    return found


def _extremes(study: Study) -> dict[str, dict[str, Any]]:
    """By kind of ablation, the dearest and the cheapest layer."""
    found = {}
    for kind in dict.fromkeys(cost.kind for cost in study.costs):
        layers = sorted((c for c in study.costs if c.kind == kind and c.name.startswith("layer")), key=lambda c: c.loss)
        found[kind] = {"dearest": layers[-1], "cheapest": layers[0]}
    return found


def _logged(study: Study) -> list[tuple[str, Any]]:
    """The logged quantities, those of training first."""
    order = sorted(study.summary["dynamics"].items(), key=lambda item: (not item[0].startswith("train/"), item[0]))
    return [(name, course) for name, course in order if name != "seconds"]


def _cube(study: Study, lattice: Lattice) -> dict[str, Any]:
    """The cells and what the slider shows of them, by step."""
    positions = torch.nn.functional.pad(lattice.positions, (3 - lattice.dim, 0))
    here = len(study.flow.spread.sources) // 2
    shown = {
        "activity (rms of the state)": activity(study.trajectory),
        "difference between questions (std)": study.varying,
        "influence of one input cell (gain)": study.flow.spread.influence[:, here],
    }
    if study.specialisation is not None:
        for name, probe in study.specialisation.cells.items():
            shown[f"probe for {name} (share right)"] = probe.accuracy[None]
    return {
        "depth": positions[:, 0].tolist(),
        "height": positions[:, 1].tolist(),
        "width": positions[:, 2].tolist(),
        "views": [
            {"name": name, "top": _rounded(values.max()), "frames": [_rounded(frame) for frame in values]}
            for name, values in shown.items()
        ],
    }


def _map(study: Study, pairs: Sequence[QAPair]) -> dict[str, Any]:
    """Embeddings on a plane, with their texts."""
    some = [pairs[i] for i in study.projected.tolist()]
    questions, answers = [_short(pair.question) for pair in some], [_short(pair.answer) for pair in some]
    texts = {"questions": questions, "predictions": [f"for: {text}" for text in questions], "answers": answers}
    styles = {
        "questions": ("sky", "circle"),
        "predictions": ("vermillion", "triangle-up"),
        "answers": ("green", "square"),
    }
    names = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
    return {
        "kinds": [
            {"name": kind, "texts": texts[kind], "colour": PALETTE[colour], "symbol": symbol}
            for kind, (colour, symbol) in styles.items()
        ],
        "methods": [
            {
                "name": names[projection.method],
                "points": [[_rounded(axis) for axis in part.T] for part in projection.points.chunk(3)],
            }
            for projection in study.projections
        ],
    }


def _rounded(values: Tensor) -> Any:
    """To four significant digits: a page need not carry more."""
    array = values.double().numpy()
    return np.vectorize(lambda x: float(f"{x:.3e}"), otypes=[float])(array).tolist()


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= TEXT_LENGTH else text[: TEXT_LENGTH - 1] + "…"


def _fixed(value: float | None, digits: int = 3) -> str:
    """A number for people: fixed point, exponents where that would show nothing."""
    if value is None or value != value:
        return "none"
    if value in (float("inf"), float("-inf")):
        return "infinite" if value > 0 else "-infinite"
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 0.5 * 10**-digits else f"{value:.1e}"


def _percent(value: float, digits: int = 0) -> str:
    return f"{100 * value:.{digits}f} %"
