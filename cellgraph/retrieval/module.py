"""The Lightning module: a model and its objective, update by update."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellgraph.numbers import plain_numbers
from cellgraph.retrieval.embedded import Batch
from cellgraph.retrieval.objectives import Objective
from cellgraph.retrieval.ranking import reciprocal_ranks
from cellgraph.training.meter import Meter
from cellgraph.training.update import UpdateModule


class LatticeModule(UpdateModule):
    """Trains a model from questions to answers: :class:`~cellgraph.CellGraph`, or any module called the same way.

    A batch is some turns of some dialogues. The turns are walked through in order, with the memory handed from one to
    the next; the gradient runs through the turns of a batch and, the memory being detached, no further: truncated
    back-propagation through time. A batch that continues the one before starts from its memory.

    Args:
        model: Called as ``model(question, memory, generator=...)``; what it returns has ``embedding``, ``surface``,
            ``states``, ``memory`` and ``num_steps``. ``target_surface(answer)`` gives the surface term its target.
        objective: What to train for.
        noise: Expected norm of the Gaussian noise added to a question embedding in training (Bishop 1995, "Training
            with noise is equivalent to Tikhonov regularization").
        options: The rest as for :class:`~cellgraph.training.update.UpdateModule`.

    Raises:
        ValueError: If a number is out of range.
    """

    @plain_numbers
    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        *,
        noise: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        if noise < 0:
            raise ValueError(f"noise must not be negative, got {noise}")
        self.objective = objective
        self.settings["noise"] = noise
        self.save_hyperparameters(self.settings, logger=False)
        self.val_meter = Meter()
        self._memory: Tensor | None = None
        self._batch: Batch | None = None
        self._retrieved: list[tuple[Tensor, Tensor, Tensor]] = []

    def readings(self, step: int) -> dict[str, float]:
        """The learning rate and the temperature."""
        return {**super().readings(step), "temperature": float(self.objective.temperature())}

    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The model's parameters and the objective's."""
        yield from self.model.named_parameters()
        yield from self.objective.named_parameters()

    def compile_step(self) -> None:
        """Call the model's ``compile_step``; a model without cells has nothing to compile."""
        getattr(self.model, "compile_step", lambda: None)()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch.

        Raises:
            NonFiniteError: If it is not finite.
        """
        total, terms, memory, num_steps = self._evaluate(batch, None if batch.starts else self._memory)
        self._memory, self._batch = memory, batch
        self._check_finite(total, terms)
        self.train_meter.add({"loss": total.detach(), **terms}, rows=len(batch))
        self.train_meter.add({"num_steps": torch.tensor(float(num_steps))})
        return total

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One update; the temperature is brought back into its range after it."""
        super().optimizer_step(*args, **kwargs)
        self.objective.constrain()

    def on_validation_epoch_start(self) -> None:
        """Forget the validation before."""
        self.val_meter, self._retrieved = Meter(), []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Note the terms and the predictions of a batch."""
        total, terms, *_ = self._evaluate(batch, None, keep=True)
        self.val_meter.add({"loss": total, **terms}, rows=len(batch))

    def on_validation_epoch_end(self) -> None:
        """Sum up: the terms, the cosine, and the retrieval among all the answers of the validation set."""
        prediction, answer, group = (torch.cat(part) for part in zip(*self._retrieved, strict=True))
        self._retrieved = []
        ranks = reciprocal_ranks(prediction, answer, group)
        metrics = self.val_meter.means()
        metrics["cosine"] = float(F.cosine_similarity(prediction, answer).mean())
        metrics["recall_at_1"] = float((ranks == 1).float().mean())
        metrics["mrr"] = float(ranks.mean())
        self.validation = {f"val/{name}": value for name, value in metrics.items()}
        self.log_dict(self.validation, logger=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the memory too."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["update_state"]["memory"] = self._memory

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        super().on_load_checkpoint(checkpoint)
        memory = checkpoint["update_state"]["memory"]
        self._memory = None if memory is None else memory.to(self.device)

    def _with_noise(self, batch: Batch) -> Batch:
        question = batch.question
        draws = torch.randn(question.shape, generator=self.generator, device=question.device, dtype=question.dtype)
        return batch.asking(question + self.settings["noise"] * question.size(-1) ** -0.5 * draws)

    def _evaluate(
        self, batch: Batch, memory: Tensor | None, *, keep: bool = False
    ) -> tuple[Tensor, dict[str, Tensor], Tensor | None, float]:
        if self.training and self.settings["noise"]:
            batch = self._with_noise(batch)
        asked = {"states": True} if self.objective.needs_states else {}
        outputs = []
        for turn in range(batch.question.size(1)):
            generator = self.generator if self.training else None
            output = self.model(batch.question[:, turn], memory, generator=generator, **asked)
            memory = output.memory
            outputs.append(output)
        embedding = _rows([output.embedding for output in outputs], batch.mask)
        surface = _rows([output.surface for output in outputs], batch.mask)
        with_states = self.objective.needs_states and outputs[0].states is not None
        states = _rows([output.states for output in outputs], batch.mask) if with_states else None
        answer = _rows(list(batch.answer.unbind(1)), batch.mask)
        group = _rows(list(batch.group.unbind(1)), batch.mask)
        dialogue = None
        if batch.mask is not None:
            numbers = torch.arange(batch.mask.size(0), device=batch.mask.device)
            dialogue = numbers[:, None].expand_as(batch.mask)[batch.mask]
        target = self.model.target_surface(answer) if self.objective.weights["surface"] else None  # type: ignore[operator]
        total, terms = self.objective(
            embedding, surface, states, answer=answer, target_surface=target, group=group, dialogue=dialogue
        )
        if keep:
            self._retrieved.append((embedding.detach().float(), answer.float(), group))
        num_steps = sum(output.num_steps for output in outputs) / len(outputs)
        detached = {name: term.detach() for name, term in terms.items()}
        return total, detached, None if memory is None else memory.detach(), num_steps


def _rows(turns: list[Tensor], mask: Tensor | None) -> Tensor:
    """``[dialogues, ...]`` a turn to ``[rows, ...]``, without the padding."""
    return turns[0] if mask is None else torch.stack(turns, dim=1)[mask]
