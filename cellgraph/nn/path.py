"""The linear path from question to answer beside the cube, and what is read off the cells and added to it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.nn.adapter import set_ridge
from cellgraph.numbers import plain_numbers
from cellgraph.precision import alike


class LinearPath(nn.Module):
    r"""A linear map between embeddings at unit variance.

    .. math::
        z = (q - \bar q) / \sigma_q, \qquad \hat a = \bar a + \sigma_a \, (W z + b + \dots)

    Each of the two scales is one number, so that angles are kept. At unit variance weights are of about
    :math:`\mathrm{features}^{-1/2}`, and one learning rate means the same for this map and for what stands beside it.
    New, W is the identity in teacher space: the answer is the question, moved to the mean of the answers.

    Args:
        features: Width of the embeddings.

    Shapes:
        - **question**, **answer:** ``[..., features]``
        - **z**, **output:** ``[..., features]``
    """

    question_mean: Tensor
    question_scale: Tensor
    answer_mean: Tensor
    answer_scale: Tensor

    @plain_numbers
    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, features)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        for name in ("question", "answer"):
            self.register_buffer(f"{name}_mean", torch.zeros(features))
            self.register_buffer(f"{name}_scale", torch.ones(()))

    def forward(self, z: Tensor) -> Tensor:
        """The answer at unit variance, from a question at unit variance."""
        return self.linear(z.to(self.linear.weight.dtype))

    def question(self, question: Tensor) -> Tensor:
        """A question at unit variance."""
        return ((question - self.question_mean) / self.question_scale).to(self.linear.weight.dtype)

    def answer(self, answer: Tensor) -> Tensor:
        """An answer at unit variance."""
        return ((answer - self.answer_mean) / self.answer_scale).to(self.linear.weight.dtype)

    def embedding(self, y: Tensor) -> Tensor:
        """The embedding of an answer at unit variance."""
        return self.answer_mean + self.answer_scale * y

    @torch.no_grad()
    def fit(self, question: Tensor, answer: Tensor) -> None:
        """Take means and scales from training pairs, and start anew.

        Args:
            question: Training questions, ``[num_pairs, features]``.
            answer: Their answers, ``[num_pairs, features]``.
        """
        for name, embeddings in (("question", question), ("answer", answer)):
            embeddings = alike(embeddings, self.linear.weight)[0]
            mean = embeddings.mean(0)
            getattr(self, f"{name}_mean").copy_(mean)
            getattr(self, f"{name}_scale").copy_((embeddings - mean).square().mean().sqrt().clamp_min(1e-6))
        nn.init.eye_(self.linear.weight)
        self.linear.weight.mul_(self.question_scale / self.answer_scale)
        nn.init.zeros_(self.linear.bias)

    @torch.no_grad()
    def regress(self, question: Tensor, answer: Tensor) -> None:
        """Make it the ridge regression of training pairs, the penalty by leave-one-out cross-validation."""
        set_ridge(self.linear, self.question(question), self.answer(answer), penalties=torch.logspace(-3, 5, 17))


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
        read = cells[..., : self.channels].flatten(1)
        return F.linear(read * read.size(1) ** -0.5, self.weight)

    def extra_repr(self) -> str:
        return f"cells={len(self.index)}, channels={self.channels}, out_features={self.weight.size(0)}"
