"""Two trainings, equal bits: what the setting does, and that it is undone afterwards."""

from __future__ import annotations

from typing import Any

import torch
from on_pairs import plain_objective, plain_settings, train_pairs

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.retrieval import EmbeddedPairs
from cellgraph.training.randomness import deterministic


def trained(*, seen: list[bool]) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    pairs = EmbeddedPairs(torch.randn(20, 6), torch.randn(20, 6))
    cell = GMLPCell(Lattice((2, 3, 3)), 8, hidden=8, heads=2, fire_rate=0.7)
    model = CellGraph(cell, in_features=6, surface_channels=1, num_steps=(2, 4))

    def look(module: Any, given: Any) -> None:
        if module.training:
            seen.append(torch.are_deterministic_algorithms_enabled())

    model.register_forward_pre_hook(look)
    settings = plain_settings(max_steps=6, batch_size=5, accelerator="cpu", compile=True, deterministic=True)
    train_pairs(model, plain_objective(), pairs, pairs, settings=settings, progress=False)
    # The way that is measured to be the fastest is not looked for.
    assert model.cell._ways is None
    return model.state_dict()


def test_two_trainings_come_to_equal_bits() -> None:
    seen: list[bool] = []
    one, other = trained(seen=seen), trained(seen=seen)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert all(seen)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_kernel_without_order_is_an_error_only_within() -> None:
    with deterministic(enabled=True):
        assert torch.are_deterministic_algorithms_enabled()
        with deterministic(enabled=False):
            assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_the_caller_only_wanted_to_be_warned_of_stays_so() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with deterministic(enabled=True):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
