"""The library of the fused step is found, built again or done without, and nothing crashes."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import pytest

from cellgraph.ops.fused import build

COMPILER = shutil.which("c++")
if COMPILER is None:
    pytest.skip("needs a C++ compiler", allow_module_level=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the libraries, with a compiler that builds an empty one at once and counts how often it did."""
    compiler = tmp_path / "quick-c++"
    compiler.write_text(
        f"""#!/bin/sh
[ "$1" = --version ] && exit 0
while [ "$1" != -o ]; do shift; done
echo built >> {tmp_path}/count
exec {COMPILER} -shared -fPIC -x c++ /dev/null -o "$2"
"""
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setattr(build, "_is_loaded", lambda: False)
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "operators"


def load() -> bool:
    return build.load_operators.__wrapped__()


def times_built(folder: Path) -> int:
    count = folder.parent.parent / "count"
    return len(count.read_text().splitlines()) if count.exists() else 0


def load_without_warning() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load()


@pytest.mark.parametrize("damage", ["cut short", "a byte changed", "garbage", "empty"])
def test_a_damaged_library_is_built_once_more(folder: Path, damage: str) -> None:
    assert load_without_warning()
    (library,) = folder.iterdir()
    content = library.read_bytes()
    middle = len(content) // 2
    library.unlink()  # what is loaded stays mapped
    library.write_bytes(
        {
            "cut short": content[:middle],
            "a byte changed": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "garbage": os.urandom(1000),
            "empty": b"",
        }[damage]
    )
    assert load_without_warning()
    assert library.read_bytes() == content
    assert load_without_warning()
    assert times_built(folder) == 2
    assert list(folder.iterdir()) == [library]


def test_what_cannot_be_loaded_is_done_without(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise OSError(f"{path}: failed to map segment from shared object")

    monkeypatch.setattr(build.torch.ops, "load_library", refuse)
    with pytest.warns(UserWarning, match="could not be loaded, the step runs without it: .*failed to map segment"):
        assert not load()


def test_the_library_of_another_user_is_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_without_warning()
    (library,) = folder.iterdir()
    if os.getuid() == 0:
        os.chown(library, 12345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.warns(
        UserWarning, match=f"could not be loaded, .*: {library} belongs to another user; CELLGRAPH_CACHE"
    ):
        assert not load()


def test_a_folder_that_cannot_be_made_is_done_without(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be loaded, the step runs without it: .*operators"):
        assert not load()
    assert times_built(folder) == 0


@pytest.mark.skipif(os.getuid() == 0, reason="root writes and reads everywhere")
def test_a_folder_or_file_without_permission_is_done_without(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    with pytest.warns(UserWarning, match="could not be loaded, .*: .*Permission denied"):
        assert not load()
    assert times_built(folder) == 0
    folder.chmod(0o755)
    assert load_without_warning()
    folder.chmod(0o555)
    assert load_without_warning()
    (library,) = folder.iterdir()
    library.chmod(0)
    with pytest.warns(UserWarning, match="could not be loaded, .*: .*Permission denied"):
        assert not load()
