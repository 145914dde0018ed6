"""The objective: what a lattice is trained for, as named terms with weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.numbers import plain_numbers
from cellgraph.retrieval.contrast import MAX_SCALE, contrast, contrast_within

NEGATIVES = ("batch", "bank")
DIRECTIONS = ("symmetric", "forward")


class Objective(nn.Module):
    r"""A weighted sum of four terms; a term of weight 0 is not computed.

    **surface**: the predicted surface :math:`s` points at the answer's surface :math:`z` and has its values,

    .. math:: 1 - \cos(s, z) + \mathrm{mse\_weight} \cdot \mathrm{mean} \, (s - z)^2 ,

    reported also in its parts, ``surface_angle`` (:math:`1 - \cos`) and ``surface_mse``.

    **internal**: the states :math:`x` of the cells stay

    - *bounded*: :math:`\mathrm{mean} \max(0, \mathrm{rms}(x_i) - \mathrm{bound})^2` over the cells, the overflow loss
      of self-organising textures (`Niklasson et al. 2021 <https://distill.pub/selforg/2021/textures>`_) on a cell's
      root mean square;
    - *active*: :math:`\mathrm{mean} \max(0, \mathrm{floor} - \sqrt{\mathrm{Var}(x_{ic}) + \epsilon})` over cells and
      channels, the variance over the batch: the variance term of VICReg (`Bardes et al. 2022
      <https://arxiv.org/abs/2105.04906>`_, equation 1);
    - *diverse*: :math:`\frac{1}{C} \sum_{c \ne d} \mathrm{Cov}(x)_{cd}^2` over the channels, VICReg's covariance term
      (equations 3 and 4; the redundancy reduction of `Zbontar et al. 2021 <https://arxiv.org/abs/2103.03230>`_), the
      covariance averaged over the cells, each about its own mean over the batch.

    The last two need two rows and are 0 for one.

    **dialogue**: the prediction finds its answer among the others, InfoNCE (`van den Oord et al. 2018
    <https://arxiv.org/abs/1807.03748>`_) on cosines times a learned scale, at most 100 (`Radford et al. 2021
    <https://arxiv.org/abs/2103.00020>`_). Equal answers are never each other's negatives.

    **turn**: the same within each dialogue: the prediction of a turn is nearer to its own answer than to the other
    turns' answers. Rows without a second turn do not count; without any the term is 0.

    Args:
        surface: Weight of the surface term.
        internal: Weight of the internal term.
        dialogue: Weight of the dialogue term.
        turn: Weight of the turn term.
        mse_weight: Weight of the squared error within the surface term.
        bound: Root mean square from which a cell's state is penalised.
        floor: Standard deviation below which a channel of a cell is penalised.
        bounded: Weight of *bounded* within the internal term.
        active: Weight of *active* within the internal term.
        diverse: Weight of *diverse* within the internal term.
        temperature: The temperature at the start, one over the scale.
        learn_temperature: Whether the temperature is learned.
        negatives: ``"batch"``: the other answers of the batch; ``"bank"``: all answers given to :meth:`fit`, in
            training (in evaluation the batch, whose answers the bank does not hold).
        direction: ``"symmetric"``: predictions find answers and answers find predictions (the latter always within
            the batch), half each; ``"forward"``: the former only.
        centred: Whether cosines are taken after subtracting the mean of the answers given to :meth:`fit`.

    Shapes:
        - **embedding:** ``[rows, teacher_width]``
        - **surface:** ``[rows, surface_width]``
        - **states:** ``[rows, num_nodes, channels]``
        - **output:** the weighted total, and a dictionary of unweighted terms and their parts

    Raises:
        ValueError: If a weight is negative, a number or a name is out of range, or a needed tensor is missing.

    Example:
        >>> objective = Objective(internal=0.0)
        >>> answer = torch.eye(4)
        >>> total, terms = objective(answer, answer, answer=answer, target_surface=answer)
        >>> sorted(terms)
        ['dialogue', 'surface', 'surface_angle', 'surface_mse']
    """

    @plain_numbers
    def __init__(
        self,
        surface: float = 1.0,
        internal: float = 0.0,
        *,
        dialogue: float = 1.0,
        turn: float = 0.0,
        mse_weight: float = 1.0,
        bound: float = 4.0,
        floor: float = 0.1,
        bounded: float = 1.0,
        active: float = 1.0,
        diverse: float = 0.04,
        temperature: float = 0.07,
        learn_temperature: bool = True,
        negatives: str = "batch",
        direction: str = "symmetric",
        centred: bool = False,
    ) -> None:
        super().__init__()
        self.weights = {"surface": surface, "internal": internal, "dialogue": dialogue, "turn": turn}
        self.internal_weights = {"bounded": bounded, "active": active, "diverse": diverse}
        for name, weight in {**self.weights, **self.internal_weights, "mse_weight": mse_weight}.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight {name} must be finite and not negative, got {weight}")
        if not any(self.weights.values()):
            raise ValueError(f"an objective needs a term of positive weight, got {self.weights}")
        if not (bound > 0 and floor >= 0):
            raise ValueError(f"bound must be positive and floor not negative, got {bound} and {floor}")
        if not temperature >= 1 / MAX_SCALE:
            raise ValueError(f"temperature must be at least {1 / MAX_SCALE}, got {temperature}")
        if negatives not in NEGATIVES:
            raise ValueError(f"negatives must be one of {NEGATIVES}, got {negatives!r}")
        if direction not in DIRECTIONS:
            raise ValueError(f"direction must be one of {DIRECTIONS}, got {direction!r}")
        self.mse_weight, self.bound, self.floor = mse_weight, bound, floor
        self.negatives, self.direction, self.centred = negatives, direction, centred
        log_scale = torch.tensor(-math.log(temperature))
        if learn_temperature and (dialogue or turn):
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)
        self.centre: Tensor | None
        self.bank: Tensor | None
        # Both follow from the training answers, which every run has: not in the checkpoint.
        self.register_buffer("centre", None, persistent=False)
        self.register_buffer("bank", None, persistent=False)

    @property
    def needs_states(self) -> bool:
        """Whether the states of the cells are looked at."""
        return bool(self.weights["internal"])

    @torch.no_grad()
    def fit(self, answer: Tensor, group: Tensor | None = None) -> None:
        """Take the mean of the training answers, and the answers themselves where they are the negatives.

        Args:
            answer: All training answers, ``[num_answers, teacher_width]``.
            group: Number of each answer among the distinct ones, ``[num_answers]``, equal for equal answers. It is
                what ``group`` means in the forward pass, so it must be given when the negatives are the bank.
        """
        answer = _full(answer)
        self.centre = answer.mean(0)
        if self.negatives == "bank":
            if group is None:
                raise ValueError("a bank of negatives needs the group of each answer, got none")
            bank = answer.new_zeros(int(group.max()) + 1, answer.size(1))
            bank[group] = answer
            self.bank = self._direction(bank)

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring the temperature back into its range; called after an optimiser step."""
        self.log_scale.clamp_(max=math.log(MAX_SCALE))

    def forward(
        self,
        embedding: Tensor,
        surface: Tensor,
        states: Tensor | None = None,
        *,
        answer: Tensor,
        target_surface: Tensor | None = None,
        group: Tensor | None = None,
        dialogue: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted total and the unweighted terms.

        Args:
            embedding: Predicted answers in the teacher's space.
            surface: Predicted surfaces.
            states: States of the cells; ignored by models without cells, where the internal term is left out.
            answer: True answers in the teacher's space.
            target_surface: Surfaces of the true answers, needed by the surface term.
            group: Equal for equal answers, ``[rows]``; found by comparison when absent.
            dialogue: Which dialogue of the batch each row belongs to, ``[rows]``, needed by the turn term; without it
                every row is a dialogue of its own.
        """
        terms: dict[str, Tensor] = {}
        # Softmax over thousands of answers and variances over a batch are not for half precision.
        with torch.autocast(embedding.device.type, enabled=False):
            embedding = _full(embedding)
            if self.weights["surface"]:
                if target_surface is None:
                    raise ValueError("the surface term needs target_surface, got none")
                terms |= self._surface(_full(surface).flatten(1), target_surface.to(embedding.dtype).flatten(1))
            if self.weights["internal"] and states is not None:
                terms |= self._internal(_full(states))
            if self.weights["dialogue"] or self.weights["turn"]:
                if group is None:
                    group = torch.unique(answer, dim=0, return_inverse=True)[1]
                terms |= self._contrastive(embedding, answer.to(embedding.dtype), group, dialogue)
            total = embedding.new_zeros(())
            for name, weight in self.weights.items():
                if name in terms:
                    total = total + weight * terms[name]
        return total, terms

    def temperature(self) -> Tensor:
        """The temperature now."""
        return torch.exp(-self.log_scale.detach())

    def extra_repr(self) -> str:
        weights = ", ".join(f"{name}={weight}" for name, weight in self.weights.items())
        return f"{weights}, negatives={self.negatives!r}, direction={self.direction!r}, centred={self.centred}"

    def _surface(self, surface: Tensor, target: Tensor) -> dict[str, Tensor]:
        angle = 1 - F.cosine_similarity(surface, target, dim=-1).mean()
        mse = F.mse_loss(surface, target)
        return {"surface": angle + self.mse_weight * mse, "surface_angle": angle, "surface_mse": mse}

    def _internal(self, states: Tensor) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}
        weights = self.internal_weights
        if weights["bounded"]:
            # The small number keeps the root's gradient finite at a state of zeros.
            rms = states.square().mean(-1).add(1e-12).sqrt()
            parts["bounded"] = F.relu(rms - self.bound).square().mean()
        if (weights["active"] or weights["diverse"]) and states.size(0) > 1:
            deviation = states - states.mean(0)
            if weights["active"]:
                std = (deviation.square().sum(0) / (states.size(0) - 1) + 1e-4).sqrt()
                parts["active"] = F.relu(self.floor - std).mean()
            if weights["diverse"]:
                flat = deviation.flatten(0, 1)
                covariance = flat.T @ flat / ((states.size(0) - 1) * states.size(1))
                squares = covariance.square()
                parts["diverse"] = (squares.sum() - squares.diagonal().sum()) / states.size(2)
        total = sum((weights[name] * part for name, part in parts.items()), states.new_zeros(()))
        return {"internal": total, **{f"internal_{name}": part for name, part in parts.items()}}

    def _contrastive(
        self, embedding: Tensor, answer: Tensor, group: Tensor, dialogue: Tensor | None
    ) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        scale = self.log_scale.to(embedding.dtype).clamp(max=math.log(MAX_SCALE)).exp()
        prediction, target = self._direction(embedding), self._direction(answer)
        logits = scale * prediction @ target.T
        if self.weights["dialogue"]:
            if self.training and self.negatives == "bank":
                if self.bank is None:
                    raise ValueError("negatives='bank' needs the training answers: call fit first")
                terms["dialogue"] = contrast(scale * prediction @ self.bank.T.to(prediction.dtype), target=group)
            else:
                terms["dialogue"] = contrast(logits, group=group)
            if self.direction == "symmetric":
                terms["dialogue"] = (terms["dialogue"] + contrast(logits.T, group=group)) / 2
        if self.weights["turn"]:
            rows = torch.arange(len(group), device=group.device) if dialogue is None else dialogue
            terms["turn"] = contrast_within(logits, group=group, dialogue=rows)
        return terms

    def _direction(self, embedding: Tensor) -> Tensor:
        if self.centred:
            if self.centre is None:
                raise ValueError("centred=True needs the mean of the training answers: call fit first")
            embedding = embedding - self.centre.to(embedding.dtype)
        return F.normalize(embedding, dim=-1)


def _full(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
