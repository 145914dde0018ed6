"""``cellgraph fit-decoder`` that was stopped after fitting: it is judged, and not fitted anew or refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cellgraph import RunFolder
from cellgraph.answering import FinishedRun, fitting
from cellgraph.cli import fit_decoder
from cellgraph.data import QAPair, Split

WIDTH = 8


def embed(texts: list[str]) -> torch.Tensor:
    draws = [torch.randn(WIDTH, generator=torch.Generator().manual_seed(len(text))) for text in texts]
    return torch.nn.functional.normalize(torch.stack(draws), dim=1)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pairs = [QAPair(f"Where is {n}?", f"The {'very ' * (n % 5)}old place {n}.") for n in range(24)]
    found: Any = SimpleNamespace(
        folder=RunFolder(tmp_path),
        pairs=Split(pairs[:16], pairs[16:20], pairs[20:]),
        teacher=SimpleNamespace(width=WIDTH),
        model=None,
        embed=embed,
        read=embed,
    )
    monkeypatch.setattr(FinishedRun, "load", lambda folder: found)
    answered = SimpleNamespace(embedding=embed([pair.answer for pair in pairs[20:]]))
    monkeypatch.setattr(fit_decoder, "predict", lambda *given, **options: answered)
    return found.folder.decoder


def test_what_was_fitted_is_judged_by_the_next(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*given: Any) -> Any:
        raise KeyboardInterrupt

    judge = fitting.judge_decoder
    monkeypatch.setattr(fitting, "judge_decoder", stopped)
    with pytest.raises(KeyboardInterrupt):
        fit_decoder.main(["run", "--max-epochs", "1"])
    weights = (run / "model.safetensors").read_bytes()
    # Or it was stopped a moment earlier, before what it no longer needs was gone.
    (run / fitting.CHECKPOINTS).mkdir()
    (run / fitting.CHECKPOINTS / "best.ckpt").write_bytes(b"")

    monkeypatch.setattr(fitting, "judge_decoder", judge)
    with pytest.raises(ValueError, match="begun with max_epochs=1, seed=0: give the same, or remove it"):
        fit_decoder.main(["run", "--max-epochs", "2", "--seed", "3"])
    fit_decoder.main(["run", "--max-epochs", "1"])
    assert (run / "model.safetensors").read_bytes() == weights
    assert list(json.loads((run / "report.json").read_text())) == [
        "true answer",
        "lattice",
        "question (teacher alone)",
        "mean answer",
    ]
    assert not (run / fitting.CHECKPOINTS).exists()
    with pytest.raises(ValueError, match="holds a decoder already: remove it to fit another"):
        fit_decoder.main(["run"])
