from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import pdist
from sklearn.kernel_ridge import KernelRidge as SklearnKernelRidge
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.linear_model import RidgeCV
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import KernelCenterer

from cellgraph.retrieval import (
    Identity,
    KernelRidge,
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
        "kernel ridge": 80 * 12 + 6 + 1,
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
        assert prediction.trials == {"ridge": 41, "kernel ridge": 41, "nearest questions": 7}.get(name, 0)


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


def test_kernel_ridge_is_sklearns_at_the_kernel_and_penalty_it_chose():
    question, answer = pairs()
    found = KernelRidge().fit(question, answer)
    x, y = question.numpy(), answer.numpy()
    assert found.gamma == pytest.approx(1 / (2 * np.median(pdist(x)) ** 2), rel=1e-9)
    # An intercept that is not penalised is a kernel centred in feature space.
    centre = KernelCenterer()
    known = centre.fit_transform(rbf_kernel(x, gamma=found.gamma))
    expected = SklearnKernelRidge(kernel="precomputed", alpha=found.alpha).fit(known, y - y.mean(0))
    unseen = pairs(seed=1)[0]
    kernel = centre.transform(rbf_kernel(unseen.numpy(), x, gamma=found.gamma))
    np.testing.assert_allclose(found.predict(unseen).numpy(), expected.predict(kernel) + y.mean(0), atol=1e-6)


def test_kernel_ridge_minimises_generalised_cross_validation():
    question, answer = pairs(noise=1.5)
    penalties = tuple(10.0**power for power in range(-5, 4))
    found = KernelRidge(penalties=penalties).fit(question, answer)
    kernel = KernelCenterer().fit_transform(rbf_kernel(question.numpy(), gamma=found.gamma))
    y = (answer - answer.mean(0)).numpy()
    scores = {}
    for alpha in (penalty * np.trace(kernel) / 80 for penalty in penalties):
        hat = kernel @ np.linalg.inv(kernel + alpha * np.eye(80)) + 1 / 80
        scores[alpha] = 80 * np.sum((y - hat @ y) ** 2) / np.trace(np.eye(80) - hat) ** 2
    assert found.alpha == pytest.approx(min(scores, key=scores.get), rel=1e-6)


def test_kernel_ridge_learns_what_is_not_linear_and_landmarks_are_nearly_as_good():
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, size=(600, 2))
    y = np.stack([np.sin(2 * x[:, 0]) * x[:, 1], np.cos(x.sum(1))], axis=1) + 0.05 * rng.normal(size=(600, 2))
    question, answer = torch.from_numpy(x), torch.from_numpy(y)

    def error(baseline) -> float:
        predicted = baseline.fit(question[:400], answer[:400]).predict(question[400:])
        return float((predicted - answer[400:]).square().mean())

    assert error(KernelRidge()) < 0.05 * error(Ridge())
    some = KernelRidge(landmarks=60)
    assert error(some) < 0.1 * error(Ridge())
    assert some.num_parameters == 60 * 4 + 2 + 1


def test_kernel_ridge_of_equal_questions_is_the_mean_answer():
    _, answer = pairs()
    question = torch.ones_like(answer)
    predicted = KernelRidge().fit(question, answer).predict(question)
    np.testing.assert_allclose(predicted.numpy(), np.tile(answer.numpy().mean(0), (80, 1)), atol=1e-10)


def test_kernel_ridge_needs_landmarks_and_penalties():
    with pytest.raises(ValueError, match="positive number of landmarks, got 0"):
        KernelRidge(landmarks=0)
    with pytest.raises(ValueError, match="positive penalties"):
        KernelRidge(penalties=[])


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
