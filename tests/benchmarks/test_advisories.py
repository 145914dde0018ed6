"""Advisories: which versions have a weakness, out of files as databases keep them."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from cellgraph.benchmarks.advisories import newest, read_advisories, weaknesses
from cellgraph.benchmarks.dependencies import audit

YAML = """\
id: PYSEC-1
published: '2026-01-31T20:15:00Z'
affected:
- package: {name: Some_Thing, ecosystem: PyPI}
  ranges:
  - type: GIT
    events: [{introduced: '0'}]
  - type: ECOSYSTEM
    events: [{introduced: '2.0'}, {fixed: 2.0.9}, {introduced: 1.0rc1}, {fixed: '1.9'}]
  versions: [0.5-odd]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "one.yaml").write_text(YAML)
    (tmp_path / "some" / "gone.yaml").write_text(YAML.replace("PYSEC-1", "PYSEC-2") + "withdrawn: '2026-02-01'\n")
    (tmp_path / "other.yaml").write_text("on: push\n")
    package = {"name": "some.thing", "ecosystem": "PyPI"}
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"last_affected": "1.5"}]}]
    told = {"id": "GHSA-3", "published": "2026-03-01", "affected": [{"package": package, "ranges": ranges}]}
    (tmp_path / "three.json").write_text(json.dumps(told))
    elsewhere = {"package": {"name": "some-thing", "ecosystem": "npm"}, "versions": ["2.0.9"]}
    (tmp_path / "npm.json").write_text(json.dumps({"id": "GHSA-4", "affected": [elsewhere]}))
    return tmp_path


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("0.9", ["GHSA-3"]),
        ("1.0rc1", ["PYSEC-1", "GHSA-3"]),
        ("1.5", ["PYSEC-1", "GHSA-3"]),
        ("1.5.1", ["PYSEC-1"]),
        ("1.9", []),
        ("1.10", []),
        ("2.0", ["PYSEC-1"]),
        ("2.0.8+cpu", ["PYSEC-1"]),
        ("2.0.9", []),
        ("2.0.10", []),
        ("0.5-odd", ["PYSEC-1"]),
        ("no version", []),
    ],
)
def test_a_version_is_within_its_ranges(folder: Path, version: str, known: list[str]) -> None:
    advisories = read_advisories(folder)
    assert sorted(weaknesses("some-thing", version, advisories)) == sorted(known)
    assert weaknesses("another", version, advisories) == []
    assert newest(advisories) == "2026-03-01"


def test_what_the_library_needs_must_have_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit(folder)
    assert "2 advisories of 1 packages, the newest of 2026-03-01" in capsys.readouterr().out
    version = importlib.metadata.version("numpy")
    (folder / "five.yaml").write_text(
        f"id: X-5\npublished: '2026-04-01'\n"
        f"affected: [{{package: {{name: numpy, ecosystem: PyPI}}, versions: ['{version}']}}]\n"
    )
    with pytest.raises(SystemExit, match=f"numpy {version} has X-5"):
        audit(folder)
    assert f"| numpy | {version} | 1 | X-5 |" in capsys.readouterr().out


def test_a_folder_without_any_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a folder with advisories"):
        read_advisories(tmp_path)
