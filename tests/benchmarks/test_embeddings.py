"""The figures of teachers, adapters and large sets: against NumPy, and the scripts themselves in small."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cellgraph.benchmarks import adapters, large, teachers
from cellgraph.benchmarks.embeddings import Part, linear, overlap, read_split, ridge
from cellgraph.data import QAPair


def part(count: int, seed: int, mix: torch.Tensor) -> Part:
    generator = torch.Generator().manual_seed(seed)
    question = torch.randn(count, len(mix), generator=generator)
    pairs = [QAPair(f"q{n}", f"a{n}") for n in range(count)]
    return Part.of(pairs, question, question @ mix)


def test_overlap_is_the_share_of_shared_neighbours() -> None:
    before, after = torch.randn(2, 40, 5)
    near = []
    for x in (before.numpy(), after.numpy()):
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        similarity = unit @ unit.T
        np.fill_diagonal(similarity, -2)
        near.append([set(np.argsort(-row)[:10].tolist()) for row in similarity])
    expected = np.mean([len(one & two) / 10 for one, two in zip(*near, strict=True)])
    assert overlap(before, after) == pytest.approx(expected, abs=1e-6)
    assert overlap(before, 3 * before) == 1.0


def test_ridge_and_the_trained_map_find_a_planted_map() -> None:
    mix = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(5)))[0]
    known, validation, test = (part(count, seed, mix) for seed, count in enumerate((300, 40, 60)))
    assert test.mrr(test.answer, test.answer) == 1.0
    assert test.mrr(test.question, test.answer) < 0.4
    assert test.mrr(ridge(known, test), test.answer) == 1.0
    assert linear(known, validation, test, updates=150) > 0.9


@pytest.mark.slow
def test_the_table_of_adapters_has_a_row_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    mix = torch.linalg.qr(torch.randn(24, 24))[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapters, "WIDTH", 16)
        patch.setattr(adapters, "PREFIXES", (4,))
        found = list(adapters.rows(part(200, 0, mix), part(50, 1, mix)))
    assert [row[0] for row in found] == [
        *("none", "linear", "pca", "autoencoder", "matryoshka", "pca, first 4", "matryoshka, first 4"),
    ]
    assert all(len(row) == len(adapters.COLUMNS) for row in found)
    assert found[0][1:3] == (1.0, 1.0)
    adapters.print_table(adapters.COLUMNS, iter(found))
    assert capsys.readouterr().out.count("\n") == 2 + len(found)


def test_training_from_the_disk_is_measured(tmp_path: Path) -> None:
    for seed, name in enumerate(("question", "answer")):
        paths = large.write_random(tmp_path, name, 300, 16, seed)
        assert paths[0].name == f"random-{name}-00000.safetensors"
    for on_disk, count in ((True, 300), (False, 100)):
        options = {"compile": False}
        figures = large.measure(
            str(tmp_path), 100, on_disk=on_disk, updates=3, batch=4, cold=on_disk, shape=(2, 3, 3), **options
        )
        assert figures["pairs"] == count
        assert figures["samples_per_s"] > 0
        assert min(figures["at_the_end_MB"], figures["libraries_MB"], figures["batch_ms"]) > 0


@pytest.mark.slow
def test_the_table_of_teachers_is_of_the_pairs_given(tmp_path: Path) -> None:
    rows = [
        {"question": f"What does the {a} do near the {p}?", "answer": f"The {a} near the {p} sleeps.", "topic": a + p}
        for a in ("heron", "otter", "badger", "falcon", "beetle", "salmon", "spider", "weasel", "magpie", "lizard")
        for p in ("river", "forest", "meadow", "desert", "harbour", "mountain", "orchard", "cellar")
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    split = read_split(path, limit=60, test=15, validation=6)
    assert [len(pairs) for pairs in vars(split).values()] == [39, 6, 15]
    (row,) = teachers.rows(split, ["tfidf 1024"], updates=2)
    assert row[:2] == ("tfidf 1024", 1024)
    assert len(row) == len(teachers.COLUMNS)
    assert float(str(row[-3])) > 0.5
