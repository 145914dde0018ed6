"""The report: its figures against independent computations, its page against its figures, and the page in a browser."""

from __future__ import annotations

import base64
import csv
import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.analysis.plots import read_metrics
from cellgraph.analysis.report import Effort, Study, report_run, study, write_report
from cellgraph.analysis.report.patterns import ALL_BUT_TRANSPORT, EVERYTHING, claims
from cellgraph.analysis.report.subject import evenly
from cellgraph.analysis.states import advance, initial_state, new_network, walk
from cellgraph.data import QAPair
from cellgraph.training import EmbeddedPairs

TINY = Effort(
    projected=40,
    probed=60,
    min_count=10,
    controls=2,
    ablated=6,
    tangents=64,
    sources=2,
    shuffles=9,
    beyond=16,
)

WIDTH = 18
WORDS = ("What", "How", "Why")


def network(lattice: Lattice, **options) -> CellGraph:
    ends = {1: ("left", "right"), 2: ("top", "bottom"), 3: ("front", "back")}[lattice.dim]
    model = CellGraph(
        GMLPCell(lattice, channels=4, hidden=8, heads=2),
        teacher_width=WIDTH,
        input_nodes=ends[0],
        output_nodes=ends[1],
        num_steps=3,
        **options,
    )
    with torch.no_grad():
        for weight in model.cell.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model.eval()


def some_pairs(count: int) -> tuple[list[QAPair], EmbeddedPairs]:
    """Pairs whose embeddings hold their topic and the question's first word."""
    texts = [
        QAPair(f"{WORDS[i % 3]} <b>is</b> thing {i}?", f"An answer & {i}.", topic=f"{'ab'[i % 2]}.{i // 4}")
        for i in range(count)
    ]
    kind = torch.nn.functional.one_hot(torch.arange(count) % 3, WIDTH) + torch.nn.functional.one_hot(
        5 + torch.arange(count) % 2, WIDTH
    )
    question = 2 * kind + 0.5 * torch.randn(count, WIDTH)
    return texts, EmbeddedPairs(question, question + 0.3 * torch.randn(count, WIDTH))


def write_log(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["step", "seconds", "train/loss", "train/grad_norm", "train/lr", "train/temperature", "val/cosine"]
        )
        writer.writerows([[10, 1.5, 2.5, 3.25, 0.001, 0.05, ""], [20, 3.0, 1.25, 4.5, 0.0005, 0.04, 0.625]])


@dataclass
class Made:
    folder: Path
    model: CellGraph
    pairs: list[QAPair]
    embedded: EmbeddedPairs
    study: Study

    @property
    def figures(self) -> dict:
        return json.loads((self.folder / "report.json").read_text())

    @property
    def page(self) -> str:
        return (self.folder / "report.html").read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("report")
    write_log(folder / "metrics.csv")
    # As wide as the embeddings are: the adapters lose nothing.
    model = network(Lattice((3, 3, 6)))
    pairs, embedded = some_pairs(60)
    result = study(model, pairs, embedded.question, embedded.answer, read_metrics(folder / "metrics.csv"), effort=TINY)
    write_report(result, folder, title="A <title>")
    return Made(folder, model, pairs, embedded, result)


def mrr(similarity: np.ndarray) -> float:
    own = np.diag(similarity)[:, None]
    return float((1 / (similarity >= own).sum(1)).mean())


