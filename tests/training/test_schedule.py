"""The schedule in closed form, and the groups of the optimiser."""

from __future__ import annotations

import math

import on_pairs
import pytest
import torch
from on_pairs import plain_objective
from torch import nn

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.retrieval import EmbeddedPairs
from cellgraph.training import RunSettings
from cellgraph.training.schedule import parameter_groups, warmup_decay


@pytest.fixture
def module():
    cell = GMLPCell(Lattice((2, 3, 3)), 8, hidden=8)
    model = CellGraph(cell, in_features=6, surface_channels=1, path="none", num_steps=2)
    multipliers = {"question_adapter": 0.5, "question_adapter.encoder.bias": 0.25}
    return on_pairs.module(
        model,
        plain_objective(),
        EmbeddedPairs(torch.randn(20, 6), torch.randn(20, 6)),
        lr=0.2,
        weight_decay=0.1,
        warmup_steps=4,
        max_steps=12,
        min_lr=0.1,
        lr_multipliers=multipliers,
    )


def test_the_optimiser_follows_the_closed_form(module):
    config = module.configure_optimizers()
    optimizer, schedule = config["optimizer"], config["lr_scheduler"]["scheduler"]
    assert config["lr_scheduler"]["interval"] == "step"
    for step in range(15):
        if step < 4:
            expected = 0.2 * (step + 1) / 4
        else:
            expected = 0.2 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(step - 4, 8) / 8)))
        for group in optimizer.param_groups:
            assert group["lr"] == pytest.approx(expected * group["initial_lr"] / 0.2, rel=1e-9)
        assert module.learning_rate(step) == pytest.approx(expected, rel=1e-9)
        optimizer.step()
        schedule.step()


def test_a_schedule_of_warm_up_alone_has_no_gap():
    assert [warmup_decay(t, warmup_steps=3, max_steps=3) for t in range(3)] == [1 / 3, 2 / 3, 1.0]
    assert warmup_decay(1, warmup_steps=50, max_steps=10) == 2 / 50


def test_a_line_falls_to_its_share_and_none_stays():
    steps = {"warmup_steps": 2, "max_steps": 12}
    line = [warmup_decay(t, **steps, floor=0.02, decay="linear") for t in (0, 2, 7, 12, 20)]
    assert line == pytest.approx([0.5, 1.0, 0.51, 0.02, 0.02])
    assert [warmup_decay(t, **steps, floor=0.02, decay="none") for t in (1, 2, 12)] == [1.0, 1.0, 1.0]


def test_groups_are_split_by_decay_and_by_multiplier(module):
    groups = module.configure_optimizers()["optimizer"].param_groups
    names = {id(p): name for name, p in [*module.model.named_parameters(), *module.objective.named_parameters()]}
    rate = {names[id(p)]: group["initial_lr"] for group in groups for p in group["params"]}
    decay = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    trained = {name for name, p in module.model.named_parameters() if p.requires_grad} | {
        "terms.dialogue.bank.log_scale"
    }
    assert rate.keys() == trained
    assert "answer_adapter.encoder.weight" not in rate
    decayed = {name for name, value in decay.items() if value == 0.1}
    assert decayed == {
        "cell.in_weight",
        "cell.out_weight",
        "cell.gate_weight",
        "question_adapter.encoder.weight",
        "question_adapter.decoder.weight",
        "answer_adapter.decoder.weight",
    }
    assert {value for name, value in decay.items() if name not in decayed} == {0.0}
    assert rate["question_adapter.encoder.weight"] == pytest.approx(0.1)
    assert rate["question_adapter.encoder.bias"] == pytest.approx(0.05)
    assert rate["cell.in_weight"] == rate["terms.dialogue.bank.log_scale"] == pytest.approx(0.2)


def test_multipliers_must_fit():
    named = list(nn.Linear(2, 2).named_parameters())
    with pytest.raises(ValueError, match="parameter's name, got 'cell'; there are weight, bias"):
        parameter_groups(named, lr=1.0, weight_decay=0.0, multipliers={"cell": 2.0})
    with pytest.raises(ValueError, match="must not be negative"):
        parameter_groups(named, lr=1.0, weight_decay=0.0, multipliers={"bias": -1.0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": -1e-3}, "training setting lr must be positive, got -0.001"),
        ({"max_steps": 0}, "max_steps must be positive, got 0"),
        ({"batch_size": -1}, "batch_size must be positive, got -1"),
        ({"accumulate": 0}, "accumulate must be positive, got 0"),
        ({"val_every": 0}, "val_every must be positive, got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be positive, got 0"),
        ({"log_every": 0}, "log_every must be positive, got 0"),
        ({"patience": 0}, "patience must be positive, got 0"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative, got -0.1"),
        ({"warmup_steps": -1}, "warmup_steps must not be negative, got -1"),
        ({"clip": -1.0}, "clip must not be negative, got -1.0"),
        ({"ema": 1.0}, r"ema must be in \[0, 1\), got 1.0"),
        ({"min_lr": 1.5}, r"min_lr must be in \[0, 1\], got 1.5"),
        ({"betas": (0.9, 1.0)}, r"betas must be two numbers in \[0, 1\), got \(0.9, 1.0\)"),
        ({"betas": (0.9,)}, "betas must be two numbers"),
        ({"decay": "fast"}, "decay must be one of .*, got 'fast'"),
        ({"precision": "8-bit"}, "precision must be one of .*, got '8-bit'"),
        ({"accelerator": "abacus"}, "accelerator must be one of .*, got 'abacus'"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        RunSettings(**options)
