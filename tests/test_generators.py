"""The global generators: lent and given back, whatever is drawn and seeded within."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from generators import states_after

from cellgraph.generators import generator_states, own_generators, restore_generators


def draw() -> list[float]:
    """A number of each."""
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002


@pytest.mark.parametrize("seed", [None, 3])
def test_what_is_drawn_and_seeded_within_is_not_seen_outside(seed: int | None) -> None:
    before = states_after(11)
    with pytest.raises(ValueError, match="could not convert"), own_generators(seed):
        float(f"{draw()}, {states_after(5)}")
    assert states_after() == before


def test_a_seed_is_of_pytorch_s_generator_and_without_one_all_go_on() -> None:
    states_after(11)
    expected = draw()
    states_after(11)
    with own_generators():
        assert draw() == expected
    with own_generators(3):
        assert torch.equal(torch.rand(4), torch.rand(4, generator=torch.Generator().manual_seed(3)))
    assert draw() == expected


def test_states_are_taken_back() -> None:
    states = generator_states()
    first = draw()
    restore_generators(states)
    assert draw() == first


def test_the_gpus_generators_are_given_back_and_not_started_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus, started = [torch.tensor([1]), torch.tensor([2])], [False]

    def states() -> list[torch.Tensor]:
        started[0] = True
        return [state.clone() for state in gpus]

    def restore(given: list[torch.Tensor]) -> None:
        for state, value in zip(gpus, given, strict=True):
            state.copy_(value)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: started[0])
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", states)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restore)
    with own_generators(3):
        pass
    assert not started[0]
    for cuda in (True, False):  # by then they are in use
        with own_generators(3, cuda=cuda):
            gpus[1].fill_(7)
        assert gpus[1].item() == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_s_generator_is_given_back() -> None:
    torch.cuda.init()
    before = states_after(11)
    with own_generators(cuda=True):
        torch.manual_seed(5)
        torch.rand(3, device="cuda")
    assert states_after() == before