def test_figures_of_the_embeddings(made):
    found, some = made.figures["embeddings"], evenly(60, 40)
    question, answer = made.embedded.question[some], made.embedded.answer[some]
    with torch.no_grad():
        adapters = made.model.answer_adapter.decode(made.model.question_adapter.encode(question))
        lattice = made.model(question).embedding
    for name, x in (("question", question), ("adapters", adapters), ("lattice", lattice)):
        similarity = cosine_similarity(x.double(), answer.double())
        others = similarity[~np.eye(40, dtype=bool)]
        values = np.linalg.eigvalsh(np.cov(x.double().numpy(), rowvar=False))
        wanted = {
            "own": np.diag(similarity).mean(),
            "other": others.mean(),
            "contrast": (np.diag(similarity).mean() - others.mean()) / others.std(ddof=1),
            "mrr": mrr(similarity),
            "dimensions": values.sum() ** 2 / (values**2).sum(),
        }
        assert found["cosines"][name] == pytest.approx(wanted, rel=1e-4), name
    assert found["adapters_to_lattice"] == pytest.approx(
        np.diag(cosine_similarity(adapters.double(), lattice.double())).mean(), abs=1e-5
    )
    everything = torch.cat([question, lattice, answer]).double().numpy()
    variance = np.linalg.svd(everything - everything.mean(0), compute_uv=False) ** 2
    assert found["pca_explained"] == pytest.approx((variance / variance.sum())[:2].tolist(), rel=1e-3)


def test_figures_of_the_specialisation(made):
    found = made.figures["specialisation"]
    assert found["questions"] == 60
    assert sorted(found["labels"]["topic"]["classes"]) == ["a", "b"]
    assert sorted(found["labels"]["question type"]["classes"]) == ["how", "what", "why"]
    for name, chance in (("topic", 1 / 2), ("question type", 1 / 3)):
        label = found["labels"][name]
        layers = np.array(label["layers"])
        assert label["chance"] == pytest.approx(chance)
        assert label["questions"] == 60
        assert label["best"]["accuracy"] == layers.max() == layers[label["best"]["step"], label["best"]["layer"]]
        # What is asked stands in the embeddings, and ahead of the front there is nothing.
        assert label["embedding"] > 0.95
        assert layers[0, 1:].tolist() == pytest.approx([chance] * 2, abs=0.05)
        assert label["control_mean"] == pytest.approx(chance, abs=0.15)
        probe = made.study.specialisation.found.cells[name]
        assert label["cells_selectivity"]["mean"] == pytest.approx(label["cells_mean"] - label["cells_control_mean"])
        assert label["cells_best"] == pytest.approx(float(probe.accuracy.max()))
    states = torch.stack(list(walk(made.model, made.embedded.question)))
    for step, layer in ((0, 0), (2, 1), (3, 2)):
        flat = states[step][:, made.model.lattice.layer == layer].flatten(1).double().numpy()
        values = np.linalg.svd(flat - flat.mean(0), compute_uv=False) ** 2
        wanted = values.sum() ** 2 / (values**2).sum()
        assert found["layer_dimensions"][step][layer] == pytest.approx(wanted, rel=1e-3)


def test_figures_of_the_ablation(made):
    found = made.figures["ablation"]
    assert (found["questions"], found["candidates"]) == (6, 60)
    asked = evenly(60, 6)
    question, answer = made.embedded.question[asked], made.embedded.answer[asked].double().numpy()
    bank = made.embedded.answer.double().numpy()

    def scores(prediction: torch.Tensor) -> tuple[float, float]:
        p = prediction.double().numpy()
        distance = 1 - np.diag(cosine_similarity(p - bank.mean(0), answer - bank.mean(0))).mean()
        similarity = cosine_similarity(p, bank)
        own = similarity[np.arange(6), asked.numpy()][:, None]
        return distance, float((1 / (similarity >= own).sum(1)).mean())

    @torch.no_grad()
    def without_layer(layer: int) -> torch.Tensor:
        gone = made.model.lattice.layer == layer
        x = initial_state(made.model, question)
        x[:, gone] = 0
        for _ in range(3):
            x = advance(made.model, x)
            x[:, gone] = 0
        surface = made.model.output_surface.extract(x) / made.model.conveyor.gain(3)
        return made.model.answer_adapter.decode(surface)

    with torch.no_grad():
        whole = scores(made.model(question).embedding)
    silent = {cost["name"]: cost for cost in found["costs"] if cost["kind"] == "silent"}
    assert len(found["costs"]) == 2 * (3 + 9)
    for layer in range(2):
        wanted = scores(without_layer(layer))
        assert silent[f"layer {layer}"]["loss"] == pytest.approx(wanted[0] - whole[0], abs=1e-4)
        assert silent[f"layer {layer}"]["mrr"] == pytest.approx(whole[1] - wanted[1], abs=1e-4)


