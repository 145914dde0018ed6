"""The confidence against scikit-learn, a simulation whose truth is known, and counting by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from cellgraph.answering.confidence import Confidence, reliability, score_features


def simulated(count: int) -> tuple[Tensor, Tensor]:
    """Features, and outcomes that come true with the probability sigmoid(6 x + 20 y - 5)."""
    features = torch.stack([torch.rand(count) * 0.8, torch.rand(count) * 0.2], dim=1)
    probability = torch.sigmoid(features @ torch.tensor([6.0, 20.0]) - 5)
    return features, torch.rand(count) < probability


def test_features_are_the_best_score_and_its_lead() -> None:
    scores = torch.tensor([[0.5, 0.25, 0.0], [0.75, 0.75, 0.5]])
    assert score_features(scores).tolist() == [[0.5, 0.25], [0.75, 0.0]]


def test_probabilities_are_those_of_scikit_learn() -> None:
    features, right = simulated(400)
    confidence = Confidence.fit(features, right)
    reference = make_pipeline(StandardScaler(), LogisticRegression()).fit(features.double().numpy(), right.numpy())
    expected = reference.predict_proba(features.double().numpy())[:, 1]
    assert confidence.probability(features).numpy() == pytest.approx(expected, abs=1e-6)


def test_what_is_said_comes_true() -> None:
    confidence = Confidence.fit(*simulated(4000), precision=0.9)
    features, right = simulated(20_000)
    probability = confidence.probability(features)
    assert reliability(probability, right)[0] < 0.03
    known = confidence.known(probability)
    assert float(right[known].double().mean()) == pytest.approx(0.9, abs=0.03)
    assert 0.1 < float(known.double().mean()) < 0.9


def test_the_threshold_is_the_lowest_with_the_precision() -> None:
    features, right = simulated(150)
    confidence = Confidence.fit(features, right, precision=0.7)
    probability = confidence.probability(features)
    good = [
        float(p)
        for p in probability
        if right[probability >= p].double().mean() >= 0.7 and int((probability >= p).sum()) >= 10
    ]
    assert confidence.threshold == min(good)
    assert confidence.answered == pytest.approx(float((probability >= min(good)).double().mean()))


def test_a_precision_out_of_reach_leaves_everything_unknown() -> None:
    features = torch.rand(60, 2)
    confidence = Confidence.fit(features, torch.zeros(60, dtype=torch.bool))
    assert confidence.threshold is None
    assert not confidence.known(torch.ones(3)).any()
    # The rule of succession: 0 of 60.
    assert confidence.probability(features).tolist() == pytest.approx([1 / 62] * 60)


def test_reliability_by_counting() -> None:
    generator = np.random.default_rng(0)
    probability, right = generator.random(500), generator.random(500) < 0.4
    error = 0.0
    for low in range(10):
        inside = (probability >= low / 10) & (probability < (low + 1) / 10)
        error += inside.sum() / 500 * abs(probability[inside].mean() - right[inside].mean())
    found, table = reliability(torch.from_numpy(probability), torch.from_numpy(right))
    assert found == pytest.approx(error, abs=1e-9)
    assert sum(row["count"] for row in table) == 500
    assert reliability(torch.ones(5), torch.ones(5))[0] == 0


def test_files(tmp_path: Path) -> None:
    confidence = Confidence.fit(*simulated(100), equivalence=0.8)
    confidence.save(tmp_path / "a.json")
    assert Confidence.load(tmp_path / "a.json") == confidence
    (tmp_path / "b.json").write_text('{"weights": [1]}')
    with pytest.raises(ValueError, match=r"b\.json is damaged, remove it"):
        Confidence.load(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold", "0.5"),
        ("threshold", float("nan")),
        ("bias", None),
        ("bias", [1.0]),
        ("weights", [1.0, "2"]),
        ("weights", [1.0]),
        ("weights", "12"),
        ("num_questions", 1.5),
        ("precision", True),
    ],
)
def test_a_file_with_another_kind_of_value_is_refused(name: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "confidence.json"
    Confidence.fit(*simulated(100)).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(ValueError, match=r"confidence\.json is damaged, remove it"):
        Confidence.load(path)


def test_what_cannot_be_learned_from() -> None:
    with pytest.raises(ValueError, match="precision must lie between 0 and 1, got 1"):
        Confidence.fit(torch.rand(20, 2), torch.ones(20, dtype=torch.bool), precision=1)
    with pytest.raises(ValueError, match="num_questions >= 1"):
        Confidence.fit(torch.rand(0, 2), torch.ones(0, dtype=torch.bool))
