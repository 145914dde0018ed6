"""Categories by rule, and the table by category against counting."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.markdown import Markdown

from cellgraph.answering import AnswerBank, Confidence
from cellgraph.answering.categories import GENERAL
from cellgraph.answering.questions import judge_questions, markdown, save_report
from cellgraph.retrieval import Prediction

CONFIDENCE = Confidence(
    weights=(8.0, 4.0), bias=-4.0, threshold=0.6, precision=0.8, num_questions=9, answered=0.5, equivalence=0.9
)


def test_the_table_is_what_counting_gives(tmp_path: Path) -> None:
    embeddings = torch.randn(200, 3)
    bank = AnswerBank([f"answer {i}" for i in range(200)], embeddings)
    target = torch.arange(0, 120)
    answers = embeddings[target]
    turn = torch.linalg.qr(torch.randn(3, 3))[0]
    noisy = answers + 0.3 * torch.randn(120, 3)
    systems = {
        # Queries are compared with keys, wherever the embedding is.
        "noisy": Prediction(torch.randn(120, 3), query=noisy @ turn, key=lambda answer: answer @ turn),
        "blind": Prediction(torch.randn(120, 3)),
    }
    categories = [GENERAL if i % 3 else "mine" for i in range(120)]
    report = judge_questions(
        systems, answers, target, categories, bank=bank, confidence=CONFIDENCE, trusted="noisy", num_resamples=200
    )

    unit = embeddings.double().numpy()
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    right = unit[:120] @ unit.T >= 0.9
    rows = {(row["category"], row["system"]): row for row in report.rows}
    assert list(dict.fromkeys(row["category"] for row in report.rows)) == [GENERAL, "mine", "all"]
    for name, prediction in {"noisy": noisy, "blind": systems["blind"].embedding}.items():
        scores = prediction.double().numpy() @ unit.T / prediction.double().norm(dim=1, keepdim=True).numpy()
        order = np.argsort(-scores, axis=1)
        for category in (GENERAL, "mine", "all"):
            some = [i for i in range(120) if category in (categories[i], "all")]
            row = rows[category, name]
            assert row["count"] == len(some)
            for k in (1, 5, 10):
                relevant = np.mean([right[i, order[i, :k]].any() for i in some])
                assert row[f"relevant_at_{k}"] == pytest.approx(relevant)
                assert row[f"true_at_{k}"] == pytest.approx(np.mean([i in order[i, :k] for i in some]))
                assert row[f"relevant_at_{k}_low"] <= relevant + 1e-9
                assert row[f"relevant_at_{k}_high"] >= relevant - 1e-9

    scores = noisy.double().numpy() @ unit.T / noisy.double().norm(dim=1, keepdim=True).numpy()

    def said(scores: np.ndarray) -> np.ndarray:
        best = -np.sort(-scores, axis=1)
        return 1 / (1 + np.exp(4 - 8 * best[:, 0] - 4 * (best[:, 0] - best[:, 1])))

    known = said(scores) >= 0.6
    came = right[np.arange(120), scores.argmax(1)]
    total = report.trust[-1]
    assert total["answered"] == pytest.approx(known.mean())
    assert total["right"] == pytest.approx(came[known].mean())
    assert total["answered_without"] == pytest.approx((said(np.where(right, -1, scores)) >= 0.6).mean())
    assert sum(row["count"] for row in report.reliability) == 120

    save_report(report, tmp_path)
    assert json.loads((tmp_path / "questions.json").read_text())["bank"] == 200
    text = (tmp_path / "questions.md").read_text()
    assert text == markdown(report)
    assert sum("noisy" in line.split("|")[3] for line in text.splitlines() if line.startswith("|")) == 3
    assert "at least 0.900" in text


def test_words_are_one_system_more() -> None:
    bank = AnswerBank(["a", "b", "c"], torch.eye(3))
    target = torch.tensor([0, 1])

    def with_words(scores: torch.Tensor) -> torch.Tensor:
        torch.testing.assert_close(scores, torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
        return scores + torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])

    report = judge_questions(
        {"it": Prediction(bank.embeddings[[1, 1]])},
        torch.eye(3)[target],
        target,
        ["all of them"] * 2,
        bank=bank,
        confidence=CONFIDENCE,
        trusted="it",
        with_words=with_words,
        num_resamples=10,
    )
    assert {row["system"]: row["true_at_1"] for row in report.rows} == {"it": 0.5, "it + BM25": 1.0}


def test_categories_are_no_markup() -> None:
    bank = AnswerBank(["a", "b", "c"], torch.eye(3))
    wild = "[/x] a|b *c*\n<d> \x1b[2Je"
    report = judge_questions(
        {"it": Prediction(torch.eye(3))},
        torch.eye(3),
        torch.arange(3),
        [wild] * 3,
        bank=bank,
        confidence=CONFIDENCE,
        trusted="it",
        num_resamples=10,
    )
    text = markdown(report)
    assert "\x1b" not in text
    rows = [line for line in text.splitlines() if line.startswith(r"| \[/x\] a\|b \*c\* \<d\> ")]
    assert len(rows) == 2
    console = Console(file=io.StringIO(), width=300)
    console.print(Markdown(text))
    assert console.file.getvalue().count("[/x] a|b *c* <d> \ufffd[2Je") == 2


def test_nothing_answered_has_no_precision() -> None:
    bank = AnswerBank(["a", "b", "c"], torch.eye(3))
    never = Confidence(
        weights=(0.0, 0.0), bias=-3.0, threshold=None, precision=0.8, num_questions=9, answered=0.0, equivalence=0.9
    )
    report = judge_questions(
        {"it": Prediction(torch.eye(3))},
        torch.eye(3),
        torch.arange(3),
        [GENERAL] * 3,
        bank=bank,
        confidence=never,
        trusted="it",
        num_resamples=10,
    )
    assert [row["category"] for row in report.rows] == [GENERAL]
    assert report.trust[0]["right"] is None
    cells = [[cell.strip() for cell in line.split("|")] for line in markdown(report).splitlines()]
    assert ["", "general", "3", "0.000", "-", "0.000", ""] in cells