def test_figures_of_the_influence(made):
    found, model = made.figures["influence"], made.model
    shown = made.embedded.question[30:31]
    surface = model.question_adapter.encode(shown)[0].detach()

    def answer(surface: torch.Tensor) -> torch.Tensor:
        x = model.input_surface.inject(surface[None], num_channels=4)
        for _ in range(3):
            x = advance(model, x)
        return model.output_surface.extract(x)[0] / model.conveyor.gain(3)

    # One channel a surface cell: the blocks are single numbers.
    jacobian = torch.autograd.functional.jacobian(answer, surface).T.abs().double()
    positions = model.lattice.positions
    apart = (positions[model.input_surface.index][:, None] - positions[model.output_surface.index])[..., 1:].abs()
    reached = 2 + apart.sum(-1) <= 3
    assert found["pairs_in_reach"] == int(reached.sum())
    assert found["pairs"] == 18 * 18
    assert found["input_cells_looked_at"] == 18
    assert float(jacobian[~reached].max()) == 0
    assert found["influence_in_reach"] == pytest.approx(float(jacobian[reached].mean()), rel=1e-4)
    assert found["largest"] == pytest.approx(float(jacobian.max()), rel=1e-4)
    weight, square = jacobian.square(), apart.double().square().sum(-1)
    radius = ((weight * square).sum(0) / weight.sum(0)).sqrt().mean()
    assert found["receptive_radius"] == pytest.approx(float(radius), rel=1e-4)
    hears = reached.sum(0).double()
    assert found["inputs_heard_by_an_output"] == {
        "mean": pytest.approx(float(hears.mean())),
        "least": float(hears.min()),
        "most": float(hears.max()),
    }
    hops = [model.lattice.hops(torch.arange(54) == node) for node in made.study.influence.spread.sources]
    in_time = sum(int((far <= 3).sum()) for far in hops)
    assert found["cells_in_time"] == found["arrivals"] == found["arrivals_at_graph_distance"] == in_time
    assert found["arrivals_out_of_reach"] == 0
    assert np.shape(found["directions"]) == (3, 7)


def test_figures_of_the_patterns(made):
    found = made.figures["patterns"]
    states = torch.stack([x[0] for x in walk(made.model, made.embedded.question[30:31], num_steps=19)]).double()
    for step in (0, 2, 18):
        change = float((states[step + 1] - states[step]).norm() / states[step].norm())
        assert found["relative_change"]["trained"][step] == pytest.approx(change, rel=1e-3, abs=1e-6)
    curves = states[:4].square().mean(-1).sqrt()
    changes = np.abs(np.diff(curves.numpy(), axis=0)).argmax(0)
    layer = made.model.lattice.layer.numpy()
    assert found["wave"]["correlation"] == pytest.approx(np.corrcoef(changes, layer)[0, 1], abs=1e-6)
    assert found["observed"]["wave"] == found["wave"]["correlation"]
    assert found["wave"]["cells_per_step"] == pytest.approx(np.polyfit(changes, layer, 1)[0], abs=1e-6)
    assert sum(found["clusters"]["cells"]) == 54
    for kind, rows in found["against"].items():
        comparison = made.study.patterns.comparisons[kind]
        for name, row in rows.items():
            null = comparison.null[name].numpy()
            assert len(null) == found["shuffles"] == 9
            as_much = sum(not value < found["observed"][name] for value in null)
            assert row["p"] == pytest.approx((1 + as_much) / 10)
            assert row["mean"] == pytest.approx(null[np.isfinite(null)].mean())
            assert row["std"] == pytest.approx(null[np.isfinite(null)].std(ddof=1))
        # Benjamini and Hochberg: each p times their number over its rank, no larger than that of the next.
        p = np.array([row["p"] for row in rows.values()])
        q, least = np.empty(5), 1.0
        for rank, index in sorted(enumerate(np.argsort(p), start=1), reverse=True):
            least = q[index] = min(least, p[index] * 5 / rank)
        assert [row["q"] for row in rows.values()] == pytest.approx(q.tolist())


