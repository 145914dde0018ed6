"""The objective: what a network is trained for, as a list of named terms with weights."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cellgraph import processes
from cellgraph.numbers import number, plain_numbers
from cellgraph.precision import at_least_float32
from cellgraph.retrieval.embedded import Batch
from cellgraph.retrieval.memory_bank import BANK_ANSWERS, MemoryBank
from cellgraph.retrieval.terms import DialogueTerm, InternalTerm, SurfaceTerm, TurnTerm

#: What a term makes of a prediction: a number, and perhaps the parts that it is made of.
Term = Callable[["Predicted"], "Tensor | tuple[Tensor, dict[str, Tensor]]"]

#: Figures of the log that are no term's: one of their name would take their place.
FIGURES = (
    "loss", "num_steps", "grad_norm", "lr", "samples_per_second", "temperature", "cosine", "mrr", "recall_at_1",
)  # fmt: skip


class Predicted:
    """What a model predicts for the turns of a batch, beside what is true; each made when a term looks at it.

    Where several processes share a batch, the rows are those of all of them, so that every term sees the whole batch.

    Args:
        model: The model; it gives the surface of the true answers.
        batch: The turns.
        outputs: What the model returned for each of them.

    Attributes:
        num_steps: Steps of a rollout, in the mean.

    Shapes:
        - **embedding**, **query**, **answer:** ``[rows, in_features]``
        - **surface**, **target_surface:** ``[rows, surface_width]``
        - **states:** ``[rows, num_nodes, channels]``; ``None`` for models without cells
        - **group:** ``[rows]``, equal for equal answers
        - **dialogue:** ``[rows]``, which dialogue of the batch each row belongs to
    """

    def __init__(self, model: nn.Module, batch: Batch, outputs: Sequence[Any]) -> None:
        self._model, self._batch, self._outputs = model, batch, outputs
        self.num_steps = sum(output.num_steps for output in outputs) / len(outputs)
        self._autocast = torch.is_autocast_enabled(batch.question.device.type)

    @functools.cached_property
    def embedding(self) -> Tensor:
        """Predicted answers in the teacher's space."""
        return self._rows([output.embedding for output in self._outputs])

    @functools.cached_property
    def query(self) -> Tensor:
        """What finds the answers, see :meth:`key`; the embedding where a model gives nothing else."""
        return self._rows([getattr(output, "query", output.embedding) for output in self._outputs])

    def key(self, answer: Tensor) -> Tensor:
        """What queries are compared with to find answers."""
        key = getattr(self._model, "key", None)
        return answer if key is None else key(answer)

    @functools.cached_property
    def surface(self) -> Tensor:
        """Predicted surfaces."""
        return self._rows([output.surface for output in self._outputs])

    @functools.cached_property
    def states(self) -> Tensor | None:
        """States of the cells."""
        return None if self._outputs[0].states is None else self._rows([output.states for output in self._outputs])

    @functools.cached_property
    def answer(self) -> Tensor:
        """True answers in the teacher's space."""
        return self._rows(list(self._batch.answer.unbind(1)))

    @functools.cached_property
    def target_surface(self) -> Tensor:
        """Surfaces of the true answers."""
        # Terms are computed in full precision; the model's own part is not one of theirs.
        with torch.autocast(self.answer.device.type, enabled=self._autocast):
            return self._model.target_surface(self.answer)  # type: ignore[operator]

    @functools.cached_property
    def group(self) -> Tensor:
        """Number of each answer among the distinct ones."""
        return self._rows(list(self._batch.group.unbind(1)))

    @functools.cached_property
    def dialogue(self) -> Tensor:
        """Number of each row's dialogue."""
        numbers = self._batch.first + torch.arange(self._batch.question.size(0), device=self._batch.question.device)
        return self._rows([numbers] * self._batch.question.size(1))

    def _rows(self, turns: list[Tensor]) -> Tensor:
        """``[dialogues, ...]`` a turn to ``[rows, ...]``, without the padding; of all processes that share a batch."""
        rows = turns[0] if self._batch.mask is None else torch.stack(turns, dim=1)[self._batch.mask]
        return processes.gathered(rows)


