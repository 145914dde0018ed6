from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor

from cellgraph.retrieval import (
    Identity,
    MeanAnswer,
    NearestQuestions,
    Procrustes,
    Ridge,
    closed_forms,
    predict_closed_forms,
)


def pairs(num_pairs: int = 80, width: int = 6, *, noise: float = 0.5, seed: int = 0):
    rng = np.random.default_rng(seed)
    question = rng.normal(size=(num_pairs, width)) * np.linspace(0.3, 2, width) + rng.normal(size=width)
    answer = question @ rng.normal(size=(width, width)) + noise * rng.normal(size=(num_pairs, width)) + 1
    return torch.from_numpy(question), torch.from_numpy(answer)


def test_mean_answer_ignores_the_question():
    question, answer = pairs()
    predicted = MeanAnswer().fit(question, answer).predict(question[:3] * 100)
    np.testing.assert_allclose(predicted.numpy(), np.tile(answer.numpy().mean(0), (3, 1)), atol=1e-12)


def test_identity_raw_and_centred():
    question, answer = pairs()
    assert Identity().fit(question, answer).predict(question).equal(question)
    moved = Identity(centred=True).fit(question, answer).predict(question)
    np.testing.assert_allclose(moved.mean(0).numpy(), answer.mean(0).numpy(), atol=1e-12)
    np.testing.assert_allclose((moved - moved[:1]).numpy(), (question - question[:1]).numpy(), atol=1e-12)


def test_procrustes_is_scipys():
    question, answer = pairs()
    centred_question, centred_answer = question - question.mean(0), answer - answer.mean(0)
    rotation, _ = orthogonal_procrustes(centred_question.numpy(), centred_answer.numpy())
    found = Procrustes().fit(question, answer)
    np.testing.assert_allclose(found.weight.numpy(), rotation, atol=1e-10)
    expected = centred_question.numpy() @ rotation + answer.numpy().mean(0)
    np.testing.assert_allclose(found.predict(question).numpy(), expected, atol=1e-10)


def test_procrustes_recovers_a_rotation_from_a_training_part():
    question, _ = pairs(200)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    answer = question @ rotation + 3
    found = Procrustes().fit(question[:100], answer[:100])
    np.testing.assert_allclose(found.predict(question[100:]).numpy(), answer[100:].numpy(), atol=1e-10)


@pytest.mark.parametrize(("num_pairs", "width"), [(80, 6), (12, 20)])
def test_ridge_is_sklearns_at_the_penalty_it_chose(num_pairs, width):
    question, answer = pairs(num_pairs, width)
    found = Ridge().fit(question, answer)
    expected = SklearnRidge(alpha=found.alpha).fit(question.numpy(), answer.numpy())
    np.testing.assert_allclose(found.weight.T.numpy(), expected.coef_, atol=1e-7)
    np.testing.assert_allclose(found.predict(question).numpy(), expected.predict(question.numpy()), atol=1e-7)


@pytest.mark.parametrize(("num_pairs", "width", "noise"), [(80, 6, 0.5), (30, 15, 4.0), (20, 30, 2.0)])
def test_ridge_minimises_generalised_cross_validation(num_pairs, width, noise):
    question, answer = pairs(num_pairs, width, noise=noise)
    penalties = tuple(10.0**power for power in range(-5, 4))
    found = Ridge(penalties=penalties).fit(question, answer)
    x, y = (question - question.mean(0)).numpy(), (answer - answer.mean(0)).numpy()
    unit = np.trace(x.T @ x) / width
    scores = {}
    for alpha in (penalty * unit for penalty in penalties):
        # The hat matrix written out, the intercept's degree of freedom with it.
        hat = x @ np.linalg.solve(x.T @ x + alpha * np.eye(width), x.T) + 1 / num_pairs
        scores[alpha] = num_pairs * np.sum((y - hat @ y) ** 2) / np.trace(np.eye(num_pairs) - hat) ** 2
    assert found.alpha == pytest.approx(min(scores, key=scores.get))


def test_ridge_holds_its_own_against_leave_one_out():
    question, answer = pairs(400, 40, noise=6.0)
    train, test = slice(0, 120), slice(120, None)
    found = Ridge().fit(question[train], answer[train])
    other = RidgeCV(alphas=np.logspace(-3, 4, 40)).fit(question[train].numpy(), answer[train].numpy())
    ours = (found.predict(question[test]) - answer[test]).square().mean().item()
    theirs = np.mean((other.predict(question[test].numpy()) - answer[test].numpy()) ** 2)
    assert ours < 1.02 * theirs
    unregularised = SklearnRidge(alpha=1e-8).fit(question[train].numpy(), answer[train].numpy())
    assert ours < np.mean((unregularised.predict(question[test].numpy()) - answer[test].numpy()) ** 2)


