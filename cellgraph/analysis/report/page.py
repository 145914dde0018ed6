"""The page: a study's numbers in words, its pictures and two interactive views, in one HTML file."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs
from torch import Tensor

import cellgraph
from cellgraph.analysis.patterns import STATISTICS
from cellgraph.analysis.plots import PALETTE
from cellgraph.analysis.report.drawing import Picture
from cellgraph.analysis.report.embeddings import KINDS, METHODS
from cellgraph.analysis.report.hearing import WAYS
from cellgraph.analysis.report.patterns import ALL_BUT_TRANSPORT, EVERYTHING, LEVEL
from cellgraph.analysis.report.study import Study
from cellgraph.analysis.report.subject import Numbers
from cellgraph.analysis.report.worth import CUBE, LATERAL, MEAN, UPDATE
from cellgraph.analysis.states import activity
from cellgraph.texts import one_line

#: Longest text shown on pointing at an embedding.
TEXT_LENGTH = 110

#: Plotly's names of Matplotlib's marks.
_SYMBOLS = {"o": "circle", "^": "triangle-up", "s": "square"}


def fill(template: str, pictures: Mapping[str, Picture], title: str, **more: Any) -> str:
    """A page as HTML: no request leaves it, which its content security policy forbids as well.

    Args:
        template: Name of its template beside this module.
        pictures: Its pictures by name.
        title: Its heading.
        more: What else the template has a use for.
    """
    environment = Environment(
        loader=PackageLoader("cellgraph.analysis.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fixed": _fixed, "percent": _percent, "thousands": lambda n: f"{n:,}"}
    return environment.get_template(template).render(
        title=title, version=cellgraph.__version__, palette=PALETTE, pictures=pictures, **more
    )


def render(study: Study, pictures: Mapping[str, Picture], title: str) -> str:
    """The page of a network's study.

    Args:
        study: What was measured.
        pictures: Its pictures by name.
        title: Heading of the page.
    """
    return fill(
        "page.html.j2",
        pictures,
        title,
        s=study.numbers,
        learned=[name for name, claim in study.patterns.numbers["claims"].items() if claim.startswith("learned")],
        unlearned=[name for name, claim in study.patterns.numbers["claims"].items() if claim.startswith("unlearned")],
        verdict=_verdict(study.worth.numbers),
        owed="" if study.subject.model.remembers else _owed(study.worth.numbers, study.computation.numbers),
        statistics=STATISTICS,
        systems=study.embeddings.systems,
        everything=EVERYTHING,
        kept=ALL_BUT_TRANSPORT,
        level=LEVEL,
        part={"gated": UPDATE, "mean": MEAN, "aside": LATERAL, "cube": CUBE},
        ways={name: words for name, (_, _, words) in WAYS.items()},
        plotly=get_plotlyjs(),
        data={"cube": _cube(study), "map": _map(study)},
    )


def _verdict(worth: Numbers) -> str:
    """What the loss without the gated update says, beside the lead."""
    lead, loss = worth["lead"], worth["without"][UPDATE]
    if lead is None or lead["mrr"] <= 0:
        return "there is no lead to account for"
    if loss["mrr_high"] < lead["mrr"]:
        return "more than the network loses without its gated update"
    return "the gated update costs no less" if loss["mrr"] >= lead["mrr"] else "within the interval of that loss"


def _owed(worth: Numbers, computation: Numbers) -> str:
    """What of the lead is owed to what is not linear."""
    lead, loss = worth["lead"], computation.get("linearised")
    if lead is None or loss is None or lead["mrr"] <= 0:
        return ""
    if loss["mrr"] < lead["mrr"] / 2:
        return "Most of the lead over the adapters alone is therefore not owed to it: a linear map could say as much."
    return "That is most of the lead over the adapters alone." if loss["mrr_low"] > 0 else ""


def _cube(study: Study) -> dict[str, Any]:
    """The cells and what the slider shows of them, by step."""
    lattice, flow = study.subject.model.lattice, study.influence
    positions = torch.nn.functional.pad(lattice.positions, (3 - lattice.dim, 0))
    views = [
        _view("activity", "rms of the state", activity(study.cube.trajectory)),
        _view("difference between questions", "std of the state", study.cube.varying),
        _view("influence of one input cell", "gain", flow.spread.influence[:, len(flow.spread.sources) // 2]),
    ]
    if study.specialisation.found is not None:
        views += [
            _view(f"probe for {name}", "balanced accuracy", probe.accuracy[None], low=1 / probe.num_classes)
            for name, probe in study.specialisation.found.cells.items()
        ]
    return {
        "depth": positions[:, 0].tolist(),
        "height": positions[:, 1].tolist(),
        "width": positions[:, 2].tolist(),
        "views": views,
    }


def _view(name: str, unit: str, values: Tensor, *, low: float = 0.0) -> dict[str, Any]:
    """Values of the cells by step, in one scale from ``low`` to the largest."""
    return {
        "name": name,
        "unit": unit,
        "low": low,
        "top": max(float(_rounded(values.max())), low + 1e-12),
        "frames": [_rounded(frame) for frame in values],
    }


def _map(study: Study) -> dict[str, Any]:
    """Embeddings on a plane, with their texts."""
    some = [study.subject.pairs[i] for i in study.embeddings.chosen.tolist()]
    questions, answers = _short([pair.question for pair in some]), _short([pair.answer for pair in some])
    texts = {"questions": questions, "predictions": [f"for: {text}" for text in questions], "answers": answers}
    return {
        "kinds": [
            {"name": kind, "texts": texts[kind], "colour": PALETTE[colour], "symbol": _SYMBOLS[mark]}
            for kind, (colour, mark) in KINDS.items()
        ],
        "methods": [
            {
                "name": METHODS[projection.method],
                "points": [[_rounded(axis) for axis in part.T] for part in projection.points.chunk(3)],
            }
            for projection in study.embeddings.projections
        ],
    }


def _rounded(values: Tensor) -> Any:
    """To four significant digits: a page need not carry more."""
    array = values.double().numpy()
    return np.vectorize(lambda x: float(f"{x:.3e}"), otypes=[float])(array).tolist()


def _short(texts: Sequence[str]) -> list[str]:
    # Plotly takes tags and entities in what it shows on pointing for markup.
    return [html.escape(one_line(text, TEXT_LENGTH), quote=False) for text in texts]


def _fixed(value: float | None, digits: int = 3) -> str:
    """A number for people: fixed point, exponents where that would show nothing."""
    if value is None or value != value:
        return "none"
    if value in (float("inf"), float("-inf")):
        return "infinite" if value > 0 else "-infinite"
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 0.5 * 10**-digits else f"{value:.1e}"


def _percent(value: float, digits: int = 0) -> str:
    return f"{100 * value:.{digits}f} %"
