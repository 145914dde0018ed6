"""Files: written whole or not at all, and the cache's folder of users with and without a home."""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from pathlib import Path

import pytest

from cellgraph import files
from cellgraph.files import cache_folder, expanded, write_atomically
from cellgraph.teacher.hub import locate_model


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process without HOME, whose user nobody knows, as in a container; its temporary folder."""

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "CELLGRAPH_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files._temporary_cache.cache_clear()
    yield tmp_path
    files._temporary_cache.cache_clear()


def test_a_user_without_a_home_has_a_folder_of_its_own(homeless: Path) -> None:
    folder = cache_folder()
    assert folder == homeless / f"cellgraph-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files._temporary_cache.cache_clear()
    assert cache_folder() == folder


@pytest.mark.parametrize("trap", ["a link", "a file", "writable by all"])
def test_a_folder_that_others_could_have_filled_is_not_used(homeless: Path, trap: str) -> None:
    place = homeless / f"cellgraph-{os.getuid()}"
    (homeless / "elsewhere").mkdir()
    if trap == "a link":
        place.symlink_to(homeless / "elsewhere")
    elif trap == "a file":
        place.touch()
    else:
        place.mkdir()
        place.chmod(0o777)
    folder = cache_folder()
    assert folder != place
    assert folder.parent == homeless
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert cache_folder() == folder


def test_a_home_that_there_is_not(homeless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert expanded("~/x") is None
    assert expanded("x") == Path("x")
    monkeypatch.setenv("XDG_CACHE_HOME", str(homeless / "xdg"))
    assert cache_folder() == homeless / "xdg" / "cellgraph"
    monkeypatch.setenv("CELLGRAPH_CACHE", "~/mine")
    with pytest.raises(OSError, match="CELLGRAPH_CACHE is ~/mine, and there is no such home folder"):
        cache_folder()
    monkeypatch.setenv("CELLGRAPH_CACHE", str(homeless / "mine"))
    assert cache_folder() == homeless / "mine"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OSError, match="teacher '~/model' cannot be had"):
        locate_model("~/model")


def test_an_error_names_the_file_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(IsADirectoryError) as error:
        write_atomically(tmp_path / "there", b"")
    assert (error.value.filename, error.value.filename2) == (str(tmp_path / "there"), None)
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_an_error_without_a_number_says_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no reason")

    monkeypatch.setattr(tempfile, "mkstemp", fail)
    with pytest.raises(OSError, match=r"^no reason$"):
        write_atomically(tmp_path / "file", b"")
