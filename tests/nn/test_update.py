"""Updates against their equations in numpy, and torch's recurrent unit cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cellgraph.nn import BoundedUpdate, GRUUpdate, MLPUpdate


def test_the_perceptron_is_its_equation_and_starts_at_zero():
    update = MLPUpdate(6, 3, hidden=5, context_channels=2).double()
    x, seen, context = (torch.randn(2, n, w, dtype=torch.float64) for n, w in ((4, 3), (4, 6), (1, 2)))
    assert (update(x, seen, context) == 0).all()
    torch.nn.init.normal_(update.outer.weight)
    torch.nn.init.normal_(update.outer.bias)
    w = {name: value.detach().numpy() for name, value in update.named_parameters()}
    h = seen.numpy() @ w["inner.weight"].T + w["inner.bias"] + context.numpy() @ w["context.weight"].T
    expected = np.maximum(h, 0) @ w["outer.weight"].T + w["outer.bias"]
    np.testing.assert_allclose(update(x, seen, context).detach().numpy(), expected)


@pytest.mark.parametrize("hidden", [0, -1])
def test_a_perceptron_without_a_hidden_unit_is_refused(hidden):
    with pytest.raises(ValueError, match=f"hidden must be positive, got {hidden}"):
        MLPUpdate(6, 3, hidden=hidden)


def test_the_recurrent_unit_is_its_equations_and_a_new_one_keeps_most_of_the_state():
    update = GRUUpdate(6, 3, context_channels=2).double()
    x, seen, context = (torch.randn(2, n, w, dtype=torch.float64) for n, w in ((4, 3), (4, 6), (1, 2)))
    p = {name: value.detach().numpy() for name, value in update.gru.named_parameters()}
    z = np.concatenate([seen.numpy(), np.repeat(context.numpy(), 4, axis=1)], axis=-1)
    i = np.split(z @ p["weight_ih"].T + p["bias_ih"], 3, axis=-1)
    h = np.split(x.numpy() @ p["weight_hh"].T + p["bias_hh"], 3, axis=-1)
    reset, keep = (1 / (1 + np.exp(-(i[n] + h[n]))) for n in (0, 1))
    new = (1 - keep) * np.tanh(i[2] + reset * h[2]) + keep * x.numpy()
    np.testing.assert_allclose((x + update(x, seen, context)).detach().numpy(), new)
    assert keep.mean() > 0.7


def with_constant(aims: torch.Tensor, least: float, most: float) -> BoundedUpdate:
    """An update whose perceptron says the same everywhere."""
    update = BoundedUpdate(1, len(aims), hidden=2, least=least, most=most).double()
    with torch.no_grad():
        update.outer.bias.copy_(aims)
    return update


def test_the_bounded_update_is_the_perceptron_s_cut_at_the_bounds():
    plain = MLPUpdate(6, 3, hidden=5, context_channels=2, zero_init=False).double()
    bounded = BoundedUpdate(6, 3, hidden=5, context_channels=2, least=-0.25, most=0.5).double()
    bounded.load_state_dict(plain.state_dict())
    x, seen, context = (torch.randn(2, n, w, dtype=torch.float64) for n, w in ((40, 3), (40, 6), (1, 2)))
    after = (x + bounded(x, seen, context)).detach().numpy()
    expected = np.clip((x + plain(x, seen, context)).detach().numpy(), -0.25, 0.5)
    np.testing.assert_allclose(after, expected, atol=1e-15)
    assert {-0.25, 0.5} < set(expected.flatten())


def test_a_gradient_passes_the_cut_only_on_its_way_back():
    # One channel each: inside, above and below; of (x - t)^2 / 2 with t on one side of what is reached and the other.
    start = torch.zeros(1, 1, 3, dtype=torch.float64)
    update = with_constant(torch.tensor([0.25, 3.0, -3.0]), -1.0, 1.0)
    for targets, expected in (([0.0, 0.0, 0.0], [0.25, 1.0, -1.0]), ([2.0, 2.0, -2.0], [-1.75, 0.0, 0.0])):
        update.zero_grad()
        reached = start + update(start, torch.zeros(1, 1, 1, dtype=torch.float64))
        ((reached - torch.tensor(targets)).square() / 2).sum().backward()
        assert update.outer.bias.grad.tolist() == expected


def test_a_bounded_state_lies_on_its_bound_exactly_however_the_bounds_lie():
    x = torch.tensor([[[0.0, 1.0, 0.3, 7.0]]], dtype=torch.float64)
    update = with_constant(torch.tensor([9.0, -9.0, 9.0, 0.0]), 0.0, 1.0)
    assert (x + update(x, torch.zeros(1, 1, 1, dtype=torch.float64))).tolist() == [[[1.0, 0.0, 1.0, 1.0]]]
    with pytest.raises(ValueError, match=r"least must be less than most, got 1\.0 and 1\.0"):
        BoundedUpdate(1, 1, least=1.0, most=1.0)