def test_ridge_penalty_follows_the_scale():
    question, answer = pairs(40, 10, noise=3.0)
    assert Ridge().fit(question * 50, answer).alpha == pytest.approx(Ridge().fit(question, answer).alpha * 2500)


def test_ridge_of_equal_questions_is_the_mean_answer():
    _, answer = pairs()
    question = torch.ones_like(answer)
    predicted = Ridge().fit(question, answer).predict(question)
    np.testing.assert_allclose(predicted.numpy(), np.tile(answer.numpy().mean(0), (80, 1)), atol=1e-10)


def test_ridge_maps_between_widths():
    question, answer = pairs()
    assert Ridge().fit(question[:, :4], answer).predict(question[:, :4]).shape == answer.shape


def test_parameters_are_counted():
    question, answer = pairs(width=6)
    counts = {name: baseline.fit(question, answer).num_parameters for name, baseline in closed_forms().items()}
    assert counts == {
        "mean answer": 6,
        "identity (raw)": 0,
        "identity (centred)": 6,
        "Procrustes": 42,
        "ridge": 42,
        "nearest questions": 80 * 12,
    }


def test_dtype_is_the_questions():
    question, answer = pairs()
    for baseline in closed_forms().values():
        assert baseline.fit(question.float(), answer.float()).predict(question.float()).dtype == torch.float32


def test_predictions_depend_on_training_pairs_alone():
    question, answer = pairs(90)
    whole = predict_closed_forms(question[:60], answer[:60], question[60:])
    part = predict_closed_forms(question[:60], answer[:60], question[60:70])
    assert list(whole) == list(closed_forms())
    for name, prediction in whole.items():
        np.testing.assert_allclose(prediction.embedding[:10].numpy(), part[name].embedding.numpy(), atol=1e-12)
        assert prediction.seconds_train > 0


@pytest.mark.parametrize("baseline", closed_forms().values(), ids=closed_forms())
def test_bad_input_is_named(baseline):
    question, answer = pairs()
    with pytest.raises(ValueError, match="must be fitted first"):
        type(baseline)().predict(question)
    with pytest.raises(ValueError, match="must be fitted first"):
        _ = type(baseline)().num_parameters
    with pytest.raises(ValueError, match=r"\[80, 6\] and \[79, 6\]"):
        baseline.fit(question, answer[:-1])
    with pytest.raises(ValueError, match="finite"):
        baseline.fit(question, answer.clone().index_fill_(0, torch.tensor(3), float("nan")))
    with pytest.raises(ValueError, match="at least"):
        baseline.fit(question[:0], answer[:0])
    baseline.fit(question, answer)
    with pytest.raises(ValueError, match=r"\[num_pairs, 6\], got \[80, 5\]"):
        baseline.predict(question[:, :5])


@pytest.mark.parametrize("baseline", [Identity(), Procrustes()])
def test_square_maps_need_one_width(baseline):
    question, answer = pairs()
    with pytest.raises(ValueError, match="one width, got 5 and 6"):
        baseline.fit(question[:, :5], answer)


def test_nearest_questions_are_sklearns_neighbours_at_the_number_it_chose():
    question, answer = pairs(noise=0.1)
    found = NearestQuestions().fit(question, answer)
    x, y = question.numpy(), answer.numpy()
    left_out = {}
    for count in (1, 2, 4, 8, 16, 32, 64):
        regressor = KNeighborsRegressor(count, metric="cosine")
        predicted = cross_val_predict(regressor, x, y, cv=LeaveOneOut())
        cosines = (predicted * y).sum(1) / np.linalg.norm(predicted, axis=1) / np.linalg.norm(y, axis=1)
        left_out[count] = cosines.mean()
    assert found.count == max(left_out, key=left_out.__getitem__)
    unseen, _ = pairs(seed=1)
    wanted = KNeighborsRegressor(found.count, metric="cosine").fit(x, y).predict(unseen.numpy())
    np.testing.assert_allclose(found.predict(unseen).numpy(), wanted, atol=1e-10)


def test_nearest_questions_of_a_few_pairs_are_fewer():
    question, answer = pairs(3)
    assert NearestQuestions(counts=[8, 2]).fit(question, answer).count == 2
    assert NearestQuestions(counts=[8]).fit(question, answer).count == 2
    with pytest.raises(ValueError, match="positive numbers of questions"):
        NearestQuestions(counts=[0])


def test_ridge_needs_penalties():
    with pytest.raises(ValueError, match="positive penalties"):
        Ridge(penalties=[0.0])
