"""Parts of one's own: anything on one's own command line, nothing out of somebody else's run folder."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from processes import run_inside
from reported import TINY

from cellgraph import RunFolder, load
from cellgraph.cli.own_parts import fit_parts, opened
from cellgraph.configuration import REGISTERED, TRUST, admit, arguments, locate, own_parts, remember

#: A module of a user's: each part leaves a mark where it is made, so that a test sees what was built.
MODULE = """
from pathlib import Path
import torch
from torch import nn
import cellgraph
from cellgraph.automata import Batch, Task as AutomatonTask
from cellgraph.teacher import BaseTeacher

def mark(name):
    with (Path(__file__).parent / "made.txt").open("a") as file:
        file.write(name + "\\n")

class Cell(cellgraph.Cell):
    def __init__(self, lattice, channels=8, *, width=4, **options):
        super().__init__(lattice, channels, **options)
        mark(f"Cell {width}")
        self.width = width
        self.inner, self.outer = nn.Linear(2 * channels, width), nn.Linear(width, channels)
    def perceive(self, x, context=None):
        weight = x.new_ones(self.lattice.num_directions + 1, 1, self.channels)
        return self.neighbour_sum(x, weight) / len(weight)
    def update(self, x, perceived, context=None):
        return self.outer(torch.relu(self.inner(torch.cat([x, perceived], -1))))

class Teacher(BaseTeacher):
    def __init__(self, width=16):
        mark(f"Teacher {width}")
        self.width = width
    def encode(self, texts, *, progress=False):
        rows = torch.zeros(len(texts), self.width)
        for row, text in zip(rows, texts):
            for word in text.split():
                row[sum(word.encode()) % self.width] += 1
        return nn.functional.normalize(rows + 1e-3, dim=1)

class Task(AutomatonTask):
    def __init__(self, side=4, *, channels=4):
        super().__init__(cellgraph.Lattice((side, side)))
        mark(f"Task {side}")
        self.channels = channels
    def sample(self, size, generator):
        return Batch(torch.rand(size, self.lattice.num_nodes, self.channels, generator=generator))
    def loss(self, x, batch):
        return x.square().mean((1, 2))
    def evaluate(self, cell, *, num_steps):
        return {"level": float(self.validate(cell, num_steps=num_steps)["loss"])}

def shortness(predicted, power=2):
    return predicted.embedding.abs().pow(power).mean()

