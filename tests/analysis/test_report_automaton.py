"""The report of an automaton: figures that can be worked out by hand, and a page that says no others."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
import torch

from cellgraph import Cell, Graph, Lattice
from cellgraph.analysis.report import report_automaton
from cellgraph.automata import Automaton, Batch, Task


class Doubling(Cell):
    """Doubles what is there, but nothing that stands in the last cell."""

    def __init__(self, lattice):
        super().__init__(lattice, 2)
        self.by = torch.nn.Parameter(torch.tensor([[1.0], [3.0]]))

    def perceive(self, x, context=None):
        return None

    def update(self, x, perceived, context=None):
        free = torch.ones(x.size(1), 1)
        free[-1] = 0
        return free * x


class Half(Task):
    """Every value starts at a half; nothing is drawn and nothing held out."""

    def sample(self, size, generator):
        return Batch(torch.full((size, self.lattice.num_nodes, 2), 0.5))

    def loss(self, x, batch):
        return x.square().mean((1, 2))


@pytest.fixture(params=[Lattice((4,)), Graph(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]))], ids=["lattice", "graph"])
def page(request, tmp_path: Path) -> Path:
    log = "step,seconds,train/loss,train/lr,val/loss,val/right\n10,1,2.5,0.125,,\n20,2,1.5,0.0625,1.25,0.75\n"
    (tmp_path / "metrics.csv").write_text(log)
    (tmp_path / "evaluation.json").write_text(json.dumps({"held_out": {"kept": 0.375, "lost": None}}))
    task = Half(request.param)
    model = Automaton(Doubling(task.lattice), task).eval()
    return report_automaton(model, tmp_path, tmp_path / "report", num_steps=3, quick=True)


def test_the_figures_are_those_of_the_automaton(page: Path) -> None:
    figures = json.loads((page.parent / "report.json").read_text())
    rollout = figures["trajectory"]
    # Three of four cells double from a half: their squares are 4^t / 4.
    sizes = [((3 * 4**step / 4 + 0.25) / 4) ** 0.5 for step in range(7)]
    assert rollout["size"] == pytest.approx(sizes)
    assert rollout["change"] == pytest.approx([(3 * 4**t / 4) ** 0.5 / sizes[t + 1] / 2 for t in range(6)])
    assert rollout["growth"] == pytest.approx((sizes[-1] / sizes[0]) ** (1 / 6))
    assert (rollout["samples"], rollout["num_steps"]) == (2, 6)
    shares = {name: rollout[name] for name in ("saturated", "dead", "settled", "oscillating")}
    assert shares == {"saturated": 0.75, "dead": 0.25, "settled": 0.0, "oscillating": 0.0}
    assert figures["parameters"] == {
        "cell.by": {"shape": [2, 1], "values": 2, "mean": 2.0, "std": 1.0, "largest": 3.0},
    }
    assert figures["training"]["curves"]["train/loss"]["least"] == 1.5
    assert figures["held_out"] == {"kept": 0.375, "lost": None}
    assert figures["automaton"]["dynamics"]["fire_rate"] == 1.0


def test_every_number_on_the_page_stands_among_the_figures(page: Path) -> None:
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", page.read_text(), flags=re.S)
    text = html.unescape(re.sub(r"<[^>]*>", " ", text.partition("<main>")[2].partition("</main>")[0]))
    numbers: list[float] = []

    def collect(value: object) -> None:
        if isinstance(value, (dict, list)):
            any(map(collect, value.values() if isinstance(value, dict) else value))
        elif isinstance(value, (int, float)):
            numbers.extend([value, 100 * value])

    collect(json.loads((page.parent / "report.json").read_text()))
    known = {f"{abs(x):.{digits}f}" for x in numbers for digits in range(5)} | {f"{abs(x):.1e}" for x in numbers}
    shown = re.findall(r"(?<![\w.])\d+\.\d+(?:e[+-]\d+)?", text)
    assert len(shown) > 15
    assert not [number for number in shown if number not in known]
    for picture in ("trajectory.png", "loss.png", "validation.png"):
        assert (page.parent / picture).stat().st_size > 0
    assert page.read_text().count("<img") == 3


def test_a_run_without_a_log_is_told(tmp_path: Path) -> None:
    task = Half(Lattice((4,)))
    with pytest.raises(ValueError, match=r"holds no log of its training: metrics\.csv is missing"):
        report_automaton(Automaton(Doubling(task.lattice), task), tmp_path, tmp_path / "report", num_steps=3)
