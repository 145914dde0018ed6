"""Ctrl-C and SIGTERM in every part of a job: one line, what was kept, how to go on, and the exit status of a shell."""

from __future__ import annotations

import io
import json
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from cellgraph import RunFolder
from cellgraph.cli import main

FAST = (
    "teacher=lsa",
    "teacher.width=12",
    "lattice=small",
    "model.num_steps=3",
    "model.surface_channels=1",
    "cell.channels=8",
    "cell.hidden=16",
    "data=file",
    "training.compile=false",
    "training.max_steps=6",
    "training.val_every=3",
    "training.batch_size=16",
    "training.warmup_steps=2",
    "training.accelerator=cpu",
    "adapters_first.max_steps=5",
    "adapters_first.batch_size=16",
    "data.test=30",
    "data.validation=30",
)
AUTOMATON = ("experiment=majority", "task.width=9", "training.max_steps=6", "training.batch_size=4", "cell.channels=4")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture(scope="module", autouse=True)
def _no_sweep() -> Iterator[None]:
    """Hydra composes all of a configuration once before, to find out whether it is a sweep; none is here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda *given, **options: None)
        yield


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[object, str]]:
    """Runs a command in this process; its exit status and what it printed as an error."""

    def run(*arguments: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["cellgraph", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
        except SystemExit as stop:
            return stop.code, capsys.readouterr().err
        return 0, capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stopping")
    rows = [
        {"question": f"Where is it that the {a} {t} near the {p}?", "answer": f"the {a} {t} by the {p}", "topic": a + p}
        for a in ("heron", "otter", "badger", "falcon", "beetle", "salmon", "spider", "weasel", "magpie", "lizard")
        for p in ("river", "forest", "meadow", "desert", "harbour", "mountain")
        for t in ("eats", "sleeps", "hides")
    ]
    (place / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


@pytest.fixture(autouse=True)
def _here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("CELLGRAPH_CACHE", str(place / "cache"))
    monkeypatch.setenv("COLUMNS", "200")


def job(verb: str, folder: Path | str) -> list[str]:
    given = RunFolder.command(verb, **{"hydra.run.dir": folder})
    settings = [*FAST, "data.source.path=pairs.jsonl"] if verb == "train" else AUTOMATON
    return [verb, *settings, shlex.split(given)[-1]]


def stop_at(monkeypatch: pytest.MonkeyPatch, place: str, signum: int, *, call: int = 1) -> None:
    """Have a signal come at a call of a function."""
    module, _, name = place.rpartition(".")
    owner: Any = sys.modules.get(module)
    if owner is None:
        module, _, cls = module.rpartition(".")
        owner = getattr(sys.modules[module], cls)
    function, calls = getattr(owner, name), []

    def stopped(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(signum)
        return function(*args, **options)

    monkeypatch.setattr(owner, name, stopped)


@pytest.fixture(scope="module")
def whole(place: Path) -> RunFolder:
    """A job that nobody disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("CELLGRAPH_CACHE", str(place / "cache"))
        patch.setattr(sys, "argv", ["cellgraph", *job("train", "whole")])
        main()
    return RunFolder(place / "whole")


def rows(folder: RunFolder) -> list[dict[str, Any]]:
    table = json.loads(folder.evaluation.read_text())["rows"]
    return [{name: value for name, value in row.items() if name != "seconds_train"} for row in table]


