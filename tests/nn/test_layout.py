"""Layouts of components on a face, and prefixes that stand for the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.nn import AutoencoderAdapter, MatryoshkaAdapter, PCAAdapter
from cellgraph.nn.blocks import BLOCK
from cellgraph.nn.components import Moments, energy_correlation
from cellgraph.nn.layout import LAYOUTS, places


class Streamed:
    """Embeddings of which no more than a block can be had at once."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows
        self.largest = 0

    def __len__(self) -> int:
        return len(self.rows)

    def size(self, dim: int) -> int:
        return self.rows.size(dim)

    def split(self, size: int) -> Any:
        self.largest = max(self.largest, size)
        return self.rows.split(size)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        self.largest = max(self.largest, len(index))
        return self.rows[index]


def grid(height: int, width: int) -> torch.Tensor:
    return torch.cartesian_prod(torch.arange(height), torch.arange(width))


def embeddings(rows: int, width: int = 24) -> torch.Tensor:
    mixed = torch.randn(rows, width) * torch.logspace(0, -1.5, width) @ torch.linalg.qr(torch.randn(width, width))[0]
    return torch.nn.functional.normalize(mixed + 0.2, dim=1)


def test_moments_are_numpys_far_from_the_origin_too() -> None:
    x = torch.randn(3 * BLOCK + 17, 6) @ torch.randn(6, 6) + 300
    moments = Moments.of(x, dtype=torch.float64)
    np.testing.assert_allclose(moments.mean, x.double().numpy().mean(0), rtol=1e-9)
    np.testing.assert_allclose(moments.covariance, np.cov(x.double().numpy().T, bias=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("features", [40, 1100])
def test_the_leading_directions_are_scikit_learns(features: int) -> None:
    x = torch.randn(300, features) * torch.logspace(0, -2, features)
    values, frame = Moments.of(x, dtype=torch.float64).leading(7)
    reference = PCA(7, svd_solver="full").fit(x.double().numpy())
    np.testing.assert_allclose(values * 300 / 299, reference.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(np.abs((frame.numpy() * reference.components_).sum(1)), 1, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("width", [9, 40])
def test_every_layout_keeps_what_the_components_keep(layout: str, width: int) -> None:
    x = embeddings(400)
    made = PCAAdapter(24, width, layout=layout)
    made.fit(x)
    reference = PCA(min(width, 24)).fit(x.numpy())
    lost = 1 - reference.explained_variance_ratio_.sum()
    assert made.reconstruction_error(x) == pytest.approx(lost, abs=1e-5)
    surface = made.encode(x).detach()
    assert float(surface.square().mean()) == pytest.approx(1.0, abs=1e-4)
    components = torch.from_numpy(reference.transform(x.numpy()))
    # The angles of the components, whatever the layout.
    cosines = [torch.nn.functional.normalize(part.double(), dim=1) for part in (surface, components)]
    np.testing.assert_allclose(cosines[0] @ cosines[0].T, cosines[1] @ cosines[1].T, atol=1e-3)
    assert made.config()["layout"] == layout


@pytest.mark.parametrize("kind", [PCAAdapter, MatryoshkaAdapter, AutoencoderAdapter])
def test_embeddings_that_are_streamed_are_fitted_alike(kind: Any) -> None:
    x = embeddings(2 * BLOCK + 100)
    options = {} if kind is PCAAdapter else {"updates": 5}
    results = []
    for rows in (x, Streamed(x)):
        torch.manual_seed(0)
        made = kind(24, 9, **options)
        made.fit(rows)
        results.append((made.encode(x[:50]), made.reconstruction_error(rows)))
        if isinstance(rows, Streamed):
            assert rows.largest <= BLOCK
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_rows_and_centre_put_the_largest_where_they_say() -> None:
    x, positions = embeddings(500), grid(5, 5)
    for layout in ("rows", "centre"):
        made = PCAAdapter(24, 25, layout=layout)
        made.positions = positions
        made.fit(x)
        variance = made.encode(x).var(0).detach()
        distance = (positions - torch.tensor([2, 2])).double().norm(dim=1)
        order = variance.argsort(descending=True)
        if layout == "rows":
            assert order.tolist() == list(range(25))
        else:
            assert order[0] == 12
            assert (distance[order].diff() >= -1e-9).all()


def test_cells_of_several_values_get_one_component_each_before_any_gets_two() -> None:
    positions = grid(3, 3).repeat_interleave(4, dim=0)
    for layout in ("rows", "centre"):
        taken = places(layout, 12, positions)
        assert len(set(taken.tolist())) == 12
        assert torch.bincount(taken[:9] // 4, minlength=9).tolist() == [1] * 9
        assert set((taken % 4).tolist()) == {0, 1}


def test_energies_are_correlated_as_numpy_says() -> None:
    x = torch.randn(400, 5).double() * torch.randn(400, 1).abs()
    mean, frame = x.mean(0), torch.linalg.qr(torch.randn(5, 5, dtype=torch.double))[0][:3]
    expected = np.corrcoef(((x - mean) @ frame.T).square().numpy().T)
    np.testing.assert_allclose(energy_correlation(x, mean, frame), expected, atol=1e-9)


@pytest.mark.parametrize("extent", [(8, 8), (9, 6), (40, 1)])
def test_related_components_become_neighbours(extent: tuple[int, int]) -> None:
    # Planted: components lie on a hidden grid, and the nearer the more they go together.
    hidden = grid(*extent).double()
    count = len(hidden)
    related = torch.exp(-torch.cdist(hidden, hidden).square() / 4)
    mixed = torch.randperm(count)
    positions = grid(*extent)
    taken = places("correlation", count, positions, correlation=related[mixed][:, mixed])
    assert sorted(taken.tolist()) == list(range(count))

    def at_neighbours(where: torch.Tensor) -> float:
        near = torch.cdist(positions[where].double(), positions[where].double()) == 1
        return float(related[mixed][:, mixed][near].mean())

    best = float(related[torch.cdist(hidden, hidden) == 1].mean())
    by_chance = at_neighbours(torch.randperm(count))
    assert at_neighbours(taken) > by_chance + 0.6 * (best - by_chance)


def test_a_network_lays_components_out_on_its_faces() -> None:
    lattice = Lattice((3, 5, 5))
    cell = GMLPCell(lattice, channels=8, hidden=8)
    model = CellGraph(cell, in_features=24, surface_channels=1, adapter={"name": "pca", "layout": "centre"})
    x = embeddings(300)
    model.fit_adapters(x, x.flip(0))
    variance = model.question_adapter.encode(model.path.question(x)).var(0)  # type: ignore[union-attr]
    assert int(variance.argmax()) == 12
    assert model.adapter_options == {"name": "pca", "layout": "centre"}


@pytest.mark.slow
def test_prefixes_tell_apart_better_than_those_of_other_adapters() -> None:
    torch.manual_seed(0)
    x = embeddings(1500)
    adapters = [MatryoshkaAdapter(24, 16, smallest=2, lr=3e-3), PCAAdapter(24, 16, layout="rows"), PCAAdapter(24, 16)]
    errors = []
    for made in adapters:
        made.fit(x[:1000])
        held = x[1000:] - x[:1000].mean(0)
        wanted = torch.nn.functional.normalize(held, dim=1)
        surface = made.encode(x[1000:]).detach()
        parts = [torch.nn.functional.normalize(surface[:, :m], dim=1) for m in (2, 4, 8)]
        errors.append(sum(float((part @ part.T - wanted @ wanted.T).square().mean()) for part in parts))
    assert errors[0] < errors[1] < errors[2]
    assert adapters[0].prefixes() == [2, 4, 8, 16]  # type: ignore[operator]


def test_the_prefix_ordered_decoder_is_the_least_squares() -> None:
    x = embeddings(800)
    made = MatryoshkaAdapter(24, 8, smallest=2, updates=50)
    made.fit(x)
    surface = made.encode(x).detach().double().numpy()
    design = np.hstack([surface, np.ones((len(x), 1))])
    solution = np.linalg.lstsq(design, x.double().numpy(), rcond=None)[0]
    np.testing.assert_allclose(made.decode(made.encode(x)).detach().numpy(), design @ solution, atol=1e-4)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"layout must be one of .*, got 'spiral'"):
        PCAAdapter(4, 3, layout="spiral")
    with pytest.raises(ValueError, match="layout 'frame' mixes"):
        MatryoshkaAdapter(4, 3, layout="frame")
    with pytest.raises(ValueError, match="must be positive, got 0"):
        MatryoshkaAdapter(4, 3, smallest=0)
