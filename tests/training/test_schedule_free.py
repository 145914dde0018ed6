"""The schedule-free optimiser: the paper's three sequences, and a run that is judged and kept by its average."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import differences
from on_pairs import plain_objective, plain_settings, train_pairs

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.retrieval import EmbeddedPairs
from cellgraph.training import RunSettings, model_weights, read_checkpoint
from cellgraph.training.optimizer import make_optimizer, schedule_free_average

pytest.importorskip("schedulefree")
RATE, BETAS, DECAY, WARMUP = 0.05, (0.9, 0.98), 0.1, 4
WIDTH = 6


def gradient(at: torch.Tensor, number: int) -> torch.Tensor:
    """Of a bowl that is deeper along some axes, with noise that is another at each update."""
    slope = torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64) * (at - 2.0)
    return slope + 0.3 * torch.sin(torch.arange(3, dtype=torch.float64) + 7.0 * number)


def by_hand(start: torch.Tensor, rates: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Algorithm 1 of Defazio et al. 2024: x and y after some updates, each sequence by its definition.

    The authors' package divides by the square root of the second moment freed of its bias, where the paper has the
    rate carry that factor; the average's weights are squares of the largest rate so far.
    """
    beta, beta2 = BETAS
    x, z, v, weights = start.clone(), start.clone(), torch.zeros_like(start), 0.0
    for number, rate in enumerate(rates, 1):
        y = (1 - beta) * z + beta * x
        g = gradient(y, number)
        v = beta2 * v + (1 - beta2) * g**2
        z = z - rate * (g / ((v / (1 - beta2**number)).sqrt() + 1e-8) + DECAY * y)
        weight = max(rates[:number]) ** 2
        weights += weight
        x = (1 - weight / weights) * x + weight / weights * z
    return x, (1 - beta) * z + beta * x


def test_it_is_the_paper_s_and_its_average_the_paper_s_average() -> None:
    start = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    rates = [RATE * min(1.0, (step + 1) / WARMUP) for step in range(40)]
    parameter, idle = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    groups = [{"params": [parameter], "weight_decay": DECAY}, {"params": [idle]}]
    optimizer = make_optimizer("schedule_free", groups, lr=RATE, betas=BETAS, fused=False)
    for number, rate in enumerate(rates, 1):
        for group in optimizer.param_groups:
            group["lr"] = rate
        parameter.grad = gradient(parameter.detach(), number)
        optimizer.step()
        x, y = by_hand(start, rates[:number])
        torch.testing.assert_close(parameter.detach(), y, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(schedule_free_average(optimizer)[parameter], x, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(x, y, atol=1e-3)
    # One that is never used is its own average.
    assert torch.equal(schedule_free_average(optimizer)[idle], start)


def model() -> CellGraph:
    torch.manual_seed(0)
    cell = GMLPCell(Lattice((2, 3, 3)), 8, hidden=8, heads=2, fire_rate=0.8)
    return CellGraph(cell, in_features=WIDTH, surface_channels=1, num_steps=(2, 4))


@pytest.fixture(scope="module")
def pairs() -> EmbeddedPairs:
    generator = torch.Generator().manual_seed(0)
    question = torch.randn(40, WIDTH, generator=generator)
    return EmbeddedPairs(question, question @ torch.randn(WIDTH, WIDTH, generator=generator))


def run(pairs: EmbeddedPairs, folder: Path, network: Any = None, *, resume: bool = False, **options: Any) -> Any:
    told = {"max_steps": 12, "batch_size": 8, "warmup_steps": 2, "val_every": 4, "checkpoint_every": 4, "lr": 0.02}
    told |= {"accelerator": "cpu", "precision": "32-true", "optimizer": "schedule_free", "ema": 0.9, **options}
    settings = plain_settings(**told)
    return train_pairs(
        network or model(), plain_objective(), pairs, pairs, settings=settings, folder=folder, resume=resume
    )


def test_a_run_is_validated_and_kept_by_the_average(pairs: EmbeddedPairs, tmp_path: Path) -> None:
    network, seen = model(), []
    names = [name for name, p in network.named_parameters() if p.requires_grad]

    def look(module: Any, given: Any) -> None:
        if not module.training:
            seen.append({name: p.detach().clone() for name, p in module.named_parameters()})

    hook = network.register_forward_pre_hook(look)
    result = run(pairs, tmp_path / "run", network, val_every=12)
    hook.remove()
    checkpoint = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    (state,) = checkpoint["optimizer_states"]
    # A constant rate after the warm-up, whatever the schedule: lr of the last update.
    assert {group["lr"] for group in state["param_groups"]} == {0.02}
    averages = checkpoint["callbacks"]["ScheduleFree"]["average"]
    assert "EMA" not in checkpoint["callbacks"]
    kept = dict(result.model.named_parameters())
    assert [*averages] == names
    moved = 0
    zs = [entry["z"] for entry in state["state"].values() if "z" in entry]
    for name, average in averages.items():
        y = checkpoint["state_dict"][f"model.{name}"]
        assert torch.equal(kept[name], average)
        assert torch.equal(seen[0][name], average)
        # Where z is that of another tensor of this shape, the definition does not hold.
        fitting = [z for z in zs if z.shape == y.shape]
        assert any(torch.allclose(0.1 * z + 0.9 * average, y, atol=1e-6) for z in fitting) or torch.equal(y, average)
        moved += not torch.equal(y, average)
    assert moved > 5


def test_how_often_it_is_validated_changes_no_bit(pairs: EmbeddedPairs, tmp_path: Path) -> None:
    weights = []
    for every in (1, 12):
        run(pairs, tmp_path / str(every), val_every=every)
        checkpoint = read_checkpoint(tmp_path / str(every) / "checkpoints" / "last.ckpt")
        weights.append({**checkpoint["state_dict"], **model_weights(checkpoint)})
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_run_that_goes_on_ends_with_the_same_bits(pairs: EmbeddedPairs, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(pairs, whole, checkpoint_every=8)
    # What a run has that was killed before its end.
    (broken / "checkpoints").mkdir(parents=True)
    for name in ("last.ckpt", "best.ckpt"):
        shutil.copy(whole / "checkpoints" / "previous.ckpt", broken / "checkpoints" / name)
    assert read_checkpoint(broken / "checkpoints" / "last.ckpt")["global_step"] == 8
    run(pairs, broken, checkpoint_every=8, resume=True)
    ends = [read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (whole, broken)]
    assert ends[0]["global_step"] == 12
    assert differences(*ends) == []


def test_another_optimiser_s_checkpoint_is_refused(pairs: EmbeddedPairs, tmp_path: Path) -> None:
    run(pairs, tmp_path, max_steps=2, optimizer="adamw")
    with pytest.raises(ValueError, match="has the state of optimizer='adamw', got optimizer='schedule_free'"):
        run(pairs, tmp_path, resume=True)


def test_without_a_first_beta_there_is_no_average() -> None:
    with pytest.raises(ValueError, match=r"needs a first beta above 0, got \(0.0, 0.9\)"):
        RunSettings(optimizer="schedule_free", betas=(0, 0.9))
