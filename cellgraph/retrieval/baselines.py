"""Baselines in closed form: what no network needs to be trained for.

All are fitted on training embeddings only, in float64, and map a question embedding to an answer embedding.
``num_parameters`` counts the numbers a fitted baseline stores to do so.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph.numbers import plain_numbers
from cellgraph.retrieval.baseline import Baseline
from cellgraph.retrieval.metrics import CHUNK_SIZE

#: Penalties tried by :class:`Ridge`, four a decade: from no regularisation to nearly the mean answer.
PENALTIES = tuple(10 ** (quarter / 4) for quarter in range(-24, 17))


class MeanAnswer(Baseline):
    """The mean of the training answers, whatever the question: what a collapsed model learns."""

    def _fit(self, question: Tensor, answer: Tensor) -> None:
        self.mean = answer.mean(0)

    def _predict(self, question: Tensor) -> Tensor:
        return self.mean.to(question.device).expand(len(question), -1)

    def _num_parameters(self) -> int:
        return self.answer_width


class Identity(Baseline):
    r"""The question itself, raw or moved by the difference of the training means: :math:`q - \bar q + \bar a`.

    Args:
        centred: Whether to move it.
    """

    square = True

    @plain_numbers
    def __init__(self, *, centred: bool = False) -> None:
        super().__init__()
        self.centred = centred

    def _fit(self, question: Tensor, answer: Tensor) -> None:
        shift = answer.mean(0) - question.mean(0)
        self.shift = shift if self.centred else torch.zeros_like(shift)

    def _predict(self, question: Tensor) -> Tensor:
        return question + self.shift.to(question.device)

    def _num_parameters(self) -> int:
        return self.answer_width if self.centred else 0


class _Affine(Baseline):
    """Common form of the linear maps: ``q @ weight + bias``."""

    weight: Tensor
    bias: Tensor

    def _predict(self, question: Tensor) -> Tensor:
        return question @ self.weight.to(question.device) + self.bias.to(question.device)

    def _num_parameters(self) -> int:
        return self.weight.numel() + self.bias.numel()


class Procrustes(_Affine):
    r"""The rotation or reflection that carries the centred questions nearest to the centred answers.

    (Schönemann 1966, `doi 10.1007/BF02289451 <https://doi.org/10.1007/BF02289451>`_.)

    .. math::
        R = U V^\top, \qquad U S V^\top = (Q - \bar q)^\top (A - \bar a), \qquad \hat a = (q - \bar q) R + \bar a
    """

    square = True

    def _fit(self, question: Tensor, answer: Tensor) -> None:
        question_mean, answer_mean = question.mean(0), answer.mean(0)
        u, _, vh = torch.linalg.svd((question - question_mean).T @ (answer - answer_mean))
        self.weight = u @ vh
        self.bias = answer_mean - question_mean @ self.weight


class Ridge(_Affine):
    r"""Affine least squares with a squared penalty chosen by generalised cross-validation on the training pairs.

    (Hoerl and Kennard 1970, `doi 10.1080/00401706.1970.10488634 <https://doi.org/10.1080/00401706.1970.10488634>`_;
    Golub, Heath and Wahba 1979, `doi 10.1080/00401706.1979.10489751
    <https://doi.org/10.1080/00401706.1979.10489751>`_.)

    .. math::
        W = (X^\top X + \alpha I)^{-1} X^\top Y, \qquad
        \mathrm{GCV}(\alpha) = \frac{n \lVert Y - X W \rVert^2}{(n - 1 - \sum_j s_j^2 / (s_j^2 + \alpha))^2}

    with centred :math:`X` and :math:`Y`, the singular values :math:`s_j` of :math:`X` and the bias unpenalised. One
    eigendecomposition serves all penalties.

    Args:
        penalties: Values of :math:`\alpha` to try, in units of the mean of :math:`s_j^2`, so that neither the number
            of pairs nor the scale of the embeddings matters.

    Attributes:
        alpha: The penalty chosen, absolute, as scikit-learn's ``Ridge(alpha=...)`` takes it.

    Raises:
        ValueError: If there is no penalty or one is not positive.
    """

    min_pairs = 2

    @plain_numbers
    def __init__(self, *, penalties: Sequence[float] = PENALTIES) -> None:
        super().__init__()
        if not penalties or min(penalties) <= 0:
            raise ValueError(f"Ridge needs positive penalties, got {list(penalties)}")
        self.penalties = tuple(penalties)
        self.trials = len(self.penalties)
        self.alpha = float("nan")

    def _fit(self, question: Tensor, answer: Tensor) -> None:
        question_mean, answer_mean = question.mean(0), answer.mean(0)
        x, y = question - question_mean, answer - answer_mean
        power, basis = torch.linalg.eigh(x.T @ x)
        power = power.clamp_min(0)
        moments = basis.T @ (x.T @ y)
        # Directions without variance explain nothing, and would divide by zero.
        present = power > power.max() * 1e-12
        explained = torch.where(present, moments.square().sum(1) / power.where(present, torch.ones_like(power)), 0.0)
        unexplained = (y.square().sum() - explained.sum()).clamp_min(0)

        def gcv(alpha: float) -> float:
            kept = power / (power + alpha)
            residual = unexplained + (explained * (1 - kept).square()).sum()
            freedom = len(x) - 1 - kept.sum()
            return float(residual / freedom.square())

        unit = float(power.mean().clamp_min(torch.finfo(power.dtype).tiny))
        self.alpha = min((penalty * unit for penalty in self.penalties), key=gcv)
        self.weight = basis @ (moments / (power + self.alpha)[:, None])
        self.bias = answer_mean - question_mean @ self.weight


class KernelRidge(Baseline):
    r"""Ridge regression on features of a Gaussian kernel: a nonlinear map without any training.

    (Saunders, Gammerman and Vovk 1998, "Ridge regression learning algorithm in dual variables"; with many pairs the
    kernel goes by landmarks, Williams and Seeger 2001, "Using the Nyström method to speed up kernel machines", as
    scikit-learn does it.)

    .. math::
        k(q, q') = e^{-\gamma \lVert q - q' \rVert^2}, \qquad
        \phi(q) = K_{mm}^{-1/2} \, k(q), \qquad \hat a = \phi(q) \, W + b

    where :math:`k(q)` are the kernels with m training questions, :math:`1 / \sqrt{2 \gamma}` is the median distance
    between training questions, and W and b are those of :class:`Ridge`. With as many landmarks as pairs this is kernel
    ridge regression with an intercept, exactly.

    Args:
        landmarks: The largest m; 2,000 take a few seconds.
        penalties: See :class:`Ridge`.

    Attributes:
        gamma: The kernel's.
        alpha: The penalty chosen.

    Raises:
        ValueError: If the number of landmarks or a penalty is not positive.
    """

    min_pairs = 2

    @plain_numbers
    def __init__(self, *, landmarks: int = 2_000, penalties: Sequence[float] = PENALTIES) -> None:
        super().__init__()
        if landmarks < 1:
            raise ValueError(f"KernelRidge needs a positive number of landmarks, got {landmarks}")
        self.landmarks, self.ridge = landmarks, Ridge(penalties=penalties)
        self.trials = self.ridge.trials
        self.gamma = float("nan")

    @property
    def alpha(self) -> float:
        """The penalty chosen, absolute."""
        return self.ridge.alpha

    def _fit(self, question: Tensor, answer: Tensor) -> None:
        # It takes a second to import.
        from sklearn.kernel_approximation import Nystroem

        # Pairs of one topic stand together: some from everywhere, for the median of all.
        some = question[:: -(-len(question) // 1_000)]
        median = float(F.pdist(some).quantile(0.5))
        self.gamma = 0.5 / median**2 if median else 1.0
        count = min(self.landmarks, len(question))
        features = Nystroem(kernel="rbf", gamma=self.gamma, n_components=count, random_state=0)
        known = question.cpu().numpy()
        self.ridge.fit(torch.from_numpy(features.fit_transform(known)).to(question.device), answer)
        self.known = torch.from_numpy(features.components_).to(question.device)
        self.weight = torch.from_numpy(features.normalization_).to(question.device).T @ self.ridge.weight

    def _predict(self, question: Tensor) -> Tensor:
        known, weight = self.known.to(question.device), self.weight.to(question.device)
        parts = [
            (-self.gamma * torch.cdist(rows, known).square()).exp() @ weight for rows in question.split(CHUNK_SIZE)
        ]
        return torch.cat(parts) + self.ridge.bias.to(question.device)

    def _num_parameters(self) -> int:
        return self.known.numel() + self.weight.numel() + self.ridge.bias.numel() + 1


class NearestQuestions(Baseline):
    """The mean answer of the training questions nearest by cosine, their number chosen by leave-one-out on these.

    (Cover and Hart 1967, `doi 10.1109/TIT.1967.1053964 <https://doi.org/10.1109/TIT.1967.1053964>`_; the simplest map
    that is not linear.)

    Args:
        counts: Numbers of questions to try; what there are not enough questions for is left out.

    Attributes:
        count: The number chosen: that of the largest mean cosine to the true answer.

    Raises:
        ValueError: If there is no number or one is not positive.
    """

    min_pairs = 2

    @plain_numbers
    def __init__(self, *, counts: Sequence[int] = (1, 2, 4, 8, 16, 32, 64)) -> None:
        super().__init__()
        if not counts or min(counts) < 1:
            raise ValueError(f"NearestQuestions needs positive numbers of questions, got {list(counts)}")
        self.counts = tuple(sorted(counts))
        self.trials = len(self.counts)
        self.count = 0

    def _fit(self, question: Tensor, answer: Tensor) -> None:
        self.known, self.answers = F.normalize(question, dim=1), answer
        counts = [count for count in self.counts if count < len(question)] or [len(question) - 1]
        gained = torch.zeros(len(counts), dtype=answer.dtype)
        for rows in torch.arange(len(question)).split(CHUNK_SIZE):
            score = self.known[rows] @ self.known.T
            score[torch.arange(len(rows)), rows] = -torch.inf
            nearest = answer[score.topk(counts[-1], dim=1).indices]
            for place, count in enumerate(counts):
                gained[place] += F.cosine_similarity(nearest[:, :count].mean(1), answer[rows]).sum()
        self.count = counts[int(gained.argmax())]

    def _predict(self, question: Tensor) -> Tensor:
        known, answers = self.known.to(question.device), self.answers.to(question.device)
        parts = [
            answers[(rows @ known.T).topk(self.count, dim=1).indices].mean(1)
            for rows in F.normalize(question, dim=1).split(CHUNK_SIZE)
        ]
        return torch.cat(parts) if parts else question.new_zeros(0, self.answer_width)

    def _num_parameters(self) -> int:
        return self.known.numel() + self.answers.numel()


def closed_forms() -> dict[str, Baseline]:
    """A new one of each, by the names they bear in the table."""
    return {
        "mean answer": MeanAnswer(),
        "identity (raw)": Identity(),
        "identity (centred)": Identity(centred=True),
        "Procrustes": Procrustes(),
        "ridge": Ridge(),
        "kernel ridge": KernelRidge(),
        "nearest questions": NearestQuestions(),
    }
