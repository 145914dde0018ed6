"""The linear path from question to answer beside the cube, and what is read off the cells and added to it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.nn.adapter import check_width, set_ridge
from cellgraph.nn.blocks import mapped, mean_row, mean_square
from cellgraph.numbers import plain_numbers
from cellgraph.precision import alike

#: How an answer's key is made.
KEYS = ("linear", "none")


class LinearPath(nn.Module):
    r"""A linear map between embeddings at unit variance, and the two answers that are made of what it gives.

    .. math::
        z = (q - \bar q) / \sigma_q, \qquad y = W z + b + \dots

    Each of the two scales is one number, so that angles are kept. At unit variance weights are of about
    :math:`\mathrm{features}^{-1/2}`, and one learning rate means the same for this map and for what stands beside it.
    New, W is the identity in teacher space: the answer is the question, moved to the mean of the answers.

    An answer is *found* by the cosine of y, the query, with its key, a learned linear map K of it. A query that finds
    well is not near the answer in itself: the contrastive loss asks for its direction alone. So the *embedding*, that
    is near, is a calibration of y in closed form, see :meth:`calibrate`; new, it is y at the answers' mean and scale:

    .. math::
        \mathrm{score} = \cos(y, K (a - \bar a) / \sigma_a), \qquad
        \hat a = \bar a + \sigma_a \, (C \, [z, y] + c)

    Args:
        features: Width of the embeddings.
        key: ``"linear"``: K is learned, the identity when new; ``"none"``: an answer is its own key.

    Shapes:
        - **question**, **answer:** ``[..., features]``
        - **z**, **y**, **output:** ``[..., features]``

    Raises:
        ValueError: If ``key`` is unknown.
    """

    question_mean: Tensor
    question_scale: Tensor
    answer_mean: Tensor
    answer_scale: Tensor

    @plain_numbers
    def __init__(self, features: int, *, key: str = "linear") -> None:
        super().__init__()
        if key not in KEYS:
            raise ValueError(f"key must be one of {KEYS}, got {key!r}")
        self.linear = nn.Linear(features, features)
        self.keys = nn.Linear(features, features, bias=False) if key == "linear" else None
        self.calibration = nn.Linear(2 * features, features).requires_grad_(False)
        self._start(torch.ones(()))
        for name in ("question", "answer"):
            self.register_buffer(f"{name}_mean", torch.zeros(features))
            self.register_buffer(f"{name}_scale", torch.ones(()))

    def forward(self, z: Tensor) -> Tensor:
        """The answer at unit variance, from a question at unit variance."""
        return self.linear(z.to(self.linear.weight.dtype))

    def question(self, question: Tensor) -> Tensor:
        """A question at unit variance.

        Raises:
            ValueError: If its width is another.
        """
        check_width(question, self.linear.in_features, "embedding")
        return ((question - self.question_mean) / self.question_scale).to(self.linear.weight.dtype)

    def answer(self, answer: Tensor) -> Tensor:
        """An answer at unit variance.

        Raises:
            ValueError: If its width is another.
        """
        check_width(answer, self.linear.in_features, "embedding")
        return ((answer - self.answer_mean) / self.answer_scale).to(self.linear.weight.dtype)

    def key(self, answer: Tensor) -> Tensor:
        """What the query is compared with to find an answer."""
        scaled = self.answer(answer)
        return scaled if self.keys is None else self.keys(scaled)

    def embedding(self, z: Tensor, y: Tensor) -> Tensor:
        """The embedding of an answer at unit variance."""
        return self.answer_mean + self.answer_scale * self.calibration(torch.cat([z, y.to(z.dtype)], dim=-1))

    @torch.no_grad()
    def fit(self, question: Any, answer: Any) -> None:
        """Take means and scales from training pairs, and start anew.

        Args:
            question: Training questions, ``[num_pairs, features]``, in memory or on the disk.
            answer: Their answers, likewise.

        Raises:
            ValueError: If their width is another.
        """
        for name, embeddings in (("question", question), ("answer", answer)):
            check_width(embeddings, self.linear.in_features, f"{name}s")
            rows = mapped(embeddings, lambda block: alike(block, self.linear.weight)[0])
            mean = mean_row(rows)
            getattr(self, f"{name}_mean").copy_(mean)
            getattr(self, f"{name}_scale").copy_(mean_square(rows, mean).sqrt().clamp_min(1e-6))
        self._start(self.question_scale / self.answer_scale)

    @torch.no_grad()
    def regress(self, question: Tensor, answer: Tensor) -> None:
        """Make it the ridge regression of training pairs, the penalty by leave-one-out cross-validation."""
        set_ridge(self.linear, self.question(question), self.answer(answer), penalties=torch.logspace(-3, 5, 17))

    @torch.no_grad()
    def calibrate(self, z: Tensor, y: Tensor, answer: Tensor) -> None:
        """Let the embedding be the ridge regression of the answers on questions and queries, the penalty by
        leave-one-out cross-validation.

        Args:
            z: Training questions at unit variance, ``[num_pairs, features]``.
            y: Their queries, ``[num_pairs, features]``.
            answer: Their answers, ``[num_pairs, features]``.
        """
        both = torch.cat([z, y], dim=1)
        set_ridge(self.calibration, both, self.answer(answer), penalties=torch.logspace(-3, 5, 17))

    def parts(self) -> dict[str, tuple[nn.Module, ...]]:
        """What it is made of."""
        keys = {} if self.keys is None else {"keys": (self.keys,)}
        return {"path": (self.linear,), **keys, "calibration": (self.calibration,)}

    def _start(self, scale: Tensor) -> None:
        with torch.no_grad():
            nn.init.eye_(self.linear.weight).mul_(scale)
            nn.init.zeros_(self.linear.bias)
            if self.keys is not None:
                nn.init.eye_(self.keys.weight)
            features = len(self.linear.bias)
            nn.init.zeros_(self.calibration.weight)[:, features:].fill_diagonal_(1.0)
            nn.init.zeros_(self.calibration.bias)


class Readout(nn.Module):
    r"""A linear map from all the channels of some cells to an answer at unit variance, zero when new.

    .. math:: y = n^{-1/2} \, W \, [x_{i_1}, \dots, x_{i_m}], \qquad n = m \cdot \mathrm{channels}

    The factor makes a step of Adam, which moves all n weights of an output alike, change the output by about
    :math:`n^{1/2}` of the learning rate instead of n.

    Args:
        mask: The cells, as a node mask.
        channels: How many channels of each are read, the first ones.
        out_features: Width of the answer.

    Shapes:
        - **cells:** ``[batch, num_cells, channels or more]``
        - **output:** ``[batch, out_features]``
    """

    index: Tensor

    @plain_numbers
    def __init__(self, mask: Tensor, channels: int, out_features: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("index", mask.nonzero().squeeze(1), persistent=False)
        self.weight = nn.Parameter(torch.zeros(out_features, len(self.index) * channels))

    def forward(self, cells: Tensor) -> Tensor:
        """What the cells add to the answer."""
        read = cells[..., : self.channels].flatten(1).to(self.weight.dtype)
        return F.linear(read * read.size(1) ** -0.5, self.weight)

    def extra_repr(self) -> str:
        return f"cells={len(self.index)}, channels={self.channels}, out_features={self.weight.size(0)}"
