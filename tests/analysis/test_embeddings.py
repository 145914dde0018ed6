from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from cellgraph.analysis import embeddings
from cellgraph.analysis.embeddings import cosine_matrix, participation_ratio, project


def test_pca_is_the_singular_value_decomposition():
    x = torch.randn(40, 7) * torch.arange(7, 0, -1)
    found = project(x, "pca")
    centred = x.double().numpy() - x.double().numpy().mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(found.points.abs().numpy(), np.abs(u[:, :2] * s[:2]), atol=1e-4)
    np.testing.assert_allclose(found.explained, s[:2] ** 2 / (s**2).sum(), rtol=1e-5)


def test_tsne_keeps_two_clusters_apart():
    # Two directions: t-SNE goes by cosine.
    x = torch.cat([torch.eye(5)[0] + 0.02 * torch.randn(20, 5), torch.eye(5)[1] + 0.02 * torch.randn(20, 5)])
    points = project(x, "tsne").points
    nearest = torch.cdist(points, points).fill_diagonal_(torch.inf).argmin(1)
    assert bool(((nearest < 20) == (torch.arange(40) < 20)).all())
    assert torch.equal(project(x, "tsne").points, points)


@pytest.mark.skipif(not embeddings.has_umap(), reason="umap-learn is not installed")
def test_umap_keeps_two_clusters_apart():
    x = torch.cat([torch.eye(5)[0] + 0.02 * torch.randn(20, 5), torch.eye(5)[1] + 0.02 * torch.randn(20, 5)])
    points = project(x, "umap").points
    nearest = torch.cdist(points, points).fill_diagonal_(torch.inf).argmin(1)
    assert bool(((nearest < 20) == (torch.arange(40) < 20)).all())


def test_what_cannot_be_projected_is_named(monkeypatch):
    with pytest.raises(ValueError, match="method must be one of"):
        project(torch.randn(5, 3), "isomap")
    with pytest.raises(ValueError, match="at least 3 embeddings, got 2"):
        project(torch.randn(2, 3))
    monkeypatch.setattr(embeddings, "has_umap", lambda: False)
    with pytest.raises(ValueError, match=r"pip install cellgraph\[umap\]"):
        project(torch.randn(5, 3), "umap")


def test_cosine_matrix_and_its_figures():
    questions, answers = torch.randn(6, 4), torch.randn(6, 4)
    found = cosine_matrix(questions, answers)
    wanted = cosine_similarity(questions.double(), answers.double())
    np.testing.assert_allclose(found.values, wanted, atol=1e-6)
    others = wanted[~np.eye(6, dtype=bool)]
    assert found.own == pytest.approx(np.diag(wanted).mean(), abs=1e-6)
    assert found.other == pytest.approx(others.mean(), abs=1e-6)
    assert found.contrast == pytest.approx((np.diag(wanted).mean() - others.mean()) / others.std(ddof=1), abs=1e-5)
    # Others that are all alike have no spread.
    assert cosine_matrix(torch.eye(4), torch.eye(4)).contrast == np.inf
    assert np.isnan(cosine_matrix(torch.zeros(3, 2), torch.zeros(3, 2)).contrast)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        cosine_matrix(questions[:1], answers[:1])


@pytest.mark.parametrize("shape", [(50, 6), (5, 30)])
def test_participation_ratio_is_that_of_the_eigenvalues(shape):
    x = torch.randn(3, *shape, dtype=torch.double)
    for found, rows in zip(participation_ratio(x), x, strict=True):
        values = np.linalg.eigvalsh(np.cov(rows.numpy(), rowvar=False))
        assert float(found) == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-9)


def test_participation_ratio_counts_directions():
    corners = torch.cat([torch.eye(5), -torch.eye(5)])
    assert float(participation_ratio(corners)) == pytest.approx(5)
    assert float(participation_ratio(torch.arange(9.0)[:, None] * torch.tensor([1.0, 2.0, 3.0]))) == pytest.approx(1)
    assert float(participation_ratio(torch.ones(4, 3))) == 0
