"""The terms of the standard objective, each a module that is called with what was predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.numbers import plain_numbers
from cellgraph.precision import at_least_float32
from cellgraph.retrieval.contrast import contrast, contrast_with_some, contrast_within
from cellgraph.retrieval.memory_bank import MemoryBank

if TYPE_CHECKING:
    from cellgraph.retrieval.objectives import Predicted

NEGATIVES = ("batch", "bank")
DIRECTIONS = ("symmetric", "forward")


class SurfaceTerm(nn.Module):
    r"""The predicted surface :math:`s` points at the answer's surface :math:`z` and has its values.

    .. math:: 1 - \cos(s, z) + \mathrm{mse\_weight} \cdot \mathrm{mean} \, (s - z)^2

    Args:
        mse_weight: Weight of the squared error. Both parts, ``angle`` and ``mse``, are reported.

    Raises:
        ValueError: If it is negative.
    """

    @plain_numbers
    def __init__(self, mse_weight: float = 1.0) -> None:
        super().__init__()
        self.mse_weight = _weight("mse_weight", mse_weight)

    def forward(self, predicted: Predicted) -> tuple[Tensor, dict[str, Tensor]]:
        """The term and its parts."""
        surface = at_least_float32(predicted.surface).flatten(1)
        target = predicted.target_surface.to(surface.dtype).flatten(1)
        angle = 1 - F.cosine_similarity(surface, target, dim=-1).mean()
        mse = F.mse_loss(surface, target)
        return angle + self.mse_weight * mse, {"angle": angle, "mse": mse}


class InternalTerm(nn.Module):
    r"""The states :math:`x` of the cells stay

    - *overflow*: :math:`\mathrm{mean} \max(0, \mathrm{rms}(x_i) - \mathrm{bound})^2` over the cells, the overflow loss
      of self-organising textures (`Niklasson et al. 2021 <https://distill.pub/selforg/2021/textures>`_) on a cell's
      root mean square;
    - *variance*: :math:`\mathrm{mean} \max(0, \mathrm{floor} - \sqrt{\mathrm{Var}(x_{ic}) + \epsilon})` over cells and
      channels, the variance over the batch: the variance term of VICReg (`Bardes et al. 2022
      <https://arxiv.org/abs/2105.04906>`_, equation 1);
    - *covariance*: :math:`\frac{1}{C} \sum_{c \ne d} \mathrm{Cov}(x)_{cd}^2` over the channels, VICReg's covariance
      term (equations 3 and 4; the redundancy reduction of `Zbontar et al. 2021
      <https://arxiv.org/abs/2103.03230>`_), the covariance averaged over the cells, each about its own mean over the
      batch.

    The last two need two rows and are 0 for one; for models without cells all are.

    Args:
        bound: Root mean square from which a cell's state is penalised.
        floor: Standard deviation below which a channel of a cell is penalised.
        overflow: Weight of *overflow* within the term.
        variance: Weight of *variance*.
        covariance: Weight of *covariance*.

    Raises:
        ValueError: If a number is out of range.
    """

    needs_states = True

    @plain_numbers
    def __init__(
        self,
        *,
        bound: float = 4.0,
        floor: float = 0.1,
        overflow: float = 1.0,
        variance: float = 1.0,
        covariance: float = 0.04,
    ) -> None:
        super().__init__()
        if not (bound > 0 and floor >= 0):
            raise ValueError(f"bound must be positive and floor not negative, got {bound} and {floor}")
        self.bound, self.floor = bound, floor
        weights = {"overflow": overflow, "variance": variance, "covariance": covariance}
        self.weights = {name: _weight(name, weight) for name, weight in weights.items()}

    def forward(self, predicted: Predicted) -> tuple[Tensor, dict[str, Tensor]]:
        """The term and its parts."""
        if predicted.states is None:
            return at_least_float32(predicted.embedding).new_zeros(()), {}
        states = at_least_float32(predicted.states)
        parts: dict[str, Tensor] = {}
        if self.weights["overflow"]:
            # The small number keeps the root's gradient finite at a state of zeros.
            rms = states.square().mean(-1).add(1e-12).sqrt()
            parts["overflow"] = F.relu(rms - self.bound).square().mean()
        if (self.weights["variance"] or self.weights["covariance"]) and states.size(0) > 1:
            deviation = states - states.mean(0)
            if self.weights["variance"]:
                std = (deviation.square().sum(0) / (states.size(0) - 1) + 1e-4).sqrt()
                parts["variance"] = F.relu(self.floor - std).mean()
            if self.weights["covariance"]:
                flat = deviation.flatten(0, 1)
                covariance = flat.T @ flat / ((states.size(0) - 1) * states.size(1))
                squares = covariance.square()
                parts["covariance"] = (squares.sum() - squares.diagonal().sum()) / states.size(2)
        return sum((self.weights[name] * part for name, part in parts.items()), states.new_zeros(())), parts


class _Contrastive(nn.Module):
    """What the two terms that compare answers have in common."""

    def __init__(self, bank: MemoryBank) -> None:
        super().__init__()
        self.bank = bank

    def fit(self, answer: Tensor, group: Tensor) -> None:
        """Show the bank the training answers."""
        self.bank.centre_on(answer)

    def constrain(self) -> None:
        """Bring the temperature back into its range."""
        self.bank.constrain()

    def readings(self) -> dict[str, float]:
        """The temperature."""
        return {"temperature": float(self.bank.temperature())}


class DialogueTerm(_Contrastive):
    """The prediction finds its answer among the others: InfoNCE (`van den Oord et al. 2018
    <https://arxiv.org/abs/1807.03748>`_). Equal answers are never each other's negatives.

    Args:
        bank: Compares.
        negatives: ``"batch"``: the other answers of the batch; ``"bank"``: all training answers, in training (in
            evaluation the batch, whose answers the bank does not hold), or those drawn from them and the batch's.
        direction: ``"symmetric"``: predictions find answers and answers find predictions (the latter always within
            the batch), half each; ``"forward"``: the former only.

    Raises:
        ValueError: If a name is unknown.
    """

    def __init__(self, bank: MemoryBank, *, negatives: str = "batch", direction: str = "symmetric") -> None:
        super().__init__(bank)
        if negatives not in NEGATIVES:
            raise ValueError(f"negatives must be one of {NEGATIVES}, got {negatives!r}")
        if direction not in DIRECTIONS:
            raise ValueError(f"direction must be one of {DIRECTIONS}, got {direction!r}")
        self.negatives, self.direction = negatives, direction

    def fit(self, answer: Tensor, group: Tensor) -> None:
        """Show the bank the training answers, to keep where they are the negatives."""
        if self.negatives == "bank":
            self.bank.fit(answer, group)
        else:
            super().fit(answer, group)

    def forward(self, predicted: Predicted) -> Tensor:
        """The term."""
        group = predicted.group
        banked = self.training and self.negatives == "bank"
        within = None
        if not banked or self.direction == "symmetric":
            within = self.bank.logits(predicted, predicted.answer)
        if banked and self.bank.numbers is not None:
            own = self.bank.logits(predicted, predicted.answer) if within is None else within
            found = contrast_with_some(own, self.bank.logits(predicted), group=group, numbers=self.bank.numbers)
        elif banked or within is None:
            found = contrast(self.bank.logits(predicted), target=group)
        else:
            found = contrast(within, group=group)
        if self.direction == "forward" or within is None:
            return found
        return (found + contrast(within.T, group=group)) / 2

    def extra_repr(self) -> str:
        return f"negatives={self.negatives!r}, direction={self.direction!r}"


class TurnTerm(_Contrastive):
    """The prediction of a turn is nearer to its own answer than to the answers of the other turns of its dialogue.

    Rows without a second turn do not count; without any the term is 0.

    Args:
        bank: Compares.
    """

    def forward(self, predicted: Predicted) -> Tensor:
        """The term."""
        logits = self.bank.logits(predicted, predicted.answer)
        return contrast_within(logits, group=predicted.group, dialogue=predicted.dialogue)


def _weight(name: str, weight: float) -> float:
    if not 0 <= weight < float("inf"):
        raise ValueError(f"the weight {name} must be finite and not negative, got {weight}")
    return weight
