from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.nn import AutoencoderAdapter, LinearAdapter, PCAAdapter
from cellgraph.retrieval import AdaptersAlone, LinearMLP


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def adapters(width: int = 12, surface: int = 9) -> tuple[LinearAdapter, LinearAdapter]:
    return PCAAdapter(width, surface), PCAAdapter(width, surface)


def test_adapters_alone_encode_and_decode():
    question_adapter, answer_adapter = adapters()
    output = AdaptersAlone(question_adapter, answer_adapter)(question := torch.randn(4, 12))
    assert output.surface.equal(question_adapter.encode(question))
    assert output.embedding.equal(answer_adapter.decode(question_adapter.encode(question)))
    assert (output.states, output.memory, output.num_steps, output.trajectory) == (None, None, 0, None)


def test_new_controls_and_a_new_lattice_say_the_same():
    model = CellGraph(
        GMLPCell(Lattice((3, 3, 3)), channels=8, hidden=16),
        in_features=12,
        surface_channels=1,
        path="none",
        num_steps=4,
    )
    question, answer = torch.randn(50, 12), torch.randn(50, 12)
    model.fit_adapters(question, answer)
    expected = model(question)
    for control in (
        AdaptersAlone(copy.deepcopy(model.question_adapter), copy.deepcopy(model.answer_adapter)),
        LinearMLP(copy.deepcopy(model.question_adapter), copy.deepcopy(model.answer_adapter), hidden=7),
    ):
        output = control(question, None, num_steps=4, generator=torch.Generator(), trajectory=False)
        torch.testing.assert_close(output.embedding, expected.embedding, atol=1e-4, rtol=1e-4)
        assert control.target_surface(answer).equal(model.target_surface(answer))
        assert control.parameter_counts()["adapters"] == model.parameter_counts()["adapters"]


def test_perceptron_is_its_formula():
    control = LinearMLP(*adapters(), hidden=5)
    for parameter in control.mlp.parameters():
        nn.init.normal_(parameter)
    norm, first, _, last = control.mlp
    s = torch.randn(4, 9)
    h = (s - s.mean(1, keepdim=True)) / (s.var(1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    z = (h * norm.weight + norm.bias) @ first.weight.T + first.bias
    gelu = z * 0.5 * (1 + torch.erf(z / 2**0.5))
    torch.testing.assert_close(control.transform(s), s + gelu @ last.weight.T + last.bias)


@pytest.mark.parametrize(
    ("num_parameters", "surface_width"),
    [(25_415, 225), (231_000, 225), (190_000, 225), (25_600, 64), (5_000, 16)],
)
def test_hidden_matches_the_lattice_within_one_per_cent(num_parameters, surface_width):
    hidden = LinearMLP.hidden_for(num_parameters, surface_width)
    control = LinearMLP(LinearAdapter(20, surface_width), LinearAdapter(20, surface_width), hidden=hidden)
    count = sum(parameter.numel() for parameter in control.mlp.parameters())
    assert control.parameter_counts()["mlp"] == count
    assert abs(count - num_parameters) <= 0.01 * num_parameters


def test_hidden_is_the_nearest_there_is():
    def count(hidden: int) -> int:
        control = LinearMLP(LinearAdapter(20, 64), LinearAdapter(20, 64), hidden=hidden)
        return control.parameter_counts()["mlp"]

    for wanted in (1, 500, 1_000, 3_333):
        hidden = LinearMLP.hidden_for(wanted, 64)
        assert abs(count(hidden) - wanted) == min(abs(count(other) - wanted) for other in range(1, 40))


@pytest.mark.parametrize("adapter", [LinearAdapter, PCAAdapter, AutoencoderAdapter])
def test_training_moves_all_that_is_in_use_and_nothing_else(adapter):
    control = LinearMLP(adapter(12, 9), adapter(12, 9), hidden=5)
    question, answer = torch.randn(16, 12), torch.randn(16, 12)
    before = {name: value.clone() for name, value in control.state_dict().items()}
    target = control.target_surface(answer)
    optimizer = torch.optim.SGD([p for p in control.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # The first moves the last layer away from zero, which the layers below need.
        output = control(question)
        ((output.embedding - answer).square().mean() + (output.surface - target).square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name.rsplit(".", 1)[0] for name, value in control.state_dict().items() if not value.equal(before[name])}
    still = {name.rsplit(".", 1)[0] for name in before} - moved
    assert all(name.startswith(("question_adapter.decoder", "answer_adapter.encoder")) for name in still)
    assert not any(name.startswith(("question_adapter.decoder", "answer_adapter.encoder")) for name in moved)
    assert not target.requires_grad
    assert control.target_surface(answer).equal(target)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="one surface width, got 9 and 8"):
        AdaptersAlone(LinearAdapter(12, 9), LinearAdapter(12, 8))
    mine = type("Mine", (LinearAdapter,), {})
    with pytest.raises(ValueError, match=r"adapter must be one of .* to be saved, got a Mine"):
        AdaptersAlone(mine(12, 9), mine(12, 9)).config()
    with pytest.raises(ValueError, match="hidden must be positive"):
        LinearMLP(*adapters(), hidden=0)
    with pytest.raises(ValueError, match="positive numbers, got 0 and 225"):
        LinearMLP.hidden_for(0, 225)
    with pytest.raises(ValueError, match="AdaptersAlone has no memory"):
        AdaptersAlone(*adapters())(torch.randn(2, 12), torch.randn(2, 27, 4))
    with pytest.raises(ValueError, match="must have 12 features, got 11"):
        AdaptersAlone(*adapters())(torch.randn(2, 11))
