"""Updates against their equations in numpy, and torch's recurrent unit cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cellgraph.nn import GRUUpdate, MLPUpdate


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
