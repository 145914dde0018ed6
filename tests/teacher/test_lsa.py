"""LSATeacher against the definition of latent semantic analysis."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cellgraph.teacher import EmbeddingCache, LSATeacher, Teacher, load_teacher


def corpus(count: int = 120, words: int = 60, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    vocabulary = [f"word{number}" for number in range(words)]
    return [" ".join(draw.choices(vocabulary, k=draw.randint(5, 20))) for _ in range(count)]


@pytest.fixture(scope="module")
def fitted() -> LSATeacher:
    teacher = LSATeacher(20)
    teacher.fit(corpus())
    return teacher


def test_embeddings_equal_the_definition() -> None:
    # So wide that the randomised decomposition is exact.
    texts, width = corpus(), 55
    terms = sorted({term for text in texts for term in text.split()})
    inverse = {
        term: math.log((1 + len(texts)) / (1 + sum(term in text.split() for text in texts))) + 1 for term in terms
    }

    def row(text: str) -> np.ndarray:
        counts = Counter(text.split())
        values = np.array([(1 + math.log(counts[t])) * inverse[t] if counts[t] else 0.0 for t in terms])
        return values / np.linalg.norm(values)

    matrix = np.stack([row(text) for text in texts])
    right = np.linalg.svd(matrix)[2][:width].T
    new = corpus(30, seed=1)
    expected = np.stack([row(text) for text in new]) @ right
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)

    teacher = LSATeacher(width)
    teacher.fit(texts)
    embedding = teacher.encode(new).numpy()
    assert embedding.dtype == np.float32
    # Singular vectors have no sign of their own; what they preserve, the products, are the same.
    np.testing.assert_allclose(embedding @ embedding.T, expected @ expected.T, atol=1e-5)
    np.testing.assert_allclose(np.abs(embedding), np.abs(expected), atol=1e-3)


def test_fitting_is_deterministic_and_the_fingerprint_says_what_was_fitted() -> None:
    def fit(texts: list[str], **options: Any) -> LSATeacher:
        teacher = LSATeacher(20, **options)
        teacher.fit(texts)
        return teacher

    base = fit(corpus())
    assert isinstance(base, Teacher)
    assert fit(corpus()).fingerprint == base.fingerprint
    assert torch.equal(fit(corpus()).encode(corpus(9)), base.encode(corpus(9)))
    others = [fit(corpus(seed=1)), fit(corpus(), min_texts=1, seed=1), fit(corpus(), max_terms=40)]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 4
    before = base.fingerprint
    base.fit(corpus(seed=1))
    assert base.fingerprint == others[0].fingerprint != before


def test_rows_have_unit_length_and_unknown_texts_are_zero(fitted: LSATeacher) -> None:
    embedding = fitted.encode(["word1 word2", "", "nothing of this is known", "WORD1, word2!", "🙂"])
    assert embedding.isfinite().all()
    torch.testing.assert_close(embedding.norm(dim=1), torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0]))
    assert torch.equal(embedding[0], embedding[3])
    assert fitted.encode([]).shape == (0, 20)


def test_save_and_load_are_exact_and_without_pickle(fitted: LSATeacher, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"teacher.json", "teacher.safetensors", "vocabulary.json"}
    loaded = load_teacher(tmp_path)
    assert isinstance(loaded, LSATeacher)
    assert loaded.fingerprint == fitted.fingerprint
    assert torch.equal(loaded.encode(corpus(50, seed=3)), fitted.encode(corpus(50, seed=3)))
    loaded.fit(corpus())
    assert loaded.fingerprint == fitted.fingerprint


def test_options_survive_saving(tmp_path: Path) -> None:
    teacher = LSATeacher(10, max_ngram=2, min_texts=1, max_terms=300, stop_words=True, seed=4)
    teacher.fit([f"the {text}" for text in corpus()])
    assert "the" not in teacher._terms()
    assert any(" " in term for term in teacher._terms())
    assert len(teacher._terms()) == 300
    teacher.save_pretrained(tmp_path)
    loaded = load_teacher(tmp_path)
    assert repr(loaded) == repr(teacher)
    assert torch.equal(loaded.encode(corpus(9)), teacher.encode(corpus(9)))


def test_damaged_files_are_refused(fitted: LSATeacher, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path)
    tensor_file, vocabulary_file = tmp_path / "teacher.safetensors", tmp_path / "vocabulary.json"
    tensors, good = load_file(tensor_file), tensor_file.read_bytes()
    for content in (good[:-10], b"", good[:-1] + bytes([good[-1] ^ 1])):
        tensor_file.write_bytes(content)
        with pytest.raises(ValueError, match="damaged"):
            load_teacher(tmp_path)
    save_file({**tensors, "idf": tensors["idf"][:-1].clone()}, tensor_file)
    with pytest.raises(ValueError, match="damaged: expected shapes"):
        load_teacher(tmp_path)
    tensor_file.write_bytes(good)
    vocabulary_file.write_text(json.dumps(json.loads(vocabulary_file.read_text())[::-1]))
    with pytest.raises(ValueError, match="damaged"):
        load_teacher(tmp_path)
    tensor_file.unlink()
    with pytest.raises(OSError, match=r"teacher\.safetensors"):
        load_teacher(tmp_path)


def test_use_before_fitting_is_refused(tmp_path: Path) -> None:
    teacher = LSATeacher()
    assert teacher.width == 225
    for use in (
        lambda: teacher.encode(["a"]),
        lambda: teacher.fingerprint,
        lambda: teacher.save_pretrained(tmp_path),
        lambda: EmbeddingCache(tmp_path).embed(teacher, ["a"]),
    ):
        with pytest.raises(ValueError, match="must be fitted on training texts first"):
            use()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (corpus(19), "got 19 texts with"),
        (corpus(100, words=10), "got 100 texts with 10 terms"),
        (["", " ", "?"] * 50, "got 150 texts with 0 terms"),
        ([], "got 0 texts with 0 terms"),
        (corpus(5, words=100) * 30, "the 150 texts to fit allow 5 only"),
    ],
)
def test_too_little_to_fit_is_refused(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LSATeacher(20).fit(texts)


def test_bad_arguments_are_refused(fitted: LSATeacher) -> None:
    with pytest.raises(ValueError, match="width must be a positive integer, got 0"):
        LSATeacher(0)
    with pytest.raises(ValueError, match="max_ngram must be an integer"):
        LSATeacher(max_ngram=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="text 1 is a NoneType"):
        fitted.encode(["a", None])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="got one str"):
        LSATeacher(2).fit("one text")


def test_marks_on_letters_are_parts_of_terms() -> None:
    teacher = LSATeacher(2, min_texts=1)
    teacher.fit(["यह दिन अच्छा है", "दान अच्छा है", "पानी"])
    one, other, both = teacher.encode(["दिन", "दान", "दिन दान"])
    assert one.norm() > 0.9
    assert other.norm() > 0.9
    assert teacher._terms() == sorted(["यह", "दिन", "अच्छा", "है", "दान", "पानी"])
    assert min(float(both @ one), float(both @ other)) > 0.5
