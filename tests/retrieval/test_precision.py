"""The precision `auto`: by the device, told as what was used, and kept by a run that goes on elsewhere."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from on_pairs import plain_objective, plain_settings, train_pairs

from cellgraph import CellGraphOutput
from cellgraph.retrieval import EmbeddedPairs, TrainSettings
from cellgraph.training import precision as module
from cellgraph.training import read_checkpoint, recorded_precision, used_precision

WIDTH = 6
SETTINGS = plain_settings(max_steps=4, batch_size=8, warmup_steps=1, val_every=2, ema=0.0, accelerator="cpu")


@pytest.fixture
def multiplies(monkeypatch):
    """Says from here on which types of device multiply bfloat16."""

    def say(*kinds: str) -> None:
        monkeypatch.setattr(module, "multiplies_bfloat16", lambda kind: kind in kinds)

    return say


class Watched(torch.nn.Module):
    """A linear map that notes in what it multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.dtypes = torch.nn.Linear(WIDTH, WIDTH), set()

    def target_surface(self, answer):
        return answer

    def forward(self, question, memory=None, **options):
        embedding = self.map(question)
        self.dtypes.add(embedding.dtype)
        return CellGraphOutput(embedding=embedding, surface=embedding)


def run(folder=None, *, resume=False, **options):
    generator = torch.Generator().manual_seed(0)
    pairs = EmbeddedPairs(*(torch.randn(24, WIDTH, generator=generator) for _ in range(2)))
    settings = replace(SETTINGS, **options)
    model = Watched()
    result = train_pairs(
        model, plain_objective(), pairs, settings=settings, folder=folder, resume=resume, progress=False
    )
    return result, model.dtypes


def test_auto_is_the_default_and_goes_by_the_device(multiplies, monkeypatch):
    assert TrainSettings().precision == "auto"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    multiplies("cuda")
    assert [used_precision("auto", name) for name in ("auto", "gpu", "cuda", "cpu")] == ["bf16-mixed"] * 3 + ["32-true"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    multiplies("cpu")
    assert [used_precision("auto", name) for name in ("auto", "cpu")] == ["bf16-mixed"] * 2
    multiplies()
    assert used_precision("auto") == "32-true"


@pytest.mark.parametrize("name", ["32-true", "bf16-mixed", "16-mixed", "64-true"])
@pytest.mark.parametrize("kinds", [(), ("cpu",)])
def test_a_name_stands_for_itself(multiplies, name, kinds):
    multiplies(*kinds)
    assert used_precision(name, "cpu") == name


@pytest.mark.parametrize(
    ("kinds", "name", "dtype"), [((), "32-true", torch.float32), (("cpu",), "bf16-mixed", torch.bfloat16)]
)
def test_a_run_computes_in_what_it_says(multiplies, tmp_path, kinds, name, dtype):
    multiplies(*kinds)
    result, dtypes = run(tmp_path)
    assert result.precision == name
    assert dtypes == {dtype}
    assert recorded_precision(read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")) == name


@pytest.mark.parametrize(("there", "here"), [(("cpu",), ()), ((), ("cpu",))])
def test_a_run_that_moves_keeps_its_precision(multiplies, tmp_path, there, here):
    multiplies(*there)
    started, dtypes = run(tmp_path / "there")
    shutil.copytree(tmp_path / "there", tmp_path / "here")
    multiplies(*here)
    assert used_precision("auto") != started.precision
    resumed, dtypes_resumed = run(tmp_path / "here", resume=True, max_steps=8)
    assert resumed.precision == started.precision
    assert resumed.steps == 8
    assert dtypes_resumed == dtypes
    assert run(tmp_path / "new")[0].precision != started.precision
    # Who names one has it.
    named = used_precision("auto")
    assert run(tmp_path / "there", resume=True, max_steps=8, precision=named)[0].precision == named


def test_a_checkpoint_that_does_not_say_leaves_it_to_the_device(multiplies, tmp_path):
    multiplies()
    run(tmp_path)
    last = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(last)
    for said in (None, "8-bit"):
        checkpoint["update_state"]["precision"] = said
        torch.save(checkpoint, last)
        multiplies("cpu")
        assert used_precision("auto", last=last) == "bf16-mixed"
