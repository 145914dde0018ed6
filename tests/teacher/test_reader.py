"""Token states: kept end to end, given padded; read from a teacher once, and from disk after that."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cellgraph.teacher import LSATeacher, TokenReader, TokenStates


class Letters:
    """A teacher for which a letter is a token."""

    width, fingerprint = 3, "letters"

    def __init__(self) -> None:
        self.calls = 0

    def token_states(
        self, texts: Sequence[str], *, level: str, max_tokens: int, progress: bool
    ) -> tuple[list[Tensor], int]:
        self.calls += 1
        rows = [torch.tensor([[ord(letter), len(text), level == "input"] for letter in text]) for text in texts]
        return [row[:max_tokens].float() for row in rows], sum(len(row) > max_tokens for row in rows)


def test_rows_are_padded_with_zeros_whatever_the_files() -> None:
    vectors = torch.arange(12.0).view(6, 2) + 1
    for parts in (vectors, [vectors[:2], vectors[2:]]):
        states = TokenStates(parts, [2, 1, 3])
        assert states.shape == (3, 3, 2)
        expected = torch.zeros(3, 3, 2)
        expected[0, :2], expected[1, :1], expected[2] = vectors[:2], vectors[2:3], vectors[3:]
        assert torch.equal(states.padded(), expected)
        assert torch.equal(states[torch.tensor([[2], [0]])], expected[[2, 0]][:, None])


def test_means_and_moments_are_those_of_numpy() -> None:
    vectors = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).half()
    states = TokenStates([vectors[:20], vectors[20:]], [10, 10, 30])
    exact = vectors.double().numpy()
    mean, scale = states.moments()
    np.testing.assert_allclose(mean.numpy(), exact.mean(0), atol=1e-6)
    np.testing.assert_allclose(float(scale), np.sqrt(((exact - exact.mean(0)) ** 2).mean()), rtol=1e-6)
    pooled = np.stack([exact[:10].mean(0), exact[10:20].mean(0), exact[20:].mean(0)])
    np.testing.assert_allclose(states.pooled().numpy(), pooled, atol=1e-6)


@pytest.mark.parametrize("lengths", [[2, 2], [0, 3]])
def test_lengths_that_do_not_add_up_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match=r"vectors expected by the lengths|at least one vector"):
        TokenStates(torch.ones(3, 2), lengths)


def test_texts_are_read_once(tmp_path: Path) -> None:
    teacher = Letters()
    reader = TokenReader(teacher, max_tokens=4, folder=tmp_path, shard_texts=2)
    texts = ["ab", "c", "abcd"]
    first = reader.read(texts)
    assert teacher.calls == 2
    again = TokenReader(teacher, max_tokens=4, folder=tmp_path, shard_texts=2).read(texts)
    assert teacher.calls == 2
    assert torch.equal(first.padded(), again.padded())
    assert first.padded()[1, 0].tolist() == [ord("c"), 1, 0]
    # Another level is another thing.
    assert TokenReader(teacher, level="input", max_tokens=4, folder=tmp_path).read(texts).padded()[0, 0, 2] == 1
    assert torch.equal(reader.encode(texts), first.padded())


def test_what_was_read_before_an_interruption_is_not_read_again(tmp_path: Path) -> None:
    teacher = Letters()
    TokenReader(teacher, folder=tmp_path, shard_texts=2).read(["ab", "c"])
    TokenReader(teacher, folder=tmp_path, shard_texts=2).read(["ab", "c", "d"])
    assert teacher.calls == 2


def test_a_damaged_file_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    teacher = Letters()
    reader = TokenReader(teacher, folder=tmp_path)
    whole = reader.read(["abc", "de"]).padded()
    file = next(tmp_path.glob("*.safetensors"))
    for content in (file.read_bytes()[:-3] + b"xyz", file.read_bytes()[:20]):
        file.write_bytes(content)
        with caplog.at_level(logging.WARNING):
            assert torch.equal(reader.read(["abc", "de"]).padded(), whole)
        assert "computed again" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(
    "changed",
    [
        {"states": torch.zeros(5, 3, 1)},
        {"states": torch.zeros(5)},
        {"states": torch.zeros(5, 4)},
        {"states": torch.zeros(5, 3, dtype=torch.int64)},
        {"lengths": torch.tensor([5])},
        {"lengths": torch.tensor([3, 1, 1])},
        {"lengths": torch.tensor([5, 0])},
        {"lengths": torch.tensor([6, -1])},
        {"lengths": torch.tensor([[3, 2]])},
        {"lengths": torch.tensor([3.0, 2.0])},
        {"states": torch.zeros(2, 3), "lengths": torch.tensor([True, True])},
        {"lengths": torch.empty(0)},
    ],
)
def test_a_planted_file_of_other_shapes_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changed: dict[str, Tensor]
) -> None:
    reader = TokenReader(Letters(), folder=tmp_path, max_tokens=4)
    whole = reader.read(["abc", "de"])
    file = next(tmp_path.glob("*.safetensors"))
    planted = {"states": torch.zeros(5, 3), "lengths": torch.tensor([3, 2]), **changed}
    if planted["states"].is_floating_point():
        planted["states"] = planted["states"].half()
    digest = hashlib.sha256(planted["states"].numpy().data).hexdigest()
    save_file(planted, file, {"sha256": digest})
    with caplog.at_level(logging.WARNING):
        found = reader.read(["abc", "de"])
    assert found.lengths.tolist() == [3, 2]
    assert torch.equal(found.padded(), whole.padded())
    assert "computed again" in caplog.text


def test_longer_texts_are_cut_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        states = TokenReader(Letters(), max_tokens=2).read(["abc", "de", "fghi"])
    assert states.lengths.tolist() == [2, 2, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "2 of 3 texts have more than 2 tokens: the rest of them is not read"
    ]


def test_a_teacher_without_tokens_is_told_in_one_line() -> None:
    with pytest.raises(ValueError, match="a LSATeacher gives one vector a text"):
        TokenReader(LSATeacher(8))


def test_states_that_are_not_finite_are_refused_and_not_kept(tmp_path: Path) -> None:
    class Large(Letters):
        def token_states(
            self, texts: Sequence[str], *, level: str, max_tokens: int, progress: bool
        ) -> tuple[list[Tensor], int]:
            rows, cut = super().token_states(texts, level=level, max_tokens=max_tokens, progress=progress)
            return [1000 * row if "x" in text else row for text, row in zip(texts, rows, strict=True)], cut

    # 1000 times 120 is beyond half precision.
    reader = TokenReader(Large(), folder=tmp_path)
    with pytest.raises(ValueError, match="not finite in half precision: 'xy'"):
        reader.read(["ab", "xy"])
    assert not list(tmp_path.iterdir())
    assert reader.read(["ab"]).finite()
