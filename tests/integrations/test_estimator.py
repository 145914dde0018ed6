"""The estimator: scikit-learn's own checks, its start against ridge regression, and what it learns beyond it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from cellgraph.integrations.estimator import CellGraphRegressor

#: Those of scikit-learn's checks that are run every time; all of them, some hundred fits, are in the slow test.
QUICK = (
    "check_regressors_train",
    "check_transformer_general",
    "check_methods_subset_invariance",
    "check_estimators_nan_inf",
    "check_dict_unchanged",
    "check_n_features_in_after_fitting",
    "check_fit_check_is_fitted",
    "check_supervised_y_2d",
    "check_no_attributes_set_in_init",
    "check_get_params_invariance",
    "check_set_params",
    "check_requires_y_none",
    "check_transformer_get_feature_names_out",
)


def data(rows: int = 60, features: int = 3) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(rows, features))
    return x, 3 + 5 * x[:, 0] * x[:, 1] + x[:, 2]


@pytest.mark.parametrize("name", QUICK)
def test_some_of_scikit_learn_s_checks(name: str) -> None:
    estimator = CellGraphRegressor(max_steps=2)
    getattr(estimator_checks, name)(type(estimator).__name__, estimator)


@pytest.mark.slow
def test_all_of_scikit_learn_s_checks() -> None:
    results = estimator_checks.check_estimator(CellGraphRegressor(max_steps=5), on_fail=None, on_skip=None)
    assert len(results) > 50
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] not in ("passed", "skipped")}
    assert not failed
    # The one wants a variable in the environment that SciPy reads when it is imported, the other pandas.
    skipped = {r["check_name"] for r in results if r["status"] == "skipped"}
    assert skipped <= {"check_array_api_input", "check_regressor_data_not_an_array"}


@pytest.mark.parametrize("shape", [None, (2, 3), (4, 3, 3)])
def test_it_starts_as_ridge_regression(shape: tuple[int, ...] | None) -> None:
    x, y = data()
    targets = np.stack([y, x[:, 0] - y], axis=1)
    width = {None: 18, (2, 3): 6, (4, 3, 3): 18}[shape]
    regressor = CellGraphRegressor(shape, max_steps=1, lr=1e-12, num_steps=3, random_state=0).fit(x, targets)
    # Of three standardised features the surface holds a rotation of unit root mean square.
    scaled = StandardScaler().fit_transform(x) * (width / 3) ** 0.5
    scaler = StandardScaler().fit(targets)
    ridge = RidgeCV(alphas=np.logspace(-3, 3, 13)).fit(scaled, scaler.transform(targets))
    wanted = scaler.inverse_transform(ridge.predict(scaled))
    np.testing.assert_allclose(regressor.predict(x), wanted, rtol=1e-4, atol=1e-4)
    assert regressor.transform(x).shape == (60, width)


@pytest.mark.slow
def test_it_learns_a_product_which_no_line_fits() -> None:
    x, y = data(300)
    regressor = CellGraphRegressor(max_steps=200, random_state=0).fit(x[:200], y[:200])
    ridge = RidgeCV().fit(x[:200], y[:200]).score(x[200:], y[200:])
    assert regressor.score(x[200:], y[200:]) > ridge + 0.5
    assert regressor.predict(x).shape == (300,)


def test_a_seed_decides_and_nothing_else_is_touched() -> None:
    x, y = data()
    np_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first, second = (CellGraphRegressor(max_steps=3, random_state=4).fit(x, y).predict(x) for _ in range(2))
    other = CellGraphRegressor(max_steps=3, random_state=5).fit(x, y).predict(x)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert np.array_equal(np.random.get_state()[1], np_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_it_is_a_citizen_of_pipelines_and_searches() -> None:
    x, y = data(40, features=30)
    pipeline = make_pipeline(StandardScaler(), CellGraphRegressor(max_steps=2, random_state=0))
    search = GridSearchCV(pipeline, {"cellgraphregressor__num_steps": [2, 4]}, cv=2).fit(x, y)
    best = search.best_estimator_[-1]
    assert best.num_steps == search.best_params_["cellgraphregressor__num_steps"]
    # Thirty features, two values a cell: a face of four by four.
    assert best.model_.lattice.shape == (3, 4, 4)
    assert len(best.get_feature_names_out()) == 32
    assert np.array_equal(pickle.loads(pickle.dumps(search)).predict(x), search.predict(x))
    assert not hasattr(clone(best), "model_")


def test_settings_that_do_not_fit_are_told_by_fit() -> None:
    x, y = data()
    with pytest.raises(ValueError, match="num_steps=1 cannot carry"):
        CellGraphRegressor(num_steps=1).fit(x, y)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        CellGraphRegressor().fit(x[:1], y[:1])
