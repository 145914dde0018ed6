"""A cube as a scikit-learn regressor: beside ridge regression and a perceptron, in a pipeline, and as features.

The data is Friedman's first function (1991, "Multivariate adaptive regression splines", section 4.3): ten features of
which five matter, with a product, a square and noise of variance one.

    python examples/04_in_scikit_learn.py
"""

from __future__ import annotations

import warnings

from sklearn.datasets import make_friedman1
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cellgraph.integrations.estimator import CellGraphRegressor


def main() -> None:
    x, y = make_friedman1(600, noise=1.0, random_state=0)
    x_train, x_test, y_train, y_test = train_test_split(x, y, random_state=0)
    cube = CellGraphRegressor(random_state=0)
    systems = {
        "ridge": RidgeCV(),
        "perceptron, 100 hidden": make_pipeline(StandardScaler(), MLPRegressor(max_iter=1000, random_state=0)),
        "cube": cube,
    }
    print("R2 on 150 held-out rows of Friedman's first function")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The perceptron's that it might go on.
        for name, system in systems.items():
            print(f"{name:>23}: {system.fit(x_train, y_train).score(x_test, y_test):.3f}")

    # As it is: in a pipeline of its own a cube would be trained again.
    features = make_pipeline(FrozenEstimator(cube), RidgeCV()).fit(x_train, y_train)
    print(
        f"ridge on the cube's surface ({cube.transform(x_test).shape[1]} values): {features.score(x_test, y_test):.3f}"
    )
    few = CellGraphRegressor(max_steps=60, random_state=0)
    search = GridSearchCV(few, {"num_steps": [2, 4]}, cv=2, refit=False)
    search.fit(x_train, y_train)
    for options, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        print(f"two-fold cross-validation, 60 updates, {options}: {score:.3f}")


if __name__ == "__main__":
    main()
