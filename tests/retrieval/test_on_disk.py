"""Pairs whose embeddings stay on the disk: the batches, the training and its resumption are those of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.nn.blocks import some_rows
from cellgraph.retrieval import DialogueLoader, EmbeddedPairs, MemoryBank, Retrieval, TrainSettings, standard_objective
from cellgraph.retrieval.contrast import contrast, contrast_with_some
from cellgraph.retrieval.terms import DialogueTerm, TurnTerm
from cellgraph.teacher import StoredRows
from cellgraph.teacher.shards import write_shard
from cellgraph.training import train

COUNT, WIDTH = 96, 12


def stored(folder: Path, rows: torch.Tensor, name: str) -> StoredRows:
    paths = [
        write_shard(folder, "f" * 64, [bytes(32)] * len(part), part, name=f"{name}{number}")
        for number, part in enumerate(rows.split(20))
    ]
    return StoredRows.of_files(paths)


@pytest.fixture
def both(tmp_path: Path) -> tuple[EmbeddedPairs, EmbeddedPairs]:
    generator = torch.Generator().manual_seed(0)
    question, answer = torch.randn(2, COUNT, WIDTH, generator=generator)
    answer[COUNT // 2 :] = answer[torch.randint(COUNT // 2, (COUNT - COUNT // 2,), generator=generator)]
    memory = EmbeddedPairs(question, answer)
    return memory, EmbeddedPairs(stored(tmp_path, question, "q"), stored(tmp_path, answer, "a"))


def test_batches_are_those_of_memory(both: tuple[EmbeddedPairs, EmbeddedPairs]) -> None:
    memory, disk = both
    assert int(disk.group.max()) + 1 == int(memory.group.max()) + 1 == len(memory.answer.unique(dim=0))
    same = [(pairs.group[:, None] == pairs.group) for pairs in both]
    assert torch.equal(same[0], same[1])
    loaders = [DialogueLoader(pairs, 10, seed=3, num_batches=25) for pairs in both]
    for one, two in zip(*loaders, strict=True):
        assert torch.equal(one.question, two.question)
        assert torch.equal(one.answer, two.answer)
        assert torch.equal(one.index, two.index)


def network() -> CellGraph:
    torch.manual_seed(0)
    cell = GMLPCell(Lattice((2, 3, 3)), channels=8, hidden=8)
    return CellGraph(cell, in_features=WIDTH, surface_channels=1, readout_channels=4)


def trained(pairs: EmbeddedPairs, folder: Path | None = None, *, steps: int = 12, resume: bool = False) -> CellGraph:
    model = network()
    model.fit_adapters(pairs.question, pairs.answer)
    settings = TrainSettings(
        max_steps=steps, batch_size=16, compile=False, warmup_steps=2, precision="32-true", checkpoint_every=4
    )
    task = Retrieval(standard_objective(), pairs)
    return train(model, task, settings, folder=folder, resume=resume, progress=False).model


def test_training_is_that_of_memory(both: tuple[EmbeddedPairs, EmbeddedPairs]) -> None:
    memory, disk = (trained(pairs).state_dict() for pairs in both)
    for name, value in memory.items():
        # Sums over all pairs are taken in blocks; the sign of a component is its own.
        torch.testing.assert_close(disk[name].abs(), value.abs(), atol=2e-3, rtol=2e-3, msg=name)


def test_a_killed_training_goes_on_exactly(both: tuple[EmbeddedPairs, EmbeddedPairs], tmp_path: Path) -> None:
    class Stop(Exception):  # noqa: N818 - no error
        pass

    disk = both[1]
    whole = trained(disk, tmp_path / "whole")
    rows, read, left = disk.question, type(disk.question).__getitem__, 9

    def stopping(self: Any, index: Any) -> torch.Tensor:
        nonlocal left
        if isinstance(index, torch.Tensor) and len(index) == 16:
            left -= 1
            if left < 0:
                raise Stop
        return read(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoredRows, "__getitem__", stopping)
        left *= 2
        with pytest.raises(Stop):
            trained(disk, tmp_path / "parts")
    assert rows is disk.question
    resumed = trained(disk, tmp_path / "parts", resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_a_ridge_start_and_closed_forms_look_at_some(
    both: tuple[EmbeddedPairs, EmbeddedPairs], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, disk = both
    question, answer = some_rows(disk.question, disk.answer, most=30)
    place = (question[:, None] == memory.question).all(2).int().argmax(1)
    assert len(place.unique()) == len(question) == 30
    assert torch.equal(memory.answer[place], answer)
    assert some_rows(memory.question, memory.answer, most=30)[0] is memory.question
    monkeypatch.setattr("cellgraph.retrieval.embedded.SOME", 30)
    assert memory.some() is memory
    some = disk.some()
    assert len(some) == 30
    # Each is a pair of the whole.
    found = (some.question[:, None] == memory.question).all(2).int().argmax(1)
    assert torch.equal(memory.answer[found], some.answer)
    assert len(found.unique()) == 30
    for path in ("linear", "none"):
        torch.manual_seed(0)
        cell = GMLPCell(Lattice((2, 3, 3)), channels=8, hidden=8)
        model = CellGraph(cell, in_features=WIDTH, surface_channels=1, path=path, readout_channels=4)
        errors = [model.fit_adapters(pairs.question, pairs.answer, start="ridge") for pairs in both]
        for name, error in errors[0].items():
            assert errors[1][name] == pytest.approx(error, abs=1e-4)


def test_values_that_are_not_finite_are_found_on_the_disk(tmp_path: Path) -> None:
    rows = torch.randn(50, 4)
    rows[33, 2] = float("nan")
    with pytest.raises(ValueError, match="question must be finite, got NaN or infinity in 1 rows, first in 33"):
        EmbeddedPairs(stored(tmp_path, rows, "q"), torch.randn(50, 4))


def test_a_bank_too_small_holds_a_sample_and_says_which() -> None:
    answer = torch.randn(40, 5)[torch.arange(80) % 40]
    group = torch.unique(answer, dim=0, return_inverse=True)[1]
    bank = MemoryBank(most=12)
    bank.fit(answer, group)
    assert bank.answers is not None
    assert bank.numbers is not None
    assert bank.answers.shape == (12, 5)
    for number, row in zip(bank.numbers, bank.answers, strict=True):
        assert torch.equal(row, answer[group == number][0])
    again = MemoryBank(most=12)
    again.fit(answer, group)
    assert torch.equal(again.numbers, bank.numbers)
    whole = MemoryBank(most=40)
    whole.fit(answer, group)
    assert whole.numbers is None
    assert whole.answers is not None
    assert whole.answers.shape == (40, 5)
    with pytest.raises(ValueError, match="got most=0"):
        MemoryBank(most=0)


@pytest.mark.parametrize("first", [True, False])
def test_a_bank_of_several_terms_holds_what_one_of_them_wants(first: bool) -> None:
    bank, answer = MemoryBank(), torch.randn(9, 5)
    terms = [DialogueTerm(bank, negatives="bank"), DialogueTerm(bank, negatives="batch"), TurnTerm(bank)]
    for term in terms if first else terms[::-1]:
        term.fit(answer, torch.arange(9))
    assert torch.equal(bank.answers, answer)
    assert torch.equal(bank.centre, answer.mean(0))


def test_the_sampled_contrast_is_its_sum_over_the_batch_and_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    answers, query = torch.randn(9, 4, generator=generator), torch.randn(4, 4, generator=generator)
    # Two rows have one answer, and two answers of the batch are among the drawn ones.
    group, numbers = torch.tensor([2, 5, 2, 7]), torch.tensor([0, 2, 3, 5, 8])
    losses = []
    for row, own in enumerate(group.tolist()):
        columns = [own, *[g for g in group.tolist() if g != own], 0, 3, 8]
        losses.append(-torch.log_softmax(query[row] @ answers[columns].T, 0)[0])
    found = contrast_with_some(query @ answers[group].T, query @ answers[numbers].T, group=group, numbers=numbers)
    torch.testing.assert_close(found, torch.stack(losses).mean())
    # With all the answers drawn, and each once in the batch, it is the contrast with all.
    group, numbers = torch.tensor([2, 5, 1, 7]), torch.arange(9)
    found = contrast_with_some(query @ answers[group].T, query @ answers.T, group=group, numbers=numbers)
    torch.testing.assert_close(found, contrast(query @ answers.T, target=group))