def test_figures_of_the_training(made):
    found = made.figures
    assert found["training"]["curves"]["train/loss"] == {
        "first": 2.5, "last": 1.25, "least": 1.25, "least_at": 20, "most": 2.5, "most_at": 10,
    }  # fmt: skip
    assert found["training"]["curves"]["train/grad_norm"]["most"] == 4.5
    cell, stencil = made.model.cell, found["training"]["stencil"]
    assert stencil["transport"] == pytest.approx(cell.transport.detach().mean((1, 2)).tolist())
    assert np.array(stencil["gate"]) == pytest.approx(cell.gate_weight[:, 0].T.detach().numpy())
    assert found["network"]["cells"] == 54
    assert found["network"]["edges"] == 2 * (2 * 18 + 3 * 2 * 6 + 3 * 3 * 5)


def test_a_new_network_keeps_the_adapters_alone(made):
    fresh = new_network(made.model)
    assert torch.equal(fresh.question_adapter.encoder.weight, made.model.question_adapter.encoder.weight)
    assert float(fresh.cell.out_weight.abs().max()) == 0
    question = made.embedded.question[:2]
    with torch.no_grad():
        plain = fresh.answer_adapter.decode(fresh.question_adapter.encode(question))
        torch.testing.assert_close(fresh(question).embedding, plain, atol=1e-5, rtol=1e-4)


def test_claims_need_all_three_controls(made):
    def claim(all_shuffled: float, kept: float, new: float) -> str:
        q = {EVERYTHING: all_shuffled, ALL_BUT_TRANSPORT: kept}
        comparisons = {
            kind: type(old)(dict.fromkeys(old.observed, 1.0), old.null, old.p, dict.fromkeys(old.q, q[kind]))
            for kind, old in made.study.patterns.comparisons.items()
        }
        return claims(comparisons, dict.fromkeys(made.study.patterns.new, new))["wave"].split(":")[0]

    assert claim(0.01, 0.01, 0.5) == "learned"
    assert claim(0.01, 0.01, 1.0) == "built in"
    assert claim(0.01, 0.60, 0.5) == "made by the transport"
    assert claim(0.60, 0.01, 0.5) == "no claim"
    found = made.figures["patterns"]
    for name, words in found["claims"].items():
        beyond = [found["against"][kind][name]["q"] <= 0.05 for kind in (EVERYTHING, ALL_BUT_TRANSPORT)]
        more = found["observed"][name] > found["new"][name]
        assert words.startswith("learned") == (all(beyond) and more)


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
    flow = figures["influence"]
    derived = [
        100 * flow["pairs_in_reach"] / flow["pairs"],
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
    pictures = sorted(path for path in made.folder.iterdir() if path.suffix in (".png", ".gif"))
    assert len(pictures) == 16
    for path in pictures:
        assert base64.b64encode(path.read_bytes()).decode() in page, path.name


def test_the_figures_are_plain_json(made):
    text = (made.folder / "report.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text


@pytest.mark.parametrize("lattice", [Lattice((4,)), Lattice((3, 5), 8)])
def test_flat_lattices_and_pairs_without_labels(lattice, tmp_path):
    model = network(lattice, surface_channels=2)
    pairs = [QAPair(f"{i} what?", "So.") for i in range(8)]
    question = torch.randn(8, WIDTH)
    tiny = Effort(projected=8, probed=8, ablated=2, shuffles=2, sources=1, beyond=4)
    result = study(model, pairs, question, question, {}, effort=tiny)
    assert result.specialisation.found is None
    assert "nothing was probed" in write_report(result, tmp_path).read_text()
    assert not (tmp_path / "loss.png").exists()
    with pytest.raises(ValueError, match="at least 3 held-out pairs, got 2"):
        study(model, pairs[:2], question[:2], question[:2], {})


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