#: Where a signal comes, in what call, and what is kept of the job by then.
PARTS = {
    "making the split": ("cellgraph.runs.building.split_pairs", 1, "nothing had been begun"),
    "fitting the teacher": ("cellgraph.teacher.lsa.LSATeacher.fit", 1, "kept in .*: pairs; go on with: "),
    "embedding": ("cellgraph.teacher.cache.EmbeddingCache.embed", 2, "kept in .*: pairs, teacher; go on with: "),
    "the adapters' fit": ("cellgraph.model.CellGraph.fit_adapters", 1, "kept in .*: pairs, teacher; go on with: "),
    "the first stage": (
        "cellgraph.retrieval.lesson.PairLesson.learn",
        2,
        "stopped after update 2, saved .*first.*last",
    ),
    "the updates": (
        "cellgraph.retrieval.lesson.PairLesson.learn",
        8,
        "stopped after update 3, saved .*last.ckpt; go on",
    ),
    "the last update": ("cellgraph.retrieval.lesson.PairLesson.learn", 11, "stopped after update 6, saved .*last.ckpt"),
    "a baseline": ("cellgraph.retrieval.lesson.PairLesson.learn", 14, "stopped after update 3, saved .*adapters alone"),
    "the evaluation": (
        "cellgraph.retrieval.question_answering.evaluate",
        1,
        "the trained model is in .*; go on with: ",
    ),
    "the table": (
        "cellgraph.retrieval.question_answering.save_evaluation",
        1,
        "the trained model is in .*; go on with",
    ),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_job_stopped_in_any_part_goes_on_as_it_says(
    part: str,
    place: Path,
    whole: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    told: Callable[..., tuple[object, str]],
) -> None:
    target, call, message = PARTS[part]
    signum = list(CODES)[list(PARTS).index(part) % 2]
    # A path that neither a shell nor Hydra takes as it is.
    folder = RunFolder(place / "my runs" / f"{part}, lr=1 [a]")
    with monkeypatch.context() as patch:
        stop_at(patch, target, signum, call=call)
        code, err = told(*job("train", folder.path))
    assert code == CODES[signum]
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith("update ")]
    assert len(lines) == 1, err
    assert re.search(message, lines[0]), lines[0]
    if "go on with: " in lines[0]:
        command = shlex.split(lines[0].partition("go on with: ")[2])
        assert command[0] == "cellgraph"
        code, err = told(*command[1:])
        assert code == 0, err
    else:
        assert not folder.path.exists()
        code, err = told(*job("train", folder.path))
        assert code == 0, err
    assert rows(folder) == rows(whole)
    weights, others = load_file(folder.model / "model.safetensors"), load_file(whole.model / "model.safetensors")
    assert all((weights[name] == others[name]).all() for name in others)


def test_verbs_that_read_a_run_say_to_do_it_again(
    whole: RunFolder, monkeypatch: pytest.MonkeyPatch, told: Callable[..., tuple[object, str]]
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, "cellgraph.retrieval.question_answering.evaluate", signal.SIGTERM)
        code, err = told("evaluate", whole)
    assert (code, err) == (
        143,
        f"cellgraph evaluate: stopped by SIGTERM; nothing is lost, go on with: cellgraph evaluate {whole}\n",
    )


def test_a_conversation_from_a_pipe(
    whole: RunFolder, monkeypatch: pytest.MonkeyPatch, told: Callable[..., tuple[object, str]]
) -> None:
    class Pipe(io.StringIO):
        def __next__(self) -> str:
            line = super().__next__()
            if line.startswith("stop"):
                signal.raise_signal(signal.SIGINT)
            return line

    monkeypatch.setattr(sys, "stdin", Pipe("Where is the otter?\nstop\nWhere is the heron?\n"))
    code, err = told("ask", whole)
    assert code == 130
    assert err.splitlines()[-1] == (
        f"cellgraph ask: stopped by Ctrl-C; nothing is lost, go on with: cellgraph ask {whole}"
    )


AUTOMATON_PARTS = {
    "an update": ("cellgraph.automata.lesson.AutomatonLesson.learn", 3, "stopped after update 3, saved "),
    "the figures": ("cellgraph.automata.tasks.majority.Majority.evaluate", 1, "the trained model is in "),
    "the pictures": ("cellgraph.automata.tasks.majority.Majority.draw", 1, "the trained model is in "),
}


@pytest.fixture(scope="module")
def grown(place: Path) -> dict[str, float]:
    """The figures of an automaton that nobody disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(sys, "argv", ["cellgraph", *job("automaton", "grown")])
        main()
    return dict(json.loads((place / "grown" / "evaluation.json").read_text())["held_out"])


@pytest.mark.parametrize("part", AUTOMATON_PARTS)
def test_an_automaton_goes_on_too(
    part: str,
    place: Path,
    grown: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    told: Callable[..., tuple[object, str]],
) -> None:
    target, call, message = AUTOMATON_PARTS[part]
    folder = RunFolder(place / f"automaton {part}")
    with monkeypatch.context() as patch:
        stop_at(patch, target, signal.SIGTERM, call=call)
        code, err = told(*job("automaton", folder.path))
    assert code == 143
    assert message in err
    command = shlex.split(err.partition("go on with: ")[2])
    assert told(*command[1:])[0] == 0
    assert json.loads(folder.evaluation.read_text())["held_out"] == grown
    assert (folder.path / "majority.png").exists()
