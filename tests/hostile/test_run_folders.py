"""A run folder from a stranger: its configuration builds nothing, and nothing leads out of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from planted import refused, run_folder

from cellgraph import RunFolder, load
from cellgraph.runs import load_experiment

SHELL = ("os.system", "posix.system", "subprocess.Popen", "builtins.eval", "cellgraph.cli.os.system")


def test_an_honest_run_folder_is_read(tmp_path: Path) -> None:
    # Or what is refused below might be refused for another reason.
    assert load(run_folder(tmp_path / "run")).cell.channels == 4
    load_experiment(tmp_path / "run")


@pytest.mark.parametrize(
    "place", ["model", "teacher", "training", "data", "objective", "cell", "task", "pool", "front"]
)
@pytest.mark.parametrize("target", SHELL)
def test_a_configuration_builds_nothing_but_the_librarys_parts(
    tmp_path: Path, mark: Path, place: str, target: str
) -> None:
    node: Any = {"_target_": target, "_args_": [f"mkdir {mark}"], "command": f"mkdir {mark}"}
    run = run_folder(tmp_path / "run", **{place: {"deeper": [node]} if place == "front" else node})
    assert (
        f"may only build parts of cellgraph, as you have not started this run here, got _target_: {target}"
        in refused(lambda: load_experiment(run))
    )
    if place in ("model", "front"):
        refused(lambda: load(run))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("seed: !!python/object/apply:os.mkdir [{mark}]", "could not determine a constructor"),
        ("!!python/object/new:os.mkdir [{mark}]", "could not determine a constructor"),
        (
            "seed: 0\na0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{10 * f'*a{n - 1},'}]\n" for n in range(1, 40)),
            "line 3 repeats another by an alias",
        ),
        ("seed: " + "[" * 100_000, "recursion"),
        ("seed: 0\nx: " + "{a: " * 5000 + "1" + "}" * 5000, "recursion"),
        ("\0", "special characters"),
    ],
)
def test_a_description_that_is_no_plain_data_is_refused(tmp_path: Path, mark: Path, text: str, reason: str) -> None:
    run = run_folder(tmp_path / "run")
    (run / "config.yaml").write_text(text.replace("{mark}", str(mark)))
    for act in (load, load_experiment):
        message = refused(lambda act=act: act(run))
        assert message.startswith(f"{run / 'config.yaml'} is damaged: ")
        assert reason in message


def test_a_link_that_leads_out_of_a_run_folder_is_refused(tmp_path: Path) -> None:
    private = tmp_path / "private.txt"
    private.write_text("mine")
    for name in (".holder", "loss.png", "metrics.csv", "model/more.json"):
        run = run_folder(tmp_path / "run")
        (run / name).symlink_to(private)
        for act in (load, load_experiment):
            message = refused(lambda act=act, run=run: act(run))
            assert f"{run / name} leads out of the run folder" in message
        shutil.rmtree(run)
    run = run_folder(tmp_path / "run")
    (run / "checkpoints").symlink_to(tmp_path, target_is_directory=True)
    refused(lambda: load(run))
    (run / "checkpoints").unlink()
    # What stays within is the user's own business, and so is where the folder itself lies.
    (run / "again").symlink_to(run / "model")
    (tmp_path / "elsewhere").symlink_to(run)
    load(tmp_path / "elsewhere")
    # Whoever takes the lock writes who it is, and follows no link.
    (run / ".holder").symlink_to(private)
    with RunFolder(run).locked():
        assert (run / ".holder").read_text().startswith("process ")
    assert private.read_text() == "mine"


@pytest.mark.parametrize("name", ["../up", "..", "/tmp/x", "a/b", "a\\b", "", " ", "a\0b", 3, None])
def test_a_name_of_a_stage_stays_in_the_folder(name: Any) -> None:
    refused(lambda: RunFolder("run").stage(name))
