"""TransformersTeacher on tiny real models: what it gives, whatever texts come together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tiny_encoders import TEXTS, reference, write_model

from cellgraph.teacher import TransformersTeacher
from cellgraph.teacher.batches import batches_by_length
from cellgraph.teacher.pooling import pool

pytestmark = pytest.mark.usefixtures("offline")


@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
@pytest.mark.parametrize("kind", ["llama", "distilbert", "bert", "t5"])
def test_embeddings_equal_those_of_single_unpadded_texts(folders: dict[str, Path], kind: str, pooling: str) -> None:
    teacher = TransformersTeacher(folders[kind], pooling=pooling, max_length=64, batch_size=4)
    embeddings = teacher.encode(TEXTS)
    expected = np.stack([reference(folders[kind], text, pooling) for text in TEXTS])
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (len(TEXTS), teacher.width) == (8, 16)
    np.testing.assert_allclose(embeddings.numpy(), expected, atol=2e-5)
    # Embeddings of different texts differ, or the comparison would say little (a causal first token sees itself only).
    if not (kind == "llama" and pooling == "cls"):
        assert torch.pdist(embeddings[[0, 1, 2, 3, 4, 5]]).min() > 1e-3


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_long_texts_are_cut(folders: dict[str, Path], kind: str) -> None:
    embedding = TransformersTeacher(folders[kind], max_length=7).encode(TEXTS)
    expected = np.stack([reference(folders[kind], text, "mean", 7) for text in TEXTS])
    np.testing.assert_allclose(embedding.numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("kind", ["llama", "distilbert", "bert", "t5"])
def test_texts_that_are_cut_are_counted(folders: dict[str, Path], kind: str, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[kind])
    lengths = [len(tokenizer.encode(text)) for text in TEXTS]
    most = sorted(lengths)[4]  # that many tokens are not too many
    longer = sum(length > most for length in lengths)
    assert 0 < longer < len(TEXTS)
    teacher = TransformersTeacher(folders[kind], max_length=most)
    assert teacher.token_states(TEXTS)[1] == longer
    assert teacher.token_states(TEXTS, max_tokens=most - 1)[1] == sum(length > most - 1 for length in lengths)
    teacher.encode(TEXTS)
    assert caplog.messages == [f"{longer} of 8 texts have more than {most} tokens: the rest of them is not read"]
    caplog.clear()
    TransformersTeacher(folders[kind], max_length=64).encode(TEXTS)
    assert caplog.messages == []


@pytest.mark.parametrize(("batch_size", "batch_tokens"), [(1, 4096), (3, 4096), (64, 10), (64, 1)])
def test_batches_do_not_change_embeddings(folders: dict[str, Path], batch_size: int, batch_tokens: int) -> None:
    whole = TransformersTeacher(folders["distilbert"], max_length=64).encode(TEXTS)
    teacher = TransformersTeacher(
        folders["distilbert"], max_length=64, batch_size=batch_size, batch_tokens=batch_tokens
    )
    torch.testing.assert_close(teacher.encode(TEXTS), whole, atol=1e-6, rtol=0)


def test_texts_are_batched_by_length_within_both_limits() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 500).tolist()
    batches = batches_by_length(lengths, 16, 200)
    assert sorted(index for batch in batches for index in batch) == list(range(500))
    assert all(len(batch) <= 16 for batch in batches)
    assert all(len(batch) * max(lengths[i] for i in batch) <= 200 for batch in batches)
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)


def test_padding_that_is_not_finite_is_ignored() -> None:
    hidden = torch.randn(2, 3, 4)
    hidden[0, 2] = float("nan")
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    torch.testing.assert_close(pool(hidden, mask, "mean"), torch.stack([hidden[0, :2].mean(0), hidden[1].mean(0)]))
    torch.testing.assert_close(pool(hidden, mask, "last"), torch.stack([hidden[0, 1], hidden[1, 2]]))
    with pytest.raises(ValueError, match="pooling must be one of"):
        pool(hidden, mask, "max")


def test_unnormalised_embeddings_keep_their_length(folders: dict[str, Path]) -> None:
    raw = TransformersTeacher(folders["llama"], max_length=64, normalize=False).encode(TEXTS)
    unit = TransformersTeacher(folders["llama"], max_length=64).encode(TEXTS)
    assert (raw.norm(dim=1) - 1).abs().min() > 0.01
    torch.testing.assert_close(raw / raw.norm(dim=1, keepdim=True), unit)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(len(TEXTS)))


def test_lower_precision_is_close_and_comes_back_as_float32(folders: dict[str, Path]) -> None:
    exact = TransformersTeacher(folders["bert"], max_length=64).encode(TEXTS)
    rough = TransformersTeacher(folders["bert"], max_length=64, dtype="bfloat16").encode(TEXTS)
    assert rough.dtype == torch.float32
    assert 0 < (exact - rough).abs().max() < 0.1


def test_the_model_is_frozen_and_leaves_no_trace(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    random_state = torch.get_rng_state()
    level = transformers.utils.logging.get_verbosity()
    teacher = TransformersTeacher(folders["bert"], max_length=64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = teacher.encode(TEXTS)
    # BERT without its pooler on disk gets a random one, which must not shift the caller's random numbers.
    assert torch.equal(random_state, torch.get_rng_state())
    assert transformers.utils.logging.get_verbosity() == level
    assert not embedding.is_inference()
    assert not embedding.requires_grad
    assert not teacher._network._model.training
    assert not any(parameter.requires_grad for parameter in teacher._network._model.parameters())
    torch.testing.assert_close(embedding, TransformersTeacher(folders["bert"], max_length=64).encode(TEXTS))
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_on_request(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    TransformersTeacher(folders["bert"], max_length=64).encode(TEXTS, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "8/8" in err


def test_no_texts_and_empty_texts(folders: dict[str, Path]) -> None:
    for kind in ("llama", "bert"):
        teacher = TransformersTeacher(folders[kind], max_length=64)
        assert teacher.encode([]).shape == (0, 16)
        embedding = teacher.encode(["", "fox", ""])
        assert embedding.isfinite().all()
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(embedding[0], embedding[2])


def test_a_padding_token_unknown_to_the_model_does_no_harm(tmp_path: Path) -> None:
    folder = write_model("llama", tmp_path / "llama")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    expected = TransformersTeacher(folder, max_length=64).encode(TEXTS)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    config = json.loads((folder / "config.json").read_text())
    tokenizer.save_pretrained(folder)
    # The model's embedding ends where the tokenizer's new token begins.
    size = tokenizer.pad_token_id
    model = transformers.LlamaForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(size)
    model.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == size < config["vocab_size"]
    torch.testing.assert_close(TransformersTeacher(folder, max_length=64).encode(TEXTS), expected)


def test_halves_of_characters_are_replaced(folders: dict[str, Path]) -> None:
    teacher = TransformersTeacher(folders["bert"], max_length=64)
    halves, whole = teacher.encode(["cut \ud83d", "a \ud83d\ude00"]), ["cut \N{REPLACEMENT CHARACTER}", "a \U0001f600"]
    assert torch.equal(halves, teacher.encode(whole))


def test_texts_must_be_strings(folders: dict[str, Path]) -> None:
    teacher = TransformersTeacher(folders["bert"], max_length=64)
    with pytest.raises(ValueError, match="got one str"):
        teacher.encode("one text")
    with pytest.raises(ValueError, match="text 1 is a float"):
        teacher.encode(["fine", float("nan")])  # type: ignore[list-item]