class Centre(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        mark(f"Centre {scale}")
        self.scale = nn.Parameter(torch.tensor(scale))
    def forward(self, predicted):
        return self.scale * predicted.surface.mean().square()
"""

SMALL = (
    *("lattice.shape=[2,4,4]", "model.num_steps=1", "model.surface_channels=1", "adapters_first.max_steps=0"),
    *("training.max_steps=4", "training.val_every=2", "training.batch_size=8", "training.compile=false"),
    *("data=file", "data.source.path=pairs.jsonl", "data.test=8", "data.validation=6", "hydra.run.dir=run"),
)
OWN = (
    *(
        "cell._target_=mine.Cell",
        "cell.channels=6",
        "cell.width=5",
        "teacher._target_=mine.Teacher",
        "teacher.width=12",
    ),
    *("objective.terms.short._target_=mine.shortness", "objective.terms.short.weight=0.5"),
    *("objective.terms.short.power=4", "objective.terms.centre._target_=mine.Centre"),
)


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules of one test are not those of the next, which has another of that name."""
    monkeypatch.delenv(TRUST, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    # What a report measures has tests of its own.
    monkeypatch.setattr("cellgraph.analysis.report.QUICK", TINY)
    yield
    forget()


def forget() -> None:
    """What a new process would not have."""
    from cellgraph.nn import Cell
    from cellgraph.teacher import BaseTeacher

    sys.modules.pop("mine", None)
    sys.path[:] = [place for place in sys.path if "pytest-of-" not in place]
    for kinds in (Cell.kinds, BaseTeacher.kinds):
        for name in [name for name in kinds if name.startswith("mine.")]:
            del kinds[name]


def made(folder: Path) -> set[str]:
    marks = folder / "made.txt"
    found = set(marks.read_text().splitlines()) if marks.exists() else set()
    marks.unlink(missing_ok=True)
    return found


def home(folder: Path) -> Path:
    folder.mkdir()
    (folder / "mine.py").write_text(MODULE)
    rows = [{"question": f"where is {a} {b}", "answer": f"the {a} {b} is here"} for a in "abcdef" for b in "uvwxyz"]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of own parts, and a copy of the run from before any verb went on with it."""
    folder = home(tmp_path_factory.mktemp("own") / "home")
    done = run_inside(folder, "train", *SMALL, *OWN)
    assert done.returncode == 0, done.stderr
    assert made(folder) == {"Cell 5", "Teacher 12", "Centre 1.0"}
    forget()
    shutil.copytree(folder / "run", folder / "copy")
    return folder


@pytest.fixture
def trained(started: Path) -> Path:
    made(started)
    return started


@pytest.mark.slow
def test_a_run_of_own_parts_is_gone_on_with_by_every_verb(trained: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((trained / "run" / "config.yaml").read_text())
    # Of the keys of cell=gmlp and teacher=minilm there are those that the parts take.
    assert {"_target_", "lattice", "channels", "width", "fire_rate", "backend"} <= config["cell"].keys()
    assert config["cell"].keys().isdisjoint({"hidden", "heads", "gate_std", "conveyor"})
    assert config["teacher"] == {"_target_": "mine.Teacher", "width": 12}
    header = (trained / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/short", "train/centre"} <= set(header)
    table = json.loads((trained / "run" / "evaluation.json").read_text())
    for verb in (["evaluate", "run"], ["ask", "run", "where is a u", "--json"], ["report", "run", "--quick"],
                 ["export", "run", "--torch", "x.pt2"], ["info", "run"], ["train", "resume=run"]):  # fmt: skip
        done = run_inside(trained, *verb)
        assert done.returncode == 0, (verb, done.stderr)
        assert "Cell 5" in made(trained), verb
        forget()
    again = json.loads((trained / "run" / "evaluation.json").read_text())
    assert [row["mrr"] for row in again["rows"]] == [row["mrr"] for row in table["rows"]]
    # From elsewhere, too: where the run was started is noted, and what lies here is not taken for it.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "cache").symlink_to(trained / "cache", target_is_directory=True)
    (elsewhere / "mine.py").write_text("raise SystemExit('somebody else is here')")
    done = run_inside(elsewhere, "info", trained / "run")
    assert done.returncode == 0, done.stderr
    assert "mine.Cell" in str(load_kind(trained / "run"))


def load_kind(run: Path) -> Any:
    return json.loads((run / "model" / "config.json").read_text())["cell"]["kind"]


@pytest.mark.parametrize(
    "verb", [["evaluate"], ["ask"], ["report", "--quick"], ["export", "--torch", "x.pt2"], ["info"]]
)
def test_somebody_elses_run_builds_nothing_of_its_own(
    trained: Path, tmp_path: Path, verb: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a report makes of own parts is tested above; here is what is built before.
    monkeypatch.setattr("cellgraph.cli.report.report_run", lambda *given, **options: "not made")
    # It is unpacked where its module lies beside it: that is in reach, and is not touched.
    place = tmp_path / "download"
    place.mkdir()
    shutil.copytree(trained / "copy", place / "run")
    shutil.copy(trained / "mine.py", place)
    arguments = [verb[0], "run", *verb[1:], *(["where is a u"] if verb == ["ask"] else [])]
    done = run_inside(place, *arguments)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert f"set {TRUST}=mine" in done.stderr
    assert "mine.Cell" in done.stderr
    assert made(place) == set()
    assert "mine" not in sys.modules
    done = run_inside(place, *arguments, **{TRUST: "other, mine"})
    assert done.returncode == 0, done.stderr
    assert "Cell 5" in made(place)


def test_another_configuration_than_the_one_started_is_somebody_elses(trained: Path) -> None:
    path = trained / "run" / "config.yaml"
    kept = path.read_text()
    path.write_text(kept.replace("mine.Centre", "mine.mark"))
    done = run_inside(trained, "evaluate", "run")
    path.write_text(kept)
    assert "got _target_: mine.Cell, mine.Teacher, mine.shortness, mine.mark" in done.stderr
    assert made(trained) == set()


def test_what_has_been_imported_is_vouched_for_from_python(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path / "another"))
    with pytest.raises(ValueError, match=r"mine\.Cell"):
        load(trained / "run")
    monkeypatch.syspath_prepend(trained)
    __import__("mine")
    model = load(trained / "run")
    assert type(model.cell.inner).__qualname__ == "Cell"
    # Any other function that happens to be imported is not.
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(ValueError, match=r"got _target_: shutil\.rmtree"):
        admit({"_target_": "shutil.rmtree"}, RunFolder(tmp_path))


def test_an_automaton_of_own_parts_trains_and_loads(tmp_path: Path) -> None:
    folder = home(tmp_path / "home")
    few = ("training.max_steps=3", "training.num_steps=[2,2]", "training.batch_size=4", "training.val_every=3")
    parts = ("task._target_=mine.Task", "task.side=3", "cell._target_=mine.Cell", "cell.channels=4")
    done = run_inside(folder, "train", *parts, *few, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert made(folder) == {"Task 3", "Cell 4"}
    forget()
    done = run_inside(folder, "evaluate", "run")
    assert done.returncode == 0, done.stderr
    assert "level" in done.stdout
    done = run_inside(folder, "automaton", *parts, *few, "hydra.run.dir=other")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["cell._target_=mine.Nothing"], "there is nothing called mine.Nothing: modules are looked for in "),
        (["cell._target_=nowhere.Cell"], "there is nothing called nowhere.Cell"),
        (
            ["cell._target_=mine.Cell", "cell.hidden=3"],
            "cannot build mine.Cell: hidden is no argument of it; there are alive_channel, ",
        ),
        (
            ["cell._target_=mine.Cell", "cell.wdith=3"],
            "cannot build mine.Cell: wdith is no argument of it; there are alive_channel, ",
        ),
        (["cell._target_=mine.Centre"], "cell must be a cellgraph.nn.cell.Cell, got Centre"),
        (["teacher._target_=mine.Centre"], "teacher must have width, fingerprint, fit, encode, save_pretrained"),
        (["objective.terms.x.weight=1"], "the term 'x' must say what it is, as _target_: module.name"),
        (["task._target_=mine.Centre"], "task must be a cellgraph.automata.task.Task, got Centre"),
        (["cell._target_=broken.Cell"], "cannot import broken for broken.Cell: No module named 'not_installed'"),
    ],
)
def test_mistakes_with_own_parts_are_one_line(tmp_path: Path, overrides: list[str], message: str) -> None:
    folder = home(tmp_path / "home")
    (folder / "broken.py").write_text("import not_installed\n")
    width = () if overrides[0].startswith("teacher.") else ("teacher.width=8",)
    small = () if overrides[0].startswith("task.") else ("teacher=lsa", *width, *SMALL)
    done = run_inside(folder, "train", *small, *overrides)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert message in done.stderr
    assert not (folder / "run").exists()


def test_a_library_part_is_registered_by_its_whole_name(tmp_path: Path) -> None:
    # What the library's modules import can be named through them.
    for name in ("cellgraph.cli.os.system", "cellgraph.files.write_atomically", "cellgraph.data.save_pairs"):
        assert own_parts({"a": [{"_target_": name}]}) == [name]
        with pytest.raises(ValueError, match="may only build parts of cellgraph"):
            admit({"_target_": name}, RunFolder(tmp_path))
    assert all(callable(locate(name)) for name in REGISTERED)


def test_what_is_noted_is_of_this_very_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path / "cache"))
    folder = RunFolder.claim(tmp_path / "run", "seed: 0\n")
    part = {"_target_": "fractions.Fraction"}
    with pytest.raises(ValueError, match="Fraction"):
        admit(part, folder)
    remember(folder)
    admit(part, folder)
    folder.config.write_text("seed: 1\n")
    with pytest.raises(ValueError, match="Fraction"):
        admit(part, folder)


def test_keys_of_a_file_go_where_a_part_has_no_use_for_them() -> None:
    class Narrow:
        def __init__(self, path: str, *, limit: int = 3) -> None: ...

    sys.modules["mine"] = type(sys)("mine")
    sys.modules["mine"].Narrow = Narrow  # type: ignore[attr-defined]
    node = {"_target_": "mine.Narrow", "_partial_": True, "path": "x", "question": "q", "answer": "a", "limit": None}
    config = OmegaConf.create({"data": {"source": {**node, "own": 1}, "test": 0.2}})
    fit_parts(config, ["seed=1", "++data.source.answer=b"])
    # What no file of the library has, and what was said, stays: it is the part's to refuse.
    assert set(config.data.source) == {"_target_", "_partial_", "path", "answer", "limit", "own"}
    assert set(config.data) == {"source", "test"}


def test_overrides_beside_a_chosen_part_may_be_new() -> None:
    given = ["cell=nca", "cell._target_=mine.Cell", "cell.width=3", "cellar.x=1", "--cfg", "job", "~cell.norm"]
    assert opened(given) == ["cell=nca", "++cell._target_=mine.Cell", "++cell.width=3", *given[3:]]
    assert opened(["training.lr_multipliers.path=1,2"]) == ["++training.lr_multipliers.path=1,2"]
    assert opened(["training.lr=1"]) == ["training.lr=1"]


def test_arguments_that_are_handed_on_count() -> None:
    from cellgraph import Cell

    class Wide(Cell):
        def __init__(self, lattice: Any, width: int = 3, **options: Any) -> None: ...

    assert {"lattice", "width", "channels", "fire_rate"} <= set(arguments(Wide) or ())
    assert arguments(lambda a, *, b: None) == {"a", "b"}
    assert arguments(lambda a, **rest: None) is None
