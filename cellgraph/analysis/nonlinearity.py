"""Nonlinearity: what in the cells, and in what is read off them, no linear map of the question could have given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

from cellgraph.analysis.states import walk
from cellgraph.lattice import Lattice
from cellgraph.model import CellGraph

#: What the penalty of the regression is chosen from, for questions at unit variance.
PENALTIES = torch.logspace(-4, 4, 17)

#: Share of the power below which a deviation is rounding error: float32 has 1e-7 in amplitude, 1e-14 in power.
RELATIVE_EPS = 1e-10


class LinearFit:
    r"""What ridge regression on the question says at held-out questions.

    .. math:: \hat y = \bar y + (q - \bar q) (Q^\top Q + \lambda)^{-1} Q^\top (Y - \bar y)

    Args:
        fitted: Questions to fit to, ``[num_fitted, width]``.
        held_out: Questions to judge by, ``[num_held_out, width]``.
        like: A quantity at the questions to fit to, ``[num_fitted, num_quantities]``, for which the penalty is chosen,
            by leave-one-out cross-validation.

    Raises:
        ValueError: If there are not at least three questions to fit to and to judge by.
    """

    def __init__(self, fitted: Tensor, held_out: Tensor, like: Tensor) -> None:
        self.num_fitted = len(fitted)
        if min(len(fitted), len(held_out)) < 3:
            raise ValueError(
                f"a regression needs at least 3 questions to fit to and 3 to judge by, got {len(fitted)} "
                f"and {len(held_out)}"
            )
        mean = fitted.double().mean(0)
        # One scale, so that angles are kept.
        scale = (fitted.double() - mean).square().mean().sqrt().clamp(min=torch.finfo(torch.float32).tiny)
        x, self._held_out = ((part.double() - mean) / scale for part in (fitted, held_out))
        self.penalty = float(RidgeCV(alphas=PENALTIES.tolist()).fit(x.numpy(), like.double().numpy()).alpha_)
        gram = x.T @ x + self.penalty * torch.eye(x.size(1), dtype=x.dtype)
        self._solved = torch.cholesky_solve(x.T, torch.linalg.cholesky(gram))

    def __call__(self, y: Tensor) -> Tensor:
        """A quantity at the held-out questions, from what it is at the others.

        Shapes:
            - **y:** ``[num_fitted, ...]``
            - **output:** ``[num_held_out, ...]``
        """
        mean = y.mean(0)
        weight = self._solved.to(y.dtype) @ (y - mean).flatten(1)
        return mean + (self._held_out.to(y.dtype) @ weight).unflatten(1, y.shape[1:])

    def residual(self, y: Tensor) -> Tensor:
        """What the regression leaves of a quantity at the held-out questions, less its mean.

        Shapes:
            - **y:** at the questions fitted to, then at those held out, ``[num_fitted + num_held_out, ...]``
            - **output:** ``[num_held_out, ...]``
        """
        fitted, held_out = y.split([self.num_fitted, len(self._held_out)])
        return centred(held_out - self(fitted))


def centred(x: Tensor) -> Tensor:
    """Deviations from the mean over the first axis."""
    return x - x.mean(0)


def share_of(part: Tensor, whole: Tensor) -> float:
    """Power of deviations as a share of the power of others; 0 where there is none."""
    top, bottom = (float(x.double().square().sum()) for x in (part, whole))
    return top / bottom if bottom > 0 else 0.0


@dataclass(frozen=True)
class Contributions:
    r"""What each cell that is read brings: :math:`y = \sum_i W_i x_i`.

    With a linear path, y is what the readout adds to what the path says; without one, the surface that is
    extracted, of which each cell gives its own part.

    Attributes:
        index: The cells, ``[num_read]``.
        weight: :math:`W_i` of each, ``[num_read, channels, width]``.
    """

    index: Tensor
    weight: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: CellGraph) -> Contributions:
        """Those of a network."""
        index, num_channels = model.read_index, model.cell.channels
        if model.readout is not None:
            channels = model.readout.channels
            read = model.readout.weight.T.unflatten(0, (len(index), channels)) * (len(index) * channels) ** -0.5
        else:
            channels, width = model.output_surface.channels, model.output_surface.width
            read = torch.eye(width, dtype=model.cell.dtype).unflatten(0, (len(index), channels))
            read = read / model.conveyor.gain(model.num_steps[1])
        padded = read.new_zeros(len(index), num_channels, read.size(2))
        padded[:, :channels] = read
        return cls(index, padded)

    def total(self, states: Tensor) -> Tensor:
        """y of the states of the cells that are read, ``[batch, num_read, channels]``: ``[batch, width]``."""
        return states.flatten(1) @ self.weight.to(states.dtype).flatten(0, 1)

    def power(self, states: Tensor) -> Tensor:
        """Sum over the batch of the squared size of each cell's part, ``[num_read]``."""
        weight = self.weight.to(states.dtype)
        gram = torch.einsum("bic,bid->icd", states, states)
        return torch.einsum("icd,icw,idw->i", gram, weight, weight)

    def shares(self, states: Tensor) -> Tensor:
        r"""Share of the variance of y that each cell's part accounts for, ``[num_read]``; together 1.

        .. math:: \frac{\operatorname{tr} \operatorname{Cov}(W_i x_i, y)}{\operatorname{tr} \operatorname{Cov}(y)}

        It is negative for a cell that takes off what others bring; all are 0 where y does not vary.
        """
        whole = self.total(states)
        along = torch.einsum("bic,icw,bw->i", states, self.weight.to(states.dtype), whole)
        power = whole.square().sum()
        return torch.where(power > 0, along / power, 0.0)


