"""Adapters against scikit-learn's PCA and Ridge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV

from cellgraph.nn import AutoencoderAdapter, LinearAdapter, PCAAdapter, regress


def embeddings(rows: int = 300, width: int = 12) -> torch.Tensor:
    mixed = torch.randn(rows, width) @ torch.randn(width, width) * torch.linspace(2, 0.05, width)
    return torch.nn.functional.normalize(mixed + 0.3, dim=1)


@pytest.mark.parametrize("adapter", [LinearAdapter, PCAAdapter])
@pytest.mark.parametrize("width", [12, 40])
def test_nothing_is_lost_where_the_surface_is_wide_enough(adapter: type[LinearAdapter], width: int) -> None:
    x, made = embeddings(), adapter(12, width)
    made.fit(x)
    torch.testing.assert_close(made.decode(made.encode(x)), x, atol=1e-5, rtol=1e-4)
    assert made.reconstruction_error(x) < 1e-9
    # Angles are kept: surfaces have the distances of the embeddings, times one number.
    ratio = torch.cdist(made.encode(x), made.encode(x)) / torch.cdist(x, x)
    off = ~torch.eye(len(x), dtype=torch.bool)
    assert float((ratio[off] / ratio[off].mean() - 1).abs().max()) < 1e-2


def test_pca_loses_what_scikit_learn_says() -> None:
    x = embeddings()
    made = PCAAdapter(12, 5)
    made.fit(x)
    reference = PCA(5).fit(x.numpy())
    rebuilt = reference.inverse_transform(reference.transform(x.numpy()))
    np.testing.assert_allclose(made.decode(made.encode(x)).detach().numpy(), rebuilt, atol=1e-5)
    assert made.reconstruction_error(x) == pytest.approx(1 - reference.explained_variance_ratio_.sum(), abs=1e-5)
    assert float(made.encode(x).square().mean()) == pytest.approx(1.0, abs=1e-4)


def test_a_random_frame_gives_unit_embeddings_surfaces_of_about_unit_size() -> None:
    surfaces = LinearAdapter(384, 225).encode(torch.nn.functional.normalize(torch.randn(200, 384), dim=1))
    assert float(surfaces.square().mean().sqrt()) == pytest.approx((225 / 384) ** 0.5, rel=0.05)


def test_an_autoencoder_learns_to_reconstruct() -> None:
    x = embeddings()
    made = AutoencoderAdapter(12, 6, hidden=64, updates=1500, lr=3e-3)
    made.fit(x)
    linear = PCAAdapter(12, 6)
    linear.fit(x)
    # A perceptron can do what the best linear map does; training comes near it or passes it.
    assert made.reconstruction_error(x) < 1.2 * linear.reconstruction_error(x)
    assert float(made.encode(x).square().mean()) == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("option", ["hidden", "updates", "batch_size", "lr"])
@pytest.mark.parametrize("value", [0, -1])
def test_an_autoencoder_of_nothing_is_refused(option: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"hidden, updates, batch_size and lr must be positive, got .*{value}"):
        AutoencoderAdapter(12, 6, **{option: value})


@pytest.mark.parametrize("frozen", ["encoder", "decoder", "encoder and decoder"])
def test_an_autoencoder_is_fitted_whatever_of_it_is_not_trained_later(frozen: str) -> None:
    # Points on a plane, which two values say all of.
    x = torch.randn(200, 2) @ torch.randn(2, 12) + 0.3
    made = AutoencoderAdapter(12, 2, hidden=32, updates=300, lr=1e-2)
    for part in frozen.split(" and "):
        getattr(made, part).requires_grad_(False)
    made.fit(x)
    assert made.reconstruction_error(x) < 0.1
    for part in ("encoder", "decoder"):
        assert all(p.requires_grad == (part not in frozen) and p.grad is None for p in getattr(made, part).parameters())


def test_regression_is_scikit_learns_ridge() -> None:
    x = embeddings()
    target = torch.tanh(x @ torch.randn(12, 7) * 3)
    made = LinearAdapter(12, 7)
    alpha = regress(made, x, target)
    reference = RidgeCV(alphas=np.logspace(-3, 3, 13)).fit(x.double().numpy(), target.double().numpy())
    assert alpha == pytest.approx(reference.alpha_, rel=1e-4)
    np.testing.assert_allclose(made.encode(x).detach().numpy(), reference.predict(x.numpy()), atol=1e-3)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="positive widths, got 0 and 3"):
        LinearAdapter(0, 3)
    with pytest.raises(ValueError, match="embedding must have 4 features, got 5"):
        LinearAdapter(4, 3).encode(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="surface must have 3 features, got 5"):
        LinearAdapter(4, 3).decode(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="at least 2 embeddings, got 1"):
        PCAAdapter(4, 3).fit(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="got AutoencoderAdapter"):
        regress(AutoencoderAdapter(4, 3), torch.zeros(2, 4), torch.zeros(2, 3))
