"""The command line, in processes of its own: the whole job, its files, its errors and its interruptions."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from processes import command, environment, run, run_inside

from cellgraph.training import used_precision

FAST = (
    "teacher=lsa",
    "teacher.width=16",
    "lattice=small",
    "model.num_steps=3",
    "model.surface_channels=1",
    "cell.channels=8",
    "cell.hidden=16",
    "data=file",
    "training.compile=false",
    "training.max_steps=12",
    "training.val_every=4",
    "training.checkpoint_every=2",
    "training.batch_size=16",
    "training.warmup_steps=2",
    "adapters_first.max_steps=5",
    "adapters_first.batch_size=16",
    "data.test=40",
    "data.validation=20",
)

ANIMALS = ["heron", "otter", "badger", "falcon", "beetle", "salmon", "spider", "weasel", "magpie", "lizard"]
PLACES = ["river", "forest", "meadow", "desert", "harbour", "mountain", "orchard", "cellar"]
TOPICS = ["eats", "sleeps", "hunts", "hides"]


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """320 pairs about animals and places, a topic for each animal and place."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [
        {"question": f"Where is it that the {a} {t} near the {p}?", "answer": f"the {a} {t} by the {p}", "topic": a + p}
        for a in ANIMALS
        for p in PLACES
        for t in TOPICS
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, pairs: Path) -> tuple[Path, str]:
    """A run folder of the whole job, and what was printed."""
    folder = tmp_path_factory.mktemp("job")
    done = run(folder, "train", *FAST, f"data.source.path={pairs}", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout


def test_the_run_folder_is_complete(finished: tuple[Path, str]) -> None:
    run_folder, printed = finished
    for name in ("config.yaml", "evaluation.json", "evaluation.md", "loss.png", "similarity.png"):
        assert (run_folder / name).stat().st_size > 0
    assert (run_folder / "model" / "model.safetensors").is_file()
    assert list((run_folder / "tensorboard").rglob("events.out.tfevents*"))
    steps = [int(row["step"]) for row in csv.DictReader((run_folder / "metrics.csv").open())]
    assert steps[-1] == 12
    assert "Held-out pairs" in printed


def test_the_precision_of_auto_is_told_and_kept(finished: tuple[Path, str]) -> None:
    kept = yaml.safe_load((finished[0] / "config.yaml").read_text())["training"]["precision"]
    assert kept == used_precision("auto")
    assert f"precision: {kept}\n" in finished[1]


def test_the_table_has_every_row_and_column(finished: tuple[Path, str]) -> None:
    table = json.loads((finished[0] / "evaluation.json").read_text())
    names = [row["name"] for row in table["rows"]]
    assert names == [
        "BM25",
        "adapters alone + BM25",
        "lattice + BM25",
        "mean answer",
        "identity (raw)",
        "identity (centred)",
        "Procrustes",
        "ridge",
        "kernel ridge",
        "nearest questions",
        "adapters alone",
        "linear + MLP",
        "lattice",
    ]
    wanted = {"cosine_surface", "cosine_teacher", "cosine_centred", "recall_at_1", "recall_at_5", "recall_at_10"}
    wanted |= {"mrr", "mrr_low", "mrr_high", "parameters", "pairs_train", "pairs_test", "seconds_train", "trials"}
    for row in table["rows"]:
        assert wanted <= row.keys()
        assert row["mrr_low"] <= row["mrr"] <= row["mrr_high"]
    assert table["pairs_train"] == table["rows"][0]["pairs_train"]
    mlp, lattice = table["rows"][-2:]
    assert mlp["parameters"] == pytest.approx(lattice["parameters"], rel=0.03)


def test_no_topic_question_or_answer_crosses(finished: tuple[Path, str]) -> None:
    parts = {}
    for part in ("train", "validation", "test"):
        lines = (finished[0] / "pairs" / f"{part}.jsonl").read_text().splitlines()
        parts[part] = [json.loads(line) for line in lines]
    assert [len(rows) for rows in parts.values()] == [260, 20, 40]
    for column in ("question", "answer", "topic"):
        seen = [{row[column] for row in rows} for rows in parts.values()]
        assert len(set.union(*seen)) == sum(map(len, seen))


def test_evaluate_gives_the_same_table_again(finished: tuple[Path, str]) -> None:
    run_folder = finished[0]
    before = json.loads((run_folder / "evaluation.json").read_text())
    done = run_inside(run_folder.parent, "evaluate", "run")
    assert done.returncode == 0, done.stderr
    after = json.loads((run_folder / "evaluation.json").read_text())
    assert 0 < after["rows"][-1]["seconds_train"] <= before["rows"][-1]["seconds_train"]
    for row, again in zip(before["rows"], after["rows"], strict=True):
        assert {k: v for k, v in row.items() if k != "seconds_train"} == pytest.approx(
            {k: v for k, v in again.items() if k != "seconds_train"}
        )


def test_info_and_help(finished: tuple[Path, str]) -> None:
    folder = finished[0].parent
    assert re.search(r"^backends: auto, .*scatter$", run_inside(folder, "info").stdout, re.M)
    assert "gmlp: " in run_inside(folder, "info", "run").stdout
    assert "cellgraph evaluate" in run(folder, "--help").stdout
    assert "lattice: cube, small" in run_inside(folder, "train", "--help").stdout
    assert "_target_: cellgraph.GMLPCell" in run_inside(folder, "train", "--cfg", "job").stdout


@pytest.mark.parametrize("verb", ["automaton", "train"])
@pytest.mark.parametrize(
    "shown", [("task=majority", "seed=3", "--cfg", "job"), ("--cfg", "job", "task=majority", "seed=3")]
)
def test_an_automatons_configuration_is_shown_wherever_that_is_asked_for(
    tmp_path: Path, verb: str, shown: tuple[str, ...]
) -> None:
    done = run_inside(tmp_path, verb, *shown)
    assert not done.returncode, done.stderr
    shown_config = yaml.safe_load(done.stdout)
    assert shown_config["seed"] == 3
    assert shown_config["cell"]["_target_"] == "cellgraph.nn.NCACell"


@pytest.mark.slow
def test_export_writes_a_program(finished: tuple[Path, str], tmp_path: Path) -> None:
    done = run_inside(tmp_path, "export", finished[0], "--torch", "cube.pt2")
    assert done.returncode == 0, done.stderr
    assert "cube.pt2: " in done.stdout
    assert "question -> embedding, surface, query, differs by at most " in done.stdout
    assert (tmp_path / "cube.pt2").is_file()
    done = run_inside(tmp_path, "export", finished[0])
    assert done.returncode == 2
    assert "expected --onnx FILE, --torch FILE or both" in done.stderr


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, pairs: Path, finished: tuple[Path, str]) -> None:
    arguments = ("train", *FAST, f"data.source.path={pairs}", "hydra.run.dir=run")
    process = subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 240
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "model").exists(), "the run was over before it could be killed"
    done = run(tmp_path, "train", "resume=run")
    assert done.returncode == 0, done.stderr
    resumed = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    assert resumed == (finished[0] / "model" / "model.safetensors").read_bytes()


