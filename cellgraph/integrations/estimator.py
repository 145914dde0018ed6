"""The estimator: a small cube as a regressor and transformer of scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MultiOutputMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from cellgraph.generators import own_generators
from cellgraph.lattice import Lattice
from cellgraph.model import CellGraph
from cellgraph.nn import GMLPCell
from cellgraph.nn.adapter import set_ridge
from cellgraph.retrieval import EmbeddedPairs, Objective, Predicted, Retrieval, TrainSettings
from cellgraph.training import train


class CellGraphRegressor(
    ClassNamePrefixFeaturesOutMixin, MultiOutputMixin, RegressorMixin, TransformerMixin, BaseEstimator
):
    """Regression of one or more targets by a small lattice, after scikit-learn's conventions.

    Features and targets are standardised and padded with zeros to one width. The features' principal components enter
    the lattice, and ridge regression reads what leaves it: the start is ridge regression, since a new lattice changes
    nothing. From there all of it is trained for the squared error. Predictions are made in float64, so that a row's
    does not depend on the rows beside it.

    Args:
        shape: Shape of the lattice. The surface, a face times ``surface_channels``, is a bottleneck: of more features
            than it has values, the leading components enter. By default ``(3, s, s)`` with ``s`` from 3 to 8, the
            least whose surface holds all features.
        neighbourhood: Number of neighbours, the smallest by default.
        channels: Channels of a cell.
        hidden: Width of the cell's gated block.
        surface_channels: Number of values each surface cell takes and gives.
        num_steps: Steps of a rollout.
        max_steps: Updates.
        batch_size: Rows an update.
        lr: Learning rate.
        weight_decay: Weight decay.
        random_state: Seed or generator of everything random.
        verbose: Whether to show progress.

    Attributes:
        model_: The trained :class:`~cellgraph.CellGraph`, in float64.
        n_features_in_: Number of features.
        n_outputs_: Number of targets.
        seconds_: Time spent on updates.

    Example:
        >>> X = np.random.default_rng(0).normal(size=(60, 3))
        >>> regressor = CellGraphRegressor(max_steps=5, random_state=0).fit(X, X[:, :2] @ [[1.0], [2.0]])
        >>> regressor.predict(X).shape, regressor.transform(X).shape
        ((60, 1), (60, 18))
        >>> bool(regressor.score(X, X[:, :2] @ [[1.0], [2.0]]) > 0.9)
        True
    """

    def __init__(
        self,
        shape: Sequence[int] | None = None,
        *,
        neighbourhood: int | None = None,
        channels: int = 16,
        hidden: int = 32,
        surface_channels: int = 2,
        num_steps: int = 3,
        max_steps: int = 300,
        batch_size: int = 32,
        lr: float = 1e-2,
        weight_decay: float = 0.01,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.shape = shape
        self.neighbourhood = neighbourhood
        self.channels = channels
        self.hidden = hidden
        self.surface_channels = surface_channels
        self.num_steps = num_steps
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: Any) -> CellGraphRegressor:  # noqa: N803
        """Train on features ``[n_samples, n_features]`` and targets ``[n_samples]`` or ``[n_samples, n_outputs]``.

        Raises:
            ValueError: If the arrays are not such, hold fewer than two rows, or a setting does not fit.
        """
        rows, y = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64, ensure_min_samples=2)
        targets = y.reshape(len(y), -1).astype(np.float64)
        self._one_target, self.n_outputs_ = y.ndim == 1, targets.shape[1]
        self._width = max(rows.shape[1], self.n_outputs_)
        self._x_scaler, self._y_scaler = StandardScaler().fit(rows), StandardScaler().fit(targets)
        question = self._padded(self._x_scaler, rows).float()
        answer = self._padded(self._y_scaler, targets).float()
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with own_generators(seed):
            model = self._new_model()
            self._start(model, question, answer)
        settings = TrainSettings(
            max_steps=self.max_steps,
            batch_size=min(self.batch_size, len(rows)),
            lr=self.lr,
            weight_decay=self.weight_decay,
            warmup_steps=min(20, self.max_steps // 5),
            betas=(0.9, 0.999),
            lr_multipliers={},
            noise=0.0,
            ema=0.95,
            seed=seed,
            compile=False,
            checkpoint_every=100,
            # Targets may need its digits, and regressors are to be alike on all processors.
            precision="32-true",
            accelerator="cpu",
        )
        columns = self.n_outputs_

        def squared_error(predicted: Predicted) -> Tensor:
            """Of the columns that are targets; the others are padding."""
            return F.mse_loss(predicted.embedding[:, :columns], predicted.answer[:, :columns])

        task = Retrieval(Objective([("squared_error", squared_error, 1.0)]), EmbeddedPairs(question, answer))
        result = train(model, task, settings, progress=self.verbose)
        self.model_, self.seconds_ = model.double(), result.seconds
        self._n_features_out = model.output_surface.width
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """The targets of features ``[n_samples, n_features]``, in the shape that they had in :meth:`fit`."""
        scaled = self._run(X)[0][:, : self.n_outputs_].numpy()
        targets = self._y_scaler.inverse_transform(scaled)
        return targets[:, 0] if self._one_target else targets

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """The output surface for features ``[n_samples, n_features]``: ``[n_samples, surface_width]``."""
        return self._run(X)[1].numpy()

    @torch.no_grad()
    def _run(self, X: ArrayLike) -> tuple[Tensor, Tensor]:  # noqa: N803
        check_is_fitted(self)
        question = self._padded(self._x_scaler, validate_data(self, X, reset=False, dtype=np.float64))
        parts = [self.model_(part) for part in question.split(1024)]
        return torch.cat([part.embedding for part in parts]), torch.cat([part.surface for part in parts])

    def _new_model(self) -> CellGraph:
        side = min(max(3, math.ceil((self.n_features_in_ / self.surface_channels) ** 0.5)), 8)
        lattice = Lattice((3, side, side) if self.shape is None else tuple(self.shape), self.neighbourhood)
        cell = GMLPCell(lattice, self.channels, hidden=self.hidden)
        ends = {1: ("left", "right"), 2: ("top", "bottom"), 3: ("front", "back")}[lattice.dim]
        return CellGraph(
            cell,
            in_features=self._width,
            input_nodes=ends[0],
            output_nodes=ends[1],
            surface_channels=self.surface_channels,
            num_steps=self.num_steps,
            path="none",
        )

    @torch.no_grad()
    def _start(self, model: CellGraph, question: Tensor, answer: Tensor) -> None:
        model.question_adapter.fit(question)
        surface = model.question_adapter.encode(question)
        decoder = model.answer_adapter.decoder
        assert isinstance(decoder, nn.Linear)
        set_ridge(decoder, surface, answer)

    def _padded(self, scaler: StandardScaler, rows: NDArray[np.float64]) -> Tensor:
        scaled = torch.from_numpy(scaler.transform(rows))
        return F.pad(scaled, (0, self._width - scaled.size(1)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        return tags
