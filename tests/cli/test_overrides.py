"""Overrides: what they mean with Hydra's signs before them, and how texts are quoted."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from processes import run_inside

from cellgraph.cli import train
from cellgraph.cli.errors import one_line


@pytest.mark.parametrize("sign", ["", "++"])
def test_a_folder_is_the_users_choice_by_any_override(sign: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.yaml").touch()
    done = run_inside(tmp_path, "automaton", "experiment=majority", f"{sign}hydra.run.dir=a")
    assert done.returncode == 1
    assert done.stderr.startswith(f"cellgraph automaton: {tmp_path}/a holds a run already: go on with it")
    assert not (tmp_path / "a-2").exists()


@pytest.mark.parametrize("sign", ["", "++"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume=run", "hydra.run.dir=other"], "goes on in its own folder, run: leave out [+]*hydra.run.dir=other"),
        (["resume=run", "sweep=shapes"], "a sweep starts new runs; go on with each by itself: "),
        (["resume=run", "hydra.mode=MULTIRUN"], "a sweep starts new runs; go on with each by itself: "),
        (["kind=automaton"], "give experiment=NAME or task=NAME"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_by_any_override(
    sign: str, arguments: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train.main([sign + argument for argument in arguments])


@pytest.mark.parametrize(
    "asked", ["-m", "sweep=shapes", "++sweep=shapes", "hydra.mode=MULTIRUN", "++hydra.mode=MULTIRUN"]
)
def test_no_sweep_is_started_within_torchrun(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="a sweep within torchrun would start every run in every process"):
        train.main(["seed=0", asked])


def test_a_kind_that_is_given_is_not_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "train", lambda: None)
    monkeypatch.setattr(sys, "argv", [])
    train.main(["task=life", "++kind=automaton"])
    assert sys.argv[1:] == ["task=life", "++kind=automaton"]
    train.main(["-m", "task=life"])
    assert sys.argv[1:] == ["-m", "kind=automaton", "task=life"]


@pytest.mark.parametrize("sign", ["", "++"])
def test_a_run_that_goes_on_takes_no_other_settings(sign: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    done = run_inside(tmp_path, "train", f"{sign}resume=run", f"{sign}processes=1", "seed=1")
    assert done.stderr == "cellgraph train: resume takes the settings of the run that it resumes, got also seed=1\n"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.source.path", "~/pairs of mine.csv"),
        ("++data.source.path", "~/my.csv"),
        ("hydra.run.dir", "runs/e=1 x"),
        ("data.source.path", "it's a {file}, mine.csv"),
        ("data.source.path", 'a "file" in $HOME {'),
    ],
)
def test_what_hydra_cannot_read_is_told_as_it_can(key: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's words of what is said, read by Hydra again, are the text that was meant."""
    monkeypatch.setenv("HOME", "/home/me")
    parser = OverridesParser.create()
    with pytest.raises(OverrideParseException) as error:
        parser.parse_overrides([f"{key}={value}"])
    said, _, better = one_line(error.value).partition(" is given as ")
    assert said == f"cannot read {key}={value}: a text with such signs"
    (read,) = parser.parse_overrides(shlex.split(better))
    assert read.get_key_element() == key
    assert read.value() == value.replace("~", "/home/me")


def test_a_home_folder_is_one_where_it_is_quoted(tmp_path: Path) -> None:
    for given, said in (
        (("resume='~/run'",), f"{tmp_path}/run is no run folder of cellgraph"),
        (("data=file", "data.source.path='~/no.csv'"), f"No such file or directory: '{tmp_path}/no.csv'"),
        (("experiment=majority", "weights_from='~/run'"), f"{tmp_path}/run holds no trained automaton"),
        (("resume=~/run",), f"cannot read resume=~/run: a text with such signs is given as resume={tmp_path}/run"),
    ):
        done = run_inside(tmp_path, "train", *given, HOME=str(tmp_path))
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    # Where there is no such home, it is a name like others.
    done = run_inside(tmp_path, "train", "data=file", "data.source.path='~nobody-here/no.csv'")
    assert "'~nobody-here/no.csv'" in done.stderr