def test_a_sweep_runs_every_job(tmp_path: Path, pairs: Path) -> None:
    done = run_inside(tmp_path, "train", "-m", *FAST, f"data.source.path={pairs}", "hydra.sweep.dir=sweep", "seed=0,1")
    assert done.returncode == 0, done.stderr
    tables = [json.loads((tmp_path / "sweep" / job / "evaluation.json").read_text()) for job in ("0", "1")]
    assert tables[0]["rows"][-1]["cosine_teacher"] != tables[1]["rows"][-1]["cosine_teacher"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plugin", "arguments"),
    [
        ("hydra_joblib_launcher", ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1")),
        ("hydra_submitit_launcher", ("hydra/launcher=submitit_local", "seed=0,1")),
        ("hydra_ray_launcher", ("hydra/launcher=ray", "seed=0,1")),
        (
            "hydra_optuna_sweeper",
            ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "training.lr=interval(1e-4,1e-2)"),
        ),
    ],
)
def test_a_sweep_runs_by_every_plugin_and_makes_a_study(
    tmp_path: Path, pairs: Path, plugin: str, arguments: tuple[str, ...]
) -> None:
    pytest.importorskip(f"hydra_plugins.{plugin}")
    given = (
        *FAST,
        f"data.source.path={pairs}",
        "training.max_steps=2",
        "training.val_every=1",
        "hydra.sweep.dir=sweep",
    )
    done = run_inside(tmp_path, "train", "-m", *arguments, *given)
    assert done.returncode == 0, done.stderr
    assert run_inside(tmp_path, "study", "sweep").returncode == 0
    assert json.loads((tmp_path / "sweep" / "study" / "study.json").read_text())["runs"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["fly"],
            "expected one of train, automaton, evaluate, report, study, ask, serve, fit-decoder, embed, export, data, "
            "bench, info, got 'fly'",
        ),
        (["train", "nonsense=1"], "Could not override 'nonsense'"),
        (["train", "training.lrr=1"], "Could not override 'training.lrr'"),
        (["train", "lattice=huge"], "Could not find 'lattice/huge' Available options in 'lattice': cube small"),
        (["train", "data=file"], "a value is missing: give data.source.path=..."),
        (["train", "data=file", "data.source.path=no.jsonl"], "no.jsonl"),
        (["train", "resume=nowhere"], "cellgraph train: nowhere is no run folder of cellgraph: config.yaml is missing"),
        (
            ["train", "resume=run", "hydra.run.dir=other"],
            "goes on in its own folder, run: leave out hydra.run.dir=other",
        ),
        (["train", "resume=run", "sweep=shapes"], "a sweep starts new runs; go on with each by itself: "),
        (["train", "kind=automaton"], "give experiment=NAME or task=NAME, see cellgraph automaton"),
        (["train", "seed=-1"], "seed must be one of 0 to 4294967295, got -1"),
        (["train", "training.lr=abc"], "training setting lr must be a number, got 'abc'"),
        (["train", "control_trials.mlp.width=[3]"], "under mlp hidden, layers, dropout, or under obj"),
        (["train", "cell.heads=7"], "heads divide hidden, got 64, 128, 7"),
        (["evaluate", "nowhere"], "nowhere is no run folder"),
        (["export", "nowhere", "--torch", "x.pt2"], "is no run folder of cellgraph: config.yaml is missing"),
        (["info", "nowhere"], "is no run folder of cellgraph: config.yaml is missing"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run_inside(tmp_path, *arguments)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert message in lines[0]
    left = [path for path in tmp_path.rglob("*") if path.is_file() and "cache" not in path.parts]
    assert not left, "nothing is left behind but what is kept for any run"


def test_a_mistake_that_shows_after_the_split_is_put_right_in_the_same_folder(tmp_path: Path, pairs: Path) -> None:
    given = ["train", *FAST, f"data.source.path={pairs}", "hydra.run.dir=run"]
    wrong = run_inside(tmp_path, *given, "teacher.width=5000")
    assert wrong.returncode != 0
    assert "5000" in wrong.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_is_printed_for_no_reader_ends_quietly() -> None:
    """As after ``| head``."""
    for arguments in (["--help"], ["info"]):
        with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.stderr is not None
            assert process.stderr.read() == b""
        assert process.returncode == 1


def test_bad_data_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "columns.csv").write_text("frage,antwort\nWho?,Me\n")
    for name, message in (("empty.jsonl", "empty"), ("columns.csv", "question")):
        done = run_inside(tmp_path, "train", "teacher=lsa", "data=file", f"data.source.path={name}")
        assert done.returncode != 0
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert message in done.stderr


def test_a_foreign_configuration_builds_nothing_else(tmp_path: Path, finished: tuple[Path, str]) -> None:
    (tmp_path / "run").mkdir()
    text = (finished[0] / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(text.replace("cellgraph.GMLPCell", "os.system"))
    done = run_inside(tmp_path, "evaluate", "run")
    assert done.returncode != 0
    told = "may only build parts of cellgraph, as you have not started this run here, got _target_: os.system"
    assert done.stderr.strip().endswith(told)  # and no word of trusting it


def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, finished: tuple[Path, str]) -> None:
    import shutil

    shutil.copytree(finished[0], tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    done = run_inside(tmp_path, "train", "resume=run")
    assert done.returncode != 0
    assert "last.ckpt" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_report_shows_what_was_learned(finished):
    folder = finished[0]
    done = run_inside(folder.parent, "report", folder, "--quick", "--out", folder.parent / "shown")
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout.replace("\n", "")
    figures = json.loads((folder.parent / "shown" / "report.json").read_text())
    assert figures["network"]["shape"] == [4, 8, 8]
    assert (folder.parent / "shown" / "report.html").stat().st_size > 1e6
