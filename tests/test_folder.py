"""The run folder: claimed once, whatever comes at the same time; commands that a shell and Hydra read back."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from cellgraph import RunFolder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_claim_is_the_configuration(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path / "a" / "run", "seed: 1\n")
    assert content(tmp_path) == {"a/run/config.yaml": b"seed: 1\n"}
    assert RunFolder.open(folder).config.read_text() == "seed: 1\n"


def test_a_claimed_folder_is_left_as_it_is(tmp_path: Path) -> None:
    RunFolder.claim(tmp_path / "run", "seed: 1\n")
    before, when = content(tmp_path), (tmp_path / "run").stat().st_mtime_ns
    with pytest.raises(ValueError, match=r"run holds a run already: go on with it \(cellgraph train resume="):
        RunFolder.claim(tmp_path / "run", "seed: 2\n")
    assert content(tmp_path) == before
    assert (tmp_path / "run").stat().st_mtime_ns == when


def test_a_run_without_its_configuration_is_one_too(tmp_path: Path) -> None:
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.write_bytes(b"trained")
    with pytest.raises(ValueError, match="holds a run already"):
        RunFolder.claim(tmp_path, "")
    assert content(tmp_path) == {"checkpoints/last.ckpt": b"trained"}


def test_what_else_lies_in_a_folder_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder.claim(tmp_path, "seed: 1\n").release()
    assert content(tmp_path) == {"notes.txt": b"mine", "config.yaml": b"seed: 1\n"}


def test_a_claim_with_nothing_behind_it_is_given_back(tmp_path: Path) -> None:
    RunFolder.claim(tmp_path / "run", "").release()
    assert not (tmp_path / "run").exists()


def test_where_another_name_will_do_there_is_one(tmp_path: Path) -> None:
    names = [RunFolder.claim(tmp_path / "12-00-00", "", spare=True).path.name for _ in range(4)]
    assert names == ["12-00-00", "12-00-00-2", "12-00-00-3", "12-00-00-4"]


def claim_at_once(path: Path, number: int, start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    try:
        RunFolder.claim(path, f"seed: {number}\n" * 1000)
    except ValueError:
        os._exit(1)
    os._exit(0)


@pytest.mark.parametrize("links", [True, False])
def test_of_many_at_the_same_moment_one_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def refused(*args: object) -> None:
            raise PermissionError("this file system has no links")

        monkeypatch.setattr(os, "link", refused)
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        path, start = tmp_path / str(attempt), context.Barrier(8)
        processes = [context.Process(target=claim_at_once, args=(path, number, start)) for number in range(8)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        winners = [number for number, process in enumerate(processes) if process.exitcode == 0]
        assert len(winners) == 1
        assert content(path) == {"config.yaml": f"seed: {winners[0]}\n".encode() * 1000}


HOLD = """
import sys
from cellgraph.folder import RunFolder
with RunFolder(sys.argv[1]).locked():
    print(1, flush=True)
    input()
"""


@contextlib.contextmanager
def held_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """The folder is another process's."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, path], **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        yield other
        other.kill()


def test_a_folder_is_one_process_s_and_says_whose(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path / "run", "seed: 1\n")
    with held_elsewhere(folder.path) as other:
        before = content(tmp_path)
        refusal = f"run is in use by process {other.pid} on {socket.gethostname()}: wait for it, or stop it"
        with pytest.raises(ValueError, match=refusal), folder.locked():
            pass
        assert content(tmp_path) == before


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, None])
def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path, ending: int | None) -> None:
    with held_elsewhere(tmp_path) as other:
        if ending is None:
            other.communicate("\n")
        else:
            other.send_signal(ending)
        other.wait()
        with RunFolder(tmp_path).locked():
            pass


def test_who_has_a_lock_may_lock_again_and_an_error_gives_it_back(tmp_path: Path) -> None:
    def locks_elsewhere() -> bool:
        other = subprocess.run([sys.executable, "-c", HOLD, tmp_path], input="\n", text=True, check=False)
        return other.returncode == 0

    def fails() -> None:
        with RunFolder(tmp_path).locked():
            with RunFolder(tmp_path / "." / "run" / "..").locked():
                pass
            assert content(tmp_path)[".holder"] == f"process {os.getpid()} on {socket.gethostname()}".encode()
            assert not locks_elsewhere()
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert locks_elsewhere()
    assert list(content(tmp_path)) == [".lock"]


def test_a_claim_is_given_back_with_its_lock(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path / "run", "")
    with folder.locked():
        pass
    folder.release()
    assert not folder.path.exists()


def test_a_split_goes_with_the_claim_where_nothing_else_was_begun(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path / "run", "")
    folder.pairs("test").parent.mkdir()
    folder.pairs("test").write_text("{}")
    folder.release()
    assert folder.pairs("test").exists()
    (folder.path / "notes").write_text("of the user's")
    folder.release(split=True)
    assert folder.pairs("test").exists()
    (folder.path / "notes").unlink()
    folder.release(split=True)
    assert not folder.path.exists()


@given(st.text(alphabet="ab1/\\\"'=,[]{}()$:#~ \té?*&;|<>!%", max_size=12))
def test_a_printed_command_is_read_back_whatever_the_path(path: str) -> None:
    *verb, word, override = shlex.split(RunFolder.command("train", path, resume=path))
    assert verb == ["cellgraph", "train"]
    assert word == path
    value = OverridesParser.create().parse_override(override).value()
    read = OmegaConf.create({"resume": value.text if isinstance(value, QuotedString) else value}).resume
    assert read == path


def test_plain_paths_are_printed_plainly() -> None:
    assert RunFolder.command("train", resume="/runs/2026-01-31/12-00-00") == (
        "cellgraph train resume=/runs/2026-01-31/12-00-00"
    )
    assert RunFolder.command("evaluate", "runs/a") == "cellgraph evaluate runs/a"


@pytest.mark.parametrize("name", ["", ".", "..", "../other", "/home", "a/b", "a\\b", "a\0b", None])
def test_a_stage_is_a_folder_within_the_run(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the name of a baseline must be that of a folder"):
        RunFolder(tmp_path).stage(name)
    assert RunFolder(tmp_path).stage("adapters alone, lr=0.001").path.parent == tmp_path / "stages"


def test_a_stage_has_a_name_that_file_systems_take(tmp_path: Path) -> None:
    longest = "é" * 127 + "e"
    RunFolder(tmp_path).stage(longest).path.mkdir(parents=True)
    with pytest.raises(ValueError, match="at most 255 bytes, got 256: 'éé"):
        RunFolder(tmp_path).stage(longest + "e")
