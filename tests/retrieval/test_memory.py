"""A memory is handed on through ten thousand updates, and goes from a checkpoint to where the batches are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from on_pairs import plain_objective, plain_settings, train_pairs

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.retrieval import EmbeddedPairs
from cellgraph.retrieval.lesson import PairLesson

STATM = Path("/proc/self/statm")


class Watched(CellGraph):
    """Notes the process's resident memory after some updates, and that memory comes without a graph."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.calls, self.without_memory, self.resident = 0, 0, {}

    def forward(self, question, memory=None, **options):
        if self.training:
            self.calls += 1
            self.without_memory += memory is None
            assert memory is None or not memory.requires_grad
            if self.calls in (1_000, 10_000):
                self.resident[self.calls] = int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return super().forward(question, memory, **options)


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="resident memory is read from /proc")
def test_ten_thousand_updates_with_persistent_memory_stay_flat(tmp_path):
    rows = torch.randn(10_000, 6)
    dialogue = EmbeddedPairs(rows, rows.roll(1, 0), dialogue=["endless"] * 10_000)
    cell = GMLPCell(Lattice((3, 3, 3)), 8, hidden=8, heads=2, memory_channels=2)
    model = Watched(cell, in_features=6, surface_channels=1, num_steps=3)
    settings = plain_settings(max_steps=10_000, batch_size=1, window=1, accelerator="cpu", checkpoint_every=500)
    # Nothing else keeps a memory from growing over thousands of turns that no gradient connects.
    objective = plain_objective(internal=1.0, dialogue=0.0)
    result = train_pairs(model, objective, dialogue, settings=settings, folder=tmp_path, progress=False)
    assert result.steps == 10_000
    assert model.without_memory == 1
    # It may fall: the system takes back what tests before this one have left in the process.
    assert model.resident[10_000] < 1.02 * model.resident[1_000]


class Asked(torch.nn.Module):
    """Notes where the memory is that it is given."""

    def forward(self, question, memory=None, **options):
        raise ValueError(f"question on {question.device}, memory on {memory.device}")


def test_a_memory_out_of_a_checkpoint_goes_where_the_batch_is():
    pairs = EmbeddedPairs(torch.randn(4, 6), torch.randn(4, 6), dialogue=["a", "a", "b", "b"])
    lesson = PairLesson(plain_objective(), pairs, None, plain_settings(batch_size=2, window=1, noise=0.0))
    lesson.load_state_dict({"memory": torch.zeros(2, 1, 6)})
    batch = [*zip(lesson.batches(), range(2), strict=False)][1][0].to("meta")
    assert not batch.starts
    with pytest.raises(ValueError, match="question on meta, memory on meta"):
        lesson.learn(Asked(), batch, done=0.0, generator=torch.Generator())