class Objective(nn.Module):
    """A weighted sum of terms; a term of weight 0 is not computed.

    Args:
        terms: Name, function or module, and weight of each. A term is called with a :class:`Predicted` and returns its
            value, or that and the parts that it is made of, by name, which are logged as ``<term>_<part>``. A module
            may have ``fit(answer, group)``, which is given all the training answers; ``constrain()``, called after each
            update; and ``readings()``, for the log. Its parameters are trained. One that looks at the states of the
            cells has a true attribute ``needs_states``: only then are all of them computed.

    Raises:
        ValueError: If a weight is negative or none is positive, or a name is there twice, is a figure of the log, or
            cannot be a part's of a module; when called, if a part is logged by the name of another figure.

    Example:
        >>> def length(predicted):
        ...     return predicted.embedding.square().sum(1).mean()
        >>> Objective([("length", length, 0.1)]).extra_repr()
        'length=0.1'
    """

    def __init__(self, terms: Sequence[tuple[str, Term, float]]) -> None:
        super().__init__()
        self.weights: dict[str, float] = {}
        self.functions: dict[str, Term] = {}
        for name, function, given in terms:
            _check_name(name)
            weight = number(f"the weight {name}", given)
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight {name} must be finite and not negative, got {weight}")
            if name in self.weights:
                raise ValueError(f"terms must have names of their own, got {name!r} twice")
            self.weights[name] = weight
            if weight:
                self.functions[name] = function
        if not self.functions:
            raise ValueError(f"an objective needs a term of positive weight, got {self.weights}")
        # Theirs are trained and saved; functions have nothing to be.
        self.terms = nn.ModuleDict({n: term for n, term in self.functions.items() if isinstance(term, nn.Module)})

    @property
    def needs_states(self) -> bool:
        """Whether a term looks at the states of all the cells, and says so by an attribute of this name."""
        return any(getattr(function, "needs_states", False) for function in self.functions.values())

    def with_temperature(self, temperature: float) -> Objective:
        """A copy whose comparisons start at another temperature.

        Raises:
            ValueError: If it is too low.
        """
        found = copy.deepcopy(self)
        for part in found.modules():
            if isinstance(part, MemoryBank):
                part.start_at(temperature)
        return found

    def fit(self, answer: Tensor, group: Tensor) -> None:
        """Show the terms all training answers, ``[num_answers, in_features]``, and the number of each among the
        distinct ones, ``[num_answers]``."""
        for term in self.terms.values():
            getattr(term, "fit", lambda answer, group: None)(answer, group)

    def constrain(self) -> None:
        """Bring the parameters back into their range; called after an optimiser step."""
        for term in self.terms.values():
            getattr(term, "constrain", lambda: None)()

    def readings(self) -> dict[str, float]:
        """What the terms want logged."""
        return {key: x for term in self.terms.values() for key, x in getattr(term, "readings", dict)().items()}

    def forward(self, predicted: Predicted) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted total, and the unweighted terms and their parts."""
        terms: dict[str, Tensor] = {}
        # Softmax over thousands of answers and variances over a batch are not for half precision.
        with torch.autocast(predicted.embedding.device.type, enabled=False):
            total = at_least_float32(predicted.embedding).new_zeros(())
            for name, function in self.functions.items():
                value = function(predicted)
                terms[name], parts = value if isinstance(value, tuple) else (value, {})
                told = {f"{name}_{part}": x for part, x in parts.items()}
                if taken := told.keys() & {*FIGURES, *self.functions, *terms}:
                    raise ValueError(f"a part of {name!r} cannot be {min(taken)!r}: the log has another of that name")
                terms |= told
                total = total + self.weights[name] * terms[name]
        return total, terms

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={weight}" for name, weight in self.weights.items())


def _check_name(name: Any) -> None:
    if name in FIGURES:
        raise ValueError(f"a term cannot be named {name!r}: the log has a figure of that name")
    if not isinstance(name, str) or not name or "." in name or hasattr(nn.ModuleDict(), name):
        raise ValueError(
            f"a term's name must be text without a dot and no attribute of a torch.nn.ModuleDict, got {name!r}"
        )


@plain_numbers
def standard_objective(
    surface: float = 0.1,
    internal: float = 0.0,
    *,
    dialogue: float = 1.0,
    turn: float = 0.0,
    mse_weight: float = 1.0,
    bound: float = 4.0,
    floor: float = 0.1,
    overflow: float = 1.0,
    variance: float = 1.0,
    covariance: float = 0.04,
    temperature: float = 0.07,
    learn_temperature: bool = True,
    negatives: str = "bank",
    direction: str = "forward",
    centred: bool = True,
    bank_answers: int = BANK_ANSWERS,
    terms: Sequence[tuple[str, Term, float]] = (),
) -> Objective:
    """The four terms of this library, and others beside them.

    Args:
        surface: Weight of the :class:`~cellgraph.retrieval.terms.SurfaceTerm`.
        internal: Weight of the :class:`~cellgraph.retrieval.terms.InternalTerm`.
        dialogue: Weight of the :class:`~cellgraph.retrieval.terms.DialogueTerm`.
        turn: Weight of the :class:`~cellgraph.retrieval.terms.TurnTerm`.
        mse_weight: Weight of the squared error within the surface term.
        bound, floor, overflow, variance, covariance: Of the internal term.
        temperature, learn_temperature, centred: Of the :class:`~cellgraph.retrieval.memory_bank.MemoryBank` of the
            last two.
        negatives, direction: Of the dialogue term.
        bank_answers: Most answers that its bank of negatives holds.
        terms: Terms of one's own, see :class:`Objective`.

    Raises:
        ValueError: If a number or a name is out of range, or no weight is positive.

    Example:
        >>> standard_objective(internal=0.1, turn=0.5).extra_repr()
        'surface=0.1, internal=0.1, dialogue=1.0, turn=0.5'
    """
    bank = MemoryBank(temperature=temperature, learn_temperature=learn_temperature, centred=centred, most=bank_answers)
    return Objective(
        [
            ("surface", SurfaceTerm(mse_weight), surface),
            (
                "internal",
                InternalTerm(bound=bound, floor=floor, overflow=overflow, variance=variance, covariance=covariance),
                internal,
            ),
            ("dialogue", DialogueTerm(bank, negatives=negatives, direction=direction), dialogue),
            ("turn", TurnTerm(bank), turn),
            *terms,
        ]
    )