@dataclass(frozen=True)
class Nonlinearity:
    """How much of what a network says is not linear in the question, and where that comes from.

    Shares are of variances over held-out questions; what is not linear is what ridge regression on the question, fitted
    to other questions, leaves unexplained.

    Attributes:
        added: Share of the variance of the sum of path and readout that is the readout's; ``None`` without a path.
        nonlinear: Share of the variance of what is read that is not linear.
        answer: Share of the variance of that sum, or without a path of the surface, that is not linear.
        control: The same share of a linear map of the question: what the regression misses for want of questions.
        cells: The cells that are read, ``[num_read]``.
        cell_shares: Share of the variance of what is read that each of them accounts for.
        cell_nonlinear: Share of the variance of each one's own part that is not linear.
        nonlinear_shares: Share of what is not linear that each of them accounts for.
        states: Share of the variance of the states of each step and layer that is not linear,
            ``[num_steps + 1, num_layers]``.
    """

    added: float | None
    nonlinear: float
    answer: float
    control: float
    cells: Tensor
    cell_shares: Tensor
    cell_nonlinear: Tensor
    nonlinear_shares: Tensor
    states: Tensor


@torch.no_grad()
def nonlinearity(model: CellGraph, question: Tensor, fit: LinearFit) -> Nonlinearity:
    """Measure what is not linear in the question.

    Args:
        model: The network, in evaluation mode.
        question: Question embeddings, ``[num_questions, in_features]``, those that are fitted to first.
        fit: The regression on them.
    """
    parts, count = Contributions.of(model), fit.num_fitted
    by_step = []
    for x in walk(model, question):
        by_step.append(_by_layer(fit, x, model.lattice))
    read = x[:, parts.index].double()
    apart, left = centred(read[count:]), fit.residual(read)
    # The regression is linear in what it predicts: what it leaves of the parts adds up to what it leaves of the whole.
    read_apart, read_left = parts.total(apart), parts.total(left)
    added, answer = None, share_of(read_left, read_apart)
    if model.path is not None:
        said = centred(model.path(model.path.question(question[count:])).double()) + read_apart
        # The path itself is linear.
        added, answer = share_of(read_apart, said), share_of(read_left, said)
    # Any linear map of the question tells what the regression misses.
    generator = torch.Generator().manual_seed(0)
    linear = question.double() @ torch.randn(question.size(1), 16, generator=generator, dtype=torch.double)
    own, own_left = parts.power(apart), parts.power(left)
    return Nonlinearity(
        added=added,
        nonlinear=share_of(read_left, read_apart),
        answer=answer,
        control=share_of(fit.residual(linear), centred(linear[count:])),
        cells=parts.index,
        cell_shares=parts.shares(apart),
        cell_nonlinear=torch.where(own > 0, own_left / own, 0.0),
        nonlinear_shares=parts.shares(left),
        states=torch.tensor(by_step, dtype=torch.double),
    )


def _by_layer(fit: LinearFit, x: Tensor, lattice: Lattice) -> list[float]:
    """Share of the variance of each layer's states that is not linear."""
    shares = []
    for layer in range(lattice.shape[0]):
        own = x[:, lattice.layer == layer]
        apart = centred(own[fit.num_fitted :])
        # A layer that no question has reached yet varies by rounding errors alone.
        reached = float(apart.square().sum()) > RELATIVE_EPS * float(own[fit.num_fitted :].square().sum())
        shares.append(share_of(fit.residual(own), apart) if reached else 0.0)
    return shares
