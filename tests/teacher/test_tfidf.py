"""TfidfTeacher against the formulas of its weights, on dense vectors of the terms themselves."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from cellgraph.teacher import Teacher, TfidfTeacher, load_teacher

TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "cells talk to cells and cells answer",
    "the time is now and the time is here",
    "dog days",
]
NEW = ["the brown dog talk", "cells cells dog time time time", "unseen words only"]


def reference(texts: list[str], weighting: str, fitted: list[str]) -> np.ndarray:
    terms = sorted({term for text in (*texts, *fitted) for term in text.split()})
    n = len(fitted)
    found = {term: sum(term in text.split() for text in fitted) for term in terms}
    length = sum(len(text.split()) for text in fitted) / n

    def row(text: str) -> np.ndarray:
        counts, own = Counter(text.split()), len(text.split())
        values = []
        for term in terms:
            f, nt = counts[term], found[term]
            if weighting == "bm25":
                idf = math.log(1 + (n - nt + 0.5) / (nt + 0.5))
                values.append(idf * f * 2.2 / (f + 1.2 * (0.25 + 0.75 * own / length)))
            else:
                values.append((1 + math.log(f)) * (1 + math.log((1 + n) / (1 + nt))) if f else 0.0)
        return np.array(values) / np.linalg.norm(values)

    return np.stack([row(text) for text in texts])


@pytest.mark.parametrize("weighting", ["bm25", "tfidf"])
def test_products_equal_those_of_the_sparse_vectors(weighting: str) -> None:
    # So wide that no two of these terms meet.
    teacher = TfidfTeacher(2**17, weighting=weighting)
    teacher.fit(TEXTS)
    assert isinstance(teacher, Teacher)
    embedding = teacher.encode([*TEXTS, *NEW]).numpy()
    expected = reference([*TEXTS, *NEW], weighting, TEXTS)
    np.testing.assert_allclose(embedding @ embedding.T, expected @ expected.T, atol=1e-5)


def test_folding_keeps_products_in_the_mean() -> None:
    words = [f"w{number}" for number in range(3000)]
    texts = [" ".join(words[start : start + 40]) for start in range(0, 3000, 10)]
    wide, narrow = TfidfTeacher(2**17), TfidfTeacher(512)
    products = []
    for teacher in (wide, narrow):
        teacher.fit(texts)
        rows = teacher.encode(texts)
        products.append((rows @ rows.T).flatten())
    error = products[1] - products[0]
    # Signed folding errs to both sides by about width ** -0.5 (Weinberger et al., theorem 3).
    assert abs(float(error.mean())) < 0.002
    assert 0.25 * 512**-0.5 < float(error.std()) < 2 * 512**-0.5


def test_a_saved_teacher_comes_back(tmp_path: Path) -> None:
    teacher = TfidfTeacher(64)
    for call in (lambda: teacher.encode(TEXTS), lambda: teacher.fingerprint):
        with pytest.raises(ValueError, match="must be fitted"):
            call()
    teacher.fit(TEXTS)
    teacher.save_pretrained(tmp_path)
    again = load_teacher(tmp_path)
    assert again.fingerprint == teacher.fingerprint
    assert torch.equal(again.encode(NEW), teacher.encode(NEW))
    other = TfidfTeacher(64)
    other.fit(TEXTS[1:])
    assert other.fingerprint != teacher.fingerprint


def test_texts_without_terms_are_zero() -> None:
    teacher = TfidfTeacher(64)
    teacher.fit(TEXTS)
    assert teacher.encode(["?!", "dog"]).norm(dim=1).tolist() == pytest.approx([0.0, 1.0])
    assert teacher.encode([]).shape == (0, 64)


def test_bad_arguments_are_refused() -> None:
    for options, message in (
        ({"weighting": "best"}, "weighting must be one of"),
        ({"width": 0}, "width must be 1 to 262,144"),
        ({"b": 2.0}, "b between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            TfidfTeacher(**options)
    with pytest.raises(ValueError, match="got 0 texts without any"):
        TfidfTeacher().fit([])
    with pytest.raises(ValueError, match="got 1 texts without any"):
        TfidfTeacher().fit(["?!"])


def test_marks_on_letters_are_parts_of_terms() -> None:
    teacher = TfidfTeacher(256)
    teacher.fit(["यह दिन अच्छा है", "दान अच्छा है"])
    day, alms = teacher.encode(["दिन", "दान"])
    assert torch.allclose(torch.stack([day.norm(), alms.norm()]), torch.ones(2))
    assert abs(float(day @ alms)) < 1e-6
