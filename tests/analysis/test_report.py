"""The report's page: against its numbers, in a browser, and for networks and runs that lack something."""

from __future__ import annotations

import base64
import html
import re
import shutil
import subprocess
from dataclasses import fields

import pytest
import torch
from reported import TINY, WIDTH, network

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.analysis.report import Effort, plain, report_run, study, write_report
from cellgraph.data import QAPair
from cellgraph.testing import randomise


def test_every_number_on_the_page_stands_among_the_figures(made):
    body = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", made.page, flags=re.S)
    text = html.unescape(re.sub(r"<[^>]*>", " ", body.partition("<main>")[2].partition("</main>")[0]))
    figures = made.figures
    numbers = []

    def collect(value: object) -> None:
        if isinstance(value, dict):
            any(map(collect, value.values()))
        elif isinstance(value, list):
            any(map(collect, value))
        elif isinstance(value, (int, float)):
            numbers.append(float(value))

    collect(figures)
    flow, computed = figures["influence"], figures["computation"]
    derived = [
        100 * flow["pairs_in_reach"] / flow["pairs"],
        *(100 * computed[name] for name in ("nonlinear", "answer", "control")),
        *(100 * computed["cell_nonlinear"][name] for name in ("least", "most")),
        100 * (1 - sum(figures["embeddings"]["pca_explained"])),
        1 / (1 + TINY.shuffles),
        0.05,
    ]
    known = {f"{abs(x):.{digits}f}" for x in numbers + derived for digits in range(5)}
    known |= {f"{abs(x):.1e}" for x in numbers}
    shown = re.findall(r"(?<![\w.])\d+\.\d+(?:e[+-]\d+)?", text)
    assert len(shown) > 100
    assert not [number for number in shown if number not in known]


def test_the_page_is_one_file_that_asks_for_nothing(made):
    page = made.page
    assert len(page) < 10e6
    assert "default-src 'none'" in page
    sources = re.findall(r"<(?:img|script|link|iframe)\b[^>]*?(?:src|href)=\"([^\"]*)\"", page)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert "<h1>A &lt;title&gt;</h1>" in page
    # Texts of users are data, never markup.
    assert "<b>is</b>" not in page
    # In JSON, an ampersand is escaped once more.
    assert r"\u0026lt;b\u0026gt;is\u0026lt;/b\u0026gt;" in page
    assert r"\u003cb\u003eis" not in page
    pictures = sorted(path for path in made.folder.iterdir() if path.suffix in (".png", ".gif"))
    assert len(pictures) == 21
    for path in pictures:
        assert base64.b64encode(path.read_bytes()).decode() in page, path.name


def test_the_figures_are_plain_json(made):
    text = (made.folder / "report.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text


@pytest.mark.slow
@pytest.mark.parametrize("lattice", [Lattice((4,)), Lattice((3, 5), 8)])
def test_flat_lattices_and_pairs_without_labels(lattice, tmp_path):
    model = network(lattice, surface_channels=2)
    pairs = [QAPair(f"{i} what?", "So.") for i in range(8)]
    question = torch.randn(8, WIDTH)
    tiny = Effort(projected=8, probed=8, ablated=2, shuffles=2, sources=1, beyond=4)
    result = study(model, pairs, question, question, {}, effort=tiny)
    assert result.specialisation.found is None
    assert result.computation.found is None
    page = write_report(result, tmp_path).read_text()
    assert "nothing was probed" in page
    assert "there are no training questions" in page
    assert "The lead\nover the adapters alone is not known" in page
    assert not (tmp_path / "loss.png").exists()
    with pytest.raises(ValueError, match="at least 3 held-out pairs, got 2"):
        study(model, pairs[:2], question[:2], question[:2], {})


def test_cells_that_update_at_random_have_one_report():
    cell = GMLPCell(Lattice((3, 3, 3)), channels=4, hidden=8, heads=2, fire_rate=0.5, always_random=True)
    model = CellGraph(cell, in_features=WIDTH, surface_channels=1, num_steps=3).eval()
    randomise(model)
    pairs = [QAPair(f"{i} what?", f"So {i}.") for i in range(8)]
    question = torch.randn(8, WIDTH)
    tiny = Effort(projected=8, probed=8, ablated=2, shuffles=2, sources=1, beyond=4)
    found = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        found.append(plain(study(model, pairs, question, question, {}, training=question, effort=tiny).numbers))
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]


def test_what_is_missing_is_named_before_anything_is_measured(made, tmp_path):
    with pytest.raises(ValueError, match="holds no saved network"):
        report_run(tmp_path, made.pairs, made.embedded, tmp_path / "out")
    made.model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"holds no log of its training: metrics\.csv is missing"):
        report_run(tmp_path, made.pairs, made.embedded, tmp_path / "out")
    (tmp_path / "blocked").touch()
    with pytest.raises(OSError, match="blocked"):
        report_run(tmp_path, made.pairs, made.embedded, tmp_path / "blocked" / "out")


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium to open the page in")
def test_the_page_draws_itself_in_a_browser(made, tmp_path):
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--use-gl=angle",
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
            f"--user-data-dir={tmp_path}",
            "--dump-dom",
            (made.folder / "report.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    dom = done.stdout
    # Remarks on speed: WebGL without a GPU, and Plotly's way to measure text.
    slow = ("GL Driver Message", "willReadFrequently")
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not [line for line in said if not any(remark in line for remark in slow)]
    assert dom.count('class="trace scatter') == 3
    assert "t-SNE" in dom
    assert re.search(r'id="cube-3d"[^>]*class="[^"]*js-plotly-plot', dom)
    assert "<option" in dom.partition('id="cube-view"')[2].partition("</select>")[0]


def test_efforts_too_small_are_named():
    for field in fields(Effort):
        least = {"projected": 3, "probed": 3, "min_count": 5, "fitted": 3, "beyond": 3}.get(field.name, 1)
        assert getattr(Effort(**{field.name: least}), field.name) == least
        for wrong in (least - 1, -1):
            with pytest.raises(ValueError, match=f"^{field.name} must be at least {least}, got {wrong}$"):
                Effort(**{field.name: wrong})
