"""Sets of the library ``datasets``: saved folders, several in one, damaged ones, and names on the hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from cellgraph.data import QAPair, read_pairs
from cellgraph.data.arrow import is_arrow

datasets = pytest.importorskip("datasets")

ROWS = [{"q": f"What is {n}?", "answer": f"It is {n}.", "topic": f"t{n % 3}", "other": n} for n in range(10_000)]
PAIRS = [QAPair(row["q"], row["answer"], topic=row["topic"]) for row in ROWS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    made = datasets.Dataset.from_list(ROWS)
    made.save_to_disk(str(root / "one"), num_shards=3)
    datasets.DatasetDict(train=made.select(range(5)), test=made.select(range(5, 9))).save_to_disk(str(root / "two"))
    return root


def test_a_saved_folder_is_read(folder: Path) -> None:
    assert read_pairs(folder / "one", question="q") == PAIRS
    assert read_pairs(folder / "one", question="q", topic="", limit=3) == [
        QAPair(pair.question, pair.answer) for pair in PAIRS[:3]
    ]
    assert read_pairs(folder / "two" / "test", question="q") == PAIRS[5:9]


def test_what_is_wrong_is_said_in_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"row 1: no column 'question'.*the columns are 'q', 'answer', 'topic', 'other'"
    ):
        read_pairs(folder / "one", question="question", answer="answer")
    # None of the columns is there.
    with pytest.raises(ValueError, match=r"no column 'x' for the question; the columns are 'q', 'answer', 'topic'"):
        read_pairs(folder / "one", question="x", answer="y", topic="")
    with pytest.raises(ValueError, match=r"two holds several sets, expected one of .*two/train, .*two/test"):
        read_pairs(folder / "two")
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (folder / "one").iterdir():
        (broken / file.name).write_bytes(file.read_bytes()[:40])
    with pytest.raises(ValueError, match="broken: damaged or no set of datasets: ") as told:
        read_pairs(broken, question="q")
    assert "\n" not in str(told.value)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"needs the package datasets \(pip install cellgraph\[datasets\]\)"):
        read_pairs(folder / "one", question="q")


def test_a_name_on_the_hub_is_streamed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[Any] = []

    def hub(name: str, **options: Any) -> Any:
        asked.append((name, options))
        return datasets.load_from_disk(str(folder / "one")).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert read_pairs("owner/name", question="q", limit=7) == PAIRS[:7]
    assert read_pairs("owner/name:test", question="q", limit=2) == PAIRS[:2]
    assert asked == [("owner/name", {"split": split, "streaming": True}) for split in ("train", "test")]

    def nothing(name: str, **options: Any) -> Any:
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(datasets, "load_dataset", nothing)
    with pytest.raises(ValueError, match=r"owner/name is no file or folder here, and the hub did not .*: no network"):
        read_pairs("owner/name")


@pytest.mark.parametrize(
    ("path", "on_the_hub"),
    [
        ("owner/Set-2.5", True),
        ("owner/v2.0:test", True),
        ("owner/name", True),
        ("data/x.jsonl", False),
        ("a/b.txt", False),
    ],
)
def test_a_name_on_the_hub_may_have_a_number_with_a_dot(path: str, on_the_hub: bool) -> None:
    assert is_arrow(Path(path)) == on_the_hub
