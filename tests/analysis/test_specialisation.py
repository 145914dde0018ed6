from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.analysis.embeddings import participation_ratio
from cellgraph.analysis.specialisation import (
    centred,
    class_selectivity,
    folds,
    layer_features,
    probe,
    specialisation,
    thin_classes,
)
from cellgraph.analysis.states import activity, walk

LABELS = torch.arange(60) % 3


def readable(noise: float = 1.0) -> torch.Tensor:
    return torch.nn.functional.one_hot(LABELS, 3).float() @ torch.randn(3, 6) + noise * torch.randn(60, 6)


def by_sklearn(x: np.ndarray, labels: np.ndarray, held_out: list, penalty: float) -> float:
    """The same classifier, fold by fold, from scikit-learn's ridge regression."""
    predicted = np.zeros(len(labels), int)
    for test in held_out:
        train = np.setdiff1d(np.arange(len(labels)), test)
        spread = ((x[train] - x[train].mean(0)) ** 2).sum() / x.shape[1]
        ridge = Ridge(penalty * spread).fit(x[train], np.eye(labels.max() + 1)[labels[train]])
        predicted[test] = ridge.predict(x[test]).argmax(1)
    return balanced_accuracy_score(labels, predicted)


def test_probe_is_ridge_regression_to_one_hot_labels():
    sets = torch.stack([readable(0.5), readable(2.0), readable(8.0)])
    held_out = folds(LABELS)
    found = probe(sets.double(), LABELS, held_out, penalty=0.3)
    wanted = [by_sklearn(x.double().numpy(), LABELS.numpy(), [f.numpy() for f in held_out], 0.3) for x in sets]
    assert found.accuracy.tolist() == pytest.approx(wanted)
    assert len(set(wanted)) == 3
    shuffled = LABELS[torch.randperm(60, generator=torch.Generator().manual_seed(0))]
    control = [by_sklearn(x.double().numpy(), shuffled.numpy(), [f.numpy() for f in held_out], 0.3) for x in sets]
    assert found.control[0].tolist() == pytest.approx(control)
    assert torch.equal(found.selectivity, found.accuracy - found.control.mean(0))


def test_probe_reads_what_is_there_and_no_more():
    held_out = folds(LABELS)
    clear, noise = probe(readable(0.05), LABELS, held_out), probe(torch.randn(60, 6), LABELS, held_out)
    assert float(clear.accuracy) > 0.98
    assert float(clear.control.mean()) == pytest.approx(1 / 3, abs=0.12)
    assert float(noise.accuracy) == pytest.approx(1 / 3, abs=0.15)
    assert float(probe(torch.ones(60, 4), LABELS, held_out).accuracy) == pytest.approx(1 / 3)
    # The scale of the features does not matter.
    x = readable()
    assert float(probe(1e-6 * x, LABELS, held_out).accuracy) == float(probe(x, LABELS, held_out).accuracy)


def test_folds_keep_groups_together_and_classes_in_balance():
    groups = [f"module {i // 2}" for i in range(60)]
    held_out = folds(torch.arange(60) % 2, groups)
    assert torch.equal(torch.cat(held_out).sort().values, torch.arange(60))
    for rows in held_out:
        outside = {group for i, group in enumerate(groups) if i not in rows.tolist()}
        assert not {groups[i] for i in rows.tolist()} & outside
    # A class within one group cannot be both learned and tested: groups give way.
    alone = folds(LABELS, [str(label) for label in LABELS.tolist()])
    assert all(set(LABELS[rows].tolist()) == {0, 1, 2} for rows in alone)
    # Of a class of few groups these give way, not those of the others.
    labels = torch.tensor([0, 1] * 20 + [2] * 10)
    groups = [f"module {i // 4}" for i in range(40)] + ["one", "other"] * 5
    assert thin_classes(labels, groups) == [2]
    held_out = folds(labels, groups)
    assert torch.equal(torch.cat(held_out).sort().values, torch.arange(50))
    for rows in held_out:
        assert set(labels[rows].tolist()) == {0, 1, 2}
        inside = {groups[i] for i in rows.tolist() if i < 40}
        assert not inside & {groups[i] for i in range(40) if i not in rows.tolist()}
    with pytest.raises(ValueError, match="at least 5 examples, one a fold, got one of 4"):
        folds(torch.tensor([0] * 9 + [1] * 4))


