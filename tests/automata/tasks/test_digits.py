"""Digits: self-classification and the passage against scikit-learn, numpy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from cellgraph import Cell
from cellgraph.automata import Batch
from cellgraph.automata.tasks import Passage, SelfClassification
from cellgraph.automata.tasks.digit_images import digit_images


class Still(Cell):
    """Stays as it is."""

    def __init__(self, lattice, channels, context_channels):
        super().__init__(lattice, channels, context_channels=context_channels)
        self.weight = torch.nn.Parameter(torch.zeros(200))

    def perceive(self, x, context=None):
        return x

    def update(self, x, perceived, context=None):
        return self.weight[0] * x


def test_the_images_are_scikit_learn_s_each_in_one_part():
    parts = digit_images()
    rows = [tuple(row) for part in parts for row in (part.pixels * 16).round().int().tolist()]
    original = load_digits()
    assert sorted(rows) == sorted(tuple(row) for row in original.data.astype(int).tolist())
    label = {
        tuple(row): int(digit) for row, digit in zip(original.data.astype(int).tolist(), original.target, strict=True)
    }
    for part in parts:
        assert [label[tuple(row)] for row in (part.pixels * 16).round().int().tolist()] == part.labels.tolist()
    assert min(len(part) for part in parts) > 100


def test_cells_vote_and_the_loss_is_their_mean_cross_entropy():
    task = SelfClassification(12)
    x = torch.zeros(2, 64, 12)
    x[0, :40, 7] = 2.0  # 40 cells for seven, 24 for three
    x[0, 40:, 3] = 2.0
    x[1, :, 0] = 1.0
    voted, share = task.agreement(x)
    assert voted.tolist() == [7, 0]
    assert share.tolist() == [40 / 64, 1.0]
    target = torch.tensor([7, 0])
    e2, e1 = np.exp(2), np.exp(1)
    expected = [(40 * -np.log(e2 / (e2 + 9)) + 24 * -np.log(1 / (e2 + 9))) / 64, -np.log(e1 / (e1 + 9))]
    np.testing.assert_allclose(task.loss(x, Batch(x, target)).numpy(), expected, rtol=1e-5)


def test_the_squared_criterion_is_half_the_distance_from_the_class():
    task = SelfClassification(12, criterion="squared")
    x = torch.zeros(2, 64, 12)
    x[0, :, 7] = 1.0  # at rest where seven is right
    x[0, :16, 3] = 2.0
    x[1, :, 0] = 0.5
    expected = [16 / 64 * 2.0**2 / 2, (0.5**2 + 1.0**2) / 2]
    np.testing.assert_allclose(task.loss(x, Batch(x, torch.tensor([7, 4]))).numpy(), expected, rtol=1e-6)


def test_damage_shows_other_digits_to_the_cells_as_they_are():
    task = SelfClassification(12)
    batch = task.sample(30, torch.Generator().manual_seed(0))
    batch.x.normal_(generator=torch.Generator().manual_seed(1))
    other = task.damage(batch, torch.Generator().manual_seed(2))
    assert torch.equal(other.x, batch.x)
    assert (other.target != batch.target).sum() > 15  # nine of ten in the mean
    shown = {(*row.tolist(), int(label)) for row, label in zip(other.context[..., 0], other.target, strict=True)}
    known = zip(task.training_images.pixels, task.training_images.labels, strict=True)
    assert shown <= {(*row.tolist(), int(label)) for row, label in known}


def test_cells_that_do_nothing_say_zero_and_the_plain_classifiers_do_better():
    task = SelfClassification(12, seeds=1)
    figures = task.evaluate(Still(task.lattice, 12, 1), num_steps=2)
    zeros = float((task.held_out.labels == 0).float().mean())  # equal scores: the first class
    assert figures["accuracy"] == figures["cell_accuracy"] == pytest.approx(zeros)
    assert figures["agreement"] == figures["unanimous"] == figures["accuracy_later"] / zeros == pytest.approx(1)
    assert figures["linear_accuracy"] > 0.9


def test_nothing_reaches_the_back_of_the_cube_but_through_the_hole():
    task = Passage(5, hole=2)
    lattice = task.lattice
    layer = lattice.positions[:, 0]
    assert layer.bincount().tolist() == [64, 64, 4, 64, 64]
    assert lattice.positions[layer == 2][:, 1:].tolist() == [[3, 3], [3, 4], [4, 3], [4, 4]]
    source, target = lattice.edge_index
    across = (layer[source] < 2) & (layer[target] > 2)
    assert not across.any()


def test_the_loss_sees_the_back_face_s_first_channel_alone():
    task = Passage(3, hole=1, channels=4)
    batch = task.sample(3, torch.Generator().manual_seed(0))
    x = torch.randn_like(batch.x)
    back = (task.lattice.positions[:, 0] == 2).nonzero().squeeze(1)
    expected = ((x[:, back, 0] - batch.target) ** 2).mean(1)
    torch.testing.assert_close(task.loss(x, batch), expected)
    assert torch.equal(batch.context[:, task.lattice.positions[:, 0] == 0, 0], batch.target)
    assert batch.context[:, task.lattice.positions[:, 0] > 0, 0].abs().sum() == 0


def test_the_baselines_are_the_images_singular_vectors():
    task = Passage(3, hole=2, channels=4)
    figures = task.evaluate(Still(task.lattice, 4, 9), num_steps=2)
    train, unseen = task.training_images.pixels.numpy(), task.held_out.pixels.numpy()
    mean = train.mean(0)
    variance = ((unseen - mean) ** 2).mean()
    assert figures["mean_image_error"] == pytest.approx(variance, rel=1e-5)
    assert figures["error"] == pytest.approx((unseen**2).mean(), rel=1e-5)  # nothing arrives
    assert figures["explained"] == pytest.approx(1 - (unseen**2).mean() / variance, rel=1e-4)
    axes = np.linalg.svd(train - mean, full_matrices=False)[2][:4]
    kept = (unseen - mean) @ axes.T @ axes
    assert figures["pca4_explained"] == pytest.approx(1 - ((unseen - mean - kept) ** 2).mean() / variance, rel=1e-3)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"depth must be odd and at least 3 .* got 4 and 2"):
        Passage(4)
    with pytest.raises(ValueError, match="more than the 10 scores, got 10"):
        SelfClassification(10)
    with pytest.raises(ValueError, match=r"criterion must be one of \['cross_entropy', 'squared'\], got 'absolute'"):
        SelfClassification(12, criterion="absolute")
