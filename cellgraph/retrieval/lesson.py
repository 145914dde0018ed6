"""The lesson of question answering: turns of dialogues, walked through with memory and noise."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph import processes
from cellgraph.precision import alike
from cellgraph.retrieval.embedded import Batch, EmbeddedPairs
from cellgraph.retrieval.loader import DialogueLoader
from cellgraph.retrieval.metrics import first_right
from cellgraph.retrieval.objectives import Objective, Predicted
from cellgraph.retrieval.settings import TrainSettings
from cellgraph.training import Learned, Lesson
from cellgraph.training.meter import Meter


class PairLesson(Lesson):
    """Trains a model from questions to answers: :class:`~cellgraph.CellGraph`, or any module called the same way.

    A batch is some turns of some dialogues. The turns are walked through in order, with the memory handed from one to
    the next; the gradient runs through the turns of a batch and, the memory being detached, no further: truncated
    back-propagation through time. A batch that continues the one before starts from its memory.

    Models are called as ``model(question, memory, generator=...)``; what they return has ``embedding``, ``surface``,
    ``states``, ``memory`` and ``num_steps``. ``target_surface(answer)`` gives the surface term its target.

    Args:
        objective: What to train for; a copy is fitted to the training answers.
        pairs: Training pairs.
        validation: Pairs that choose the best weights.
        settings: How to train.
    """

    objective: Objective

    def __init__(
        self, objective: Objective, pairs: EmbeddedPairs, validation: EmbeddedPairs | None, settings: TrainSettings
    ) -> None:
        self.objective = copy.deepcopy(objective)
        self.objective.fit(pairs.answer, pairs.group)
        self.pairs, self.settings = pairs, settings
        self.checked: DialogueLoader | None = None
        if validation is not None:
            self.checked = DialogueLoader(validation, settings.val_batch_size or settings.batch_size)
        self.validates = validation is not None
        self.memory: Tensor | None = None

    def batches(self) -> DialogueLoader:
        """The stream of all updates."""
        return DialogueLoader(
            self.pairs,
            self.settings.batch_size,
            seed=self.settings.seed,
            drop_last=True,
            window=self.settings.window,
            num_batches=self.settings.max_steps * self.settings.accumulate,
            shared=True,
        )

    def learn(self, model: nn.Module, batch: Batch, *, done: float, generator: torch.Generator) -> Learned:
        """The loss of a batch; the memory that it ends with is kept for one that continues it."""
        # One out of a checkpoint is on the CPU.
        memory = None if batch.starts or self.memory is None else self.memory.to(batch.question.device)
        noise = self.settings.noise
        with processes.sharing(batch.num_dialogues):
            asked = batch.asking(with_noise(batch.question, noise, generator)) if noise else batch
            predicted, self.memory = answers(model, asked, memory, generator, needs_states=self.objective.needs_states)
            total, terms = self.objective(predicted)
            rows = len(predicted.group)
        detached = {name: term.detach() for name, term in terms.items()}
        return Learned(total, detached, batch, rows, predicted.num_steps)

    def validate(self, model: nn.Module) -> dict[str, float]:
        """The terms, the cosine, and the retrieval among the distinct answers of the validation set."""
        assert self.checked is not None
        device = next(model.parameters()).device
        meter, parts = Meter(), []
        for batch in self.checked:
            predicted, _ = answers(model, batch.to(device), None, None, needs_states=self.objective.needs_states)
            total, terms = self.objective(predicted)
            meter.add({"loss": total, **terms}, rows=len(batch))
            keys = predicted.key(predicted.answer)
            parts.append(
                (*alike(predicted.embedding, predicted.answer), *alike(predicted.query, keys), predicted.group)
            )
        return {**meter.means(), **_figures(*(torch.cat(part) for part in zip(*parts, strict=True)))}

    def constrain(self) -> None:
        """Bring the temperature back into its range."""
        self.objective.constrain()

    def readings(self) -> dict[str, float]:
        """The temperature, where there is one."""
        return self.objective.readings()

    def state_dict(self) -> dict[str, Any]:
        """The memory, of all the processes' dialogues."""
        parts = processes.all_have(None if self.memory is None else self.memory.cpu())
        return {"memory": self.memory if len(parts) == 1 or parts[0] is None else torch.cat(parts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back."""
        memory = state["memory"]
        self.memory = None if memory is None else memory[processes.share(len(memory))]

    def upgrade(self, weights: dict[str, Tensor], names: Sequence[str]) -> None:
        """The temperature was the objective's own before its terms were a list."""
        scale = weights.pop("objective.log_scale", None)
        if scale is not None:
            weights |= {name: scale for name in names if name.startswith("objective.") and name.endswith("log_scale")}


def with_noise(question: Tensor, norm: float, generator: torch.Generator) -> Tensor:
    """Questions with Gaussian noise (Bishop 1995, "Training with noise is equivalent to Tikhonov regularization").

    Args:
        question: Embeddings or token states, ``[..., in_features]``.
        norm: The noise's expected norm, a share of the vector's own: what is not there, a token of zeros, stays so.
        generator: Source of the noise.
    """
    draws = processes.drawn(torch.randn, question.shape, like=question, generator=generator)
    return question + norm * question.size(-1) ** -0.5 * question.norm(dim=-1, keepdim=True) * draws


def answers(
    model: nn.Module,
    batch: Batch,
    memory: Tensor | None,
    generator: torch.Generator | None,
    *,
    needs_states: bool = False,
) -> tuple[Predicted, Tensor | None]:
    """What a model answers to the turns of a batch, and the memory that it ends with, detached."""
    outputs: list[Any] = []
    asked = {"states": True} if needs_states else {}
    for turn in range(batch.question.size(1)):
        outputs.append(model(batch.question[:, turn], memory, generator=generator, **asked))
        memory = outputs[-1].memory
    return Predicted(model, batch, outputs), None if memory is None else memory.detach()


def _figures(prediction: Tensor, answer: Tensor, query: Tensor, key: Tensor, group: Tensor) -> dict[str, float]:
    """The cosine, and the retrieval among the distinct answers."""
    distinct, place = group.unique(return_inverse=True)
    first = torch.full_like(distinct, len(group)).scatter_reduce_(0, place, torch.arange(len(group)).to(place), "amin")
    # Near answers differ by less than half precision can tell.
    with torch.autocast(prediction.device.type, enabled=False):
        unit = F.normalize(key[first], dim=-1).T
        ranks = torch.cat(
            [
                first_right(F.normalize(rows, dim=-1) @ unit, own[:, None] == distinct)
                for rows, own in zip(query.split(1024), group.split(1024), strict=True)
            ]
        )
        return {
            "cosine": float(F.cosine_similarity(prediction, answer).mean()),
            "recall_at_1": float((ranks == 1).float().mean()),
            "mrr": float((1 / ranks).mean()),
        }
