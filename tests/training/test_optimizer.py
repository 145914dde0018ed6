"""Optimisers: each by its own library, Muon beside AdamW as the two by themselves."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cellgraph import GMLPCell, Lattice
from cellgraph.training import RunSettings
from cellgraph.training.optimizer import OPTIMIZERS, Joined, make_optimizer
from cellgraph.training.schedule import parameter_groups
from cellgraph.training.stacked_muon import StackedMuon


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))


def steps(network: nn.Module, optimizer: torch.optim.Optimizer, count: int = 3) -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(count):
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()


def test_muon_takes_matrices_and_adamw_the_rest() -> None:
    ours, theirs = model(), model()
    groups = [{"params": list(ours.parameters()), "lr": 0.01, "weight_decay": 0.1}]
    steps(ours, make_optimizer("muon", groups, lr=0.01, betas=(0.9, 0.98), fused=False))
    matrices = [p for p in theirs.parameters() if p.ndim == 2]
    others = [p for p in theirs.parameters() if p.ndim != 2]
    muon = torch.optim.Muon(matrices, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=0.01, weight_decay=0.1, betas=(0.9, 0.98))
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        theirs.zero_grad()
        theirs(x).square().mean().backward()
        muon.step()
        adamw.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_muon_takes_the_matrices_of_a_cell_and_none_of_its_vectors() -> None:
    cell = GMLPCell(Lattice((2, 3, 3)), 4, hidden=6, heads=2)
    found = {name: kind for name, kind in kinds(cell).items() if kind is not torch.optim.AdamW}
    assert found == {"in_weight": StackedMuon, "out_weight": StackedMuon}
    assert kinds(model()) == {
        "0.weight": torch.optim.Muon, "0.bias": torch.optim.AdamW,
        "1.weight": torch.optim.Muon, "1.bias": torch.optim.AdamW,
    }  # fmt: skip


def kinds(network: nn.Module) -> dict[str, type]:
    """Which optimiser each parameter has, without weight decay."""
    groups = parameter_groups(network.named_parameters(), lr=0.1, weight_decay=0.0)
    joined = make_optimizer("muon", groups, lr=0.1, betas=(0.9, 0.98), fused=False)
    assert isinstance(joined, Joined)
    of = {p: type(part) for part in joined.parts for group in part.param_groups for p in group["params"]}
    return {name: of[p] for name, p in network.named_parameters()}


@pytest.mark.parametrize("shape", [(1, 6, 4), (3, 4, 6)])
def test_each_matrix_of_a_stack_is_updated_as_one_by_itself(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    stack = nn.Parameter(torch.randn(shape))
    slices = [nn.Parameter(part.clone()) for part in stack.detach()]
    ours = StackedMuon([stack], lr=0.1, weight_decay=0.3)
    theirs = torch.optim.Muon(slices, lr=0.1, weight_decay=0.3, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        stack.grad = torch.randn(shape)
        for part, gradient in zip(slices, stack.grad, strict=True):
            part.grad = gradient.clone()
        before = stack.detach().clone()
        ours.step()
        theirs.step()
        # Both are rounded to bfloat16 on the way, in an order of their own.
        moved = 0.1 * 0.2 * 6**0.5
        torch.testing.assert_close(stack.detach(), torch.stack([*slices]).detach(), rtol=0, atol=0.03 * moved)
        assert (stack - before).abs().max() > 0.1 * moved
        with torch.no_grad():
            for part, own in zip(slices, stack, strict=True):
                part.copy_(own)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_goes_on_from_its_state_as_if_it_had_not_stopped(name: str) -> None:
    if name == "adamw_8bit":
        pytest.importorskip("bitsandbytes")

    def made(network: nn.Module) -> torch.optim.Optimizer:
        groups = parameter_groups(network.named_parameters(), lr=0.01, weight_decay=0.01)
        return make_optimizer(name, groups, lr=0.01, betas=(0.9, 0.98), fused=False)

    whole = model()
    optimizer = made(whole)
    steps(whole, optimizer)
    part, state = copy.deepcopy(whole), copy.deepcopy(optimizer.state_dict())
    steps(whole, optimizer)
    again = made(part)
    again.load_state_dict(state)
    steps(part, again)
    for one, other in zip(whole.parameters(), part.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_schedule_reaches_every_part_also_after_loading() -> None:
    network = model()
    optimizer = make_optimizer("muon", [{"params": list(network.parameters())}], lr=1.0, betas=(0.9, 0.98), fused=False)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    assert isinstance(optimizer, Joined)
    optimizer.load_state_dict(optimizer.state_dict())
    steps(network, optimizer, 1)
    schedule.step()
    assert [part.param_groups[0]["lr"] for part in optimizer.parts] == [0.5, 0.5]


def test_states_of_eight_bits_are_a_quarter_of_the_size() -> None:
    pytest.importorskip("bitsandbytes")
    sizes = {}
    for name in ("adamw", "adamw_8bit"):
        network = nn.Linear(512, 512, bias=False)
        optimizer = make_optimizer(
            name, [{"params": list(network.parameters())}], lr=0.01, betas=(0.9, 0.98), fused=False
        )
        network(torch.randn(2, 512)).sum().backward()
        optimizer.step()
        tensors = [
            value for state in optimizer.state.values() for value in state.values() if isinstance(value, torch.Tensor)
        ]
        sizes[name] = sum(x.numel() * x.element_size() for x in tensors)
    assert sizes["adamw_8bit"] < 0.3 * sizes["adamw"]


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"optimizer must be one of .*'adamw'.*got 'sgd'"):
        RunSettings(optimizer="sgd")
    with pytest.raises(ValueError, match="optimizer must be one of"):
        make_optimizer("sgd", [], lr=0.1, betas=(0.9, 0.98), fused=False)


def test_the_state_of_another_optimiser_is_refused() -> None:
    network = model()
    given = [{"params": list(network.parameters())}]
    optimizer = make_optimizer("muon", given, lr=0.1, betas=(0.9, 0.98), fused=False)
    with pytest.raises(ValueError, match="state of 2 joined optimisers"):
        optimizer.load_state_dict(torch.optim.AdamW(network.parameters()).state_dict())