def test_layer_features_are_the_layer_turned():
    lattice = Lattice((3, 2, 2))
    x = torch.randn(60, 12, 5)
    found = layer_features(x, lattice)
    assert found.shape == (3, 60, 60)
    for layer in range(3):
        flat = x[:, layer * 4 : layer * 4 + 4].flatten(1)
        flat = flat - flat.mean(0)
        torch.testing.assert_close(found[layer] @ found[layer].T, flat @ flat.T, atol=1e-4, rtol=0)
        assert float(participation_ratio(found[layer])) == pytest.approx(float(participation_ratio(flat)), rel=1e-3)
    held_out = folds(LABELS)
    # Rotated into 60 dimensions from 20 the trace is shared by more of them: three times the penalty is the same one.
    turned = probe(found.double(), LABELS, held_out, penalty=0.3).accuracy
    plain = probe(x.unflatten(1, (3, 4)).transpose(0, 1).flatten(2).double(), LABELS, held_out, penalty=0.1).accuracy
    assert turned.tolist() == pytest.approx(plain.tolist())


def test_rounding_errors_are_not_read():
    # The order of the examples tells their label, and noise in the last bit tells their place.
    labels = torch.arange(60) // 20
    x = torch.randn(4, 5).expand(60, 4, 5) + 1e-7 * labels[:, None, None] + 1e-7 * torch.randn(60, 4, 5)
    lattice = Lattice((1, 2, 2))
    assert float(probe(layer_features(x, lattice), labels, folds(labels)).accuracy) == pytest.approx(1 / 3)
    assert float(centred(x.transpose(0, 1)).abs().max()) == 0
    small = x + 1e-3 * torch.nn.functional.one_hot(labels, 5)[:, None]
    assert float(probe(layer_features(small, lattice), labels, folds(labels)).accuracy) > 0.95


def test_class_selectivity_in_closed_form():
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    active = torch.tensor(
        [[1.0, 2.0, 0.0], [1.0, 4.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    )
    # Means 3, 1 and 0: (3 - 0.5) / (3 + 0.5).
    assert class_selectivity(active, labels).tolist() == pytest.approx([0.0, 2.5 / 3.5, 0.0])


def test_what_the_lattice_carries_is_found_where_it_is():
    lattice = Lattice((3, 3, 3))
    model = CellGraph(GMLPCell(lattice, channels=4, hidden=8), in_features=9, surface_channels=1, num_steps=2).eval()
    question = 3 * torch.nn.functional.one_hot(LABELS, 9).float() + 0.1 * torch.randn(60, 9)
    found = specialisation(
        walk(model, question), lattice, {"label": LABELS, "part": torch.where(LABELS < 2, LABELS, -1)}
    )
    accuracy = found.layers["label"].accuracy
    # A pure shift, one layer a step: nothing ahead of it.
    ahead = torch.arange(3) > torch.arange(3)[:, None]
    assert accuracy[ahead].tolist() == pytest.approx([1 / 3] * 3)
    assert bool((accuracy.diagonal() > 0.95).all())
    assert torch.equal(found.step, lattice.layer)
    assert found.cells["part"].num_classes == 2
    assert found.layer_dimensions[ahead].tolist() == [0.0] * 3
    states = list(walk(model, question))
    own = torch.stack([states[int(step)][:, node] for node, step in enumerate(found.step)])
    torch.testing.assert_close(found.cell_dimensions, participation_ratio(own), rtol=1e-3, atol=1e-4)
    expected = class_selectivity(activity(own.transpose(0, 1)), LABELS)
    torch.testing.assert_close(found.class_selectivity["label"], expected)
