"""What systems say to held-out questions: an embedding for each, or scores of the answers alone."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph.retrieval.asking import ask
from cellgraph.retrieval.baseline import Baseline
from cellgraph.retrieval.baselines import closed_forms
from cellgraph.retrieval.networks import Network
from cellgraph.teacher import TokenStates


@dataclass(frozen=True)
class Prediction:
    """What a system answers to the held-out questions.

    Attributes:
        embedding: Predicted answer embeddings, ``[num_pairs, in_features]``.
        query: What finds the answers, ``[num_pairs, in_features]``; the embeddings by default.
        key: Gives what queries are compared with to find answers; the answers themselves by default.
        surface: Predicted surfaces, ``[num_pairs, surface_width]``, where the system has one.
        parameters: Numbers fitted or trained.
        seconds_train: Wall-clock time of doing so.
        trials: Settings that were tried, of which this is the best by validation, or of a closed form by
            cross-validation; 0 where there is nothing to try.
        pairs_train: Training pairs that it was fitted to, where these may not be all.
    """

    embedding: Tensor
    surface: Tensor | None = None
    query: Tensor = None  # type: ignore[assignment]
    key: Callable[[Tensor], Tensor] = field(default=lambda answer: answer, repr=False)
    parameters: int = 0
    seconds_train: float = 0.0
    trials: int = 0
    pairs_train: int | None = None

    def __post_init__(self) -> None:
        if self.query is None:
            object.__setattr__(self, "query", self.embedding)

    def cosines(self, answers: Tensor) -> Tensor:
        """Cosine of each query with the key of each of some answers, ``[num_pairs, num_answers]``."""
        return F.normalize(self.query, dim=1) @ F.normalize(self.key(answers).float(), dim=1).T


@dataclass(frozen=True)
class Scores:
    """What a system says that has no embeddings: it has no cosines either, and is not re-ranked.

    Attributes:
        scores: How well the answer of each held-out pair fits each question, ``[num_pairs, num_pairs]``.
        parameters: As of a :class:`Prediction`, like what follows.
        seconds_train: Likewise.
        trials: Likewise.
        pairs_train: Likewise.
    """

    scores: Tensor
    parameters: int = 0
    seconds_train: float = 0.0
    trials: int = 0
    pairs_train: int | None = None


def predict_closed_forms(
    question_train: Tensor,
    answer_train: Tensor,
    question_test: Tensor,
    *,
    baselines: Mapping[str, Baseline] | None = None,
) -> dict[str, Prediction]:
    """Fit the closed forms on training pairs and let them answer the held-out questions.

    Args:
        question_train: Question embeddings of the training pairs.
        answer_train: Their answer embeddings.
        question_test: Held-out question embeddings.
        baselines: By name; :func:`~cellgraph.retrieval.baselines.closed_forms` by default.

    Shapes:
        - **question_train**, **answer_train:** ``[num_train_pairs, width]``
        - **question_test:** ``[num_pairs, width]``
    """
    predictions = {}
    for name, baseline in (closed_forms() if baselines is None else baselines).items():
        start = time.perf_counter()
        baseline.fit(question_train, answer_train)
        seconds = time.perf_counter() - start
        embedding = baseline.predict(question_test)
        predictions[name] = Prediction(
            embedding,
            parameters=baseline.num_parameters,
            seconds_train=seconds,
            trials=baseline.trials,
            pairs_train=len(question_train),
        )
    return predictions


@torch.no_grad()
def predict(
    model: Network,
    question: Tensor | TokenStates,
    *,
    batch_size: int = 64,
    dialogues: Sequence[Sequence[int]] | None = None,
    seconds_train: float = 0.0,
    num_steps: int | None = None,
) -> Prediction:
    """Let a trained model answer the held-out questions.

    Args:
        model: A :class:`~cellgraph.CellGraph` or a control; its mode is left as it was.
        question: Held-out question embeddings; moved to the model's device.
        batch_size: Questions, or dialogues, at a time.
        dialogues: Numbers of the questions that are the turns of each dialogue: a model that remembers is asked them
            one after another. Without these each is a first turn.
        seconds_train: Time its training took.
        num_steps: Steps of the rollout, if not the model's own.

    Shapes:
        - **question:** ``[num_pairs, in_features]``, or token states, ``[num_pairs, length, in_features]``

    Raises:
        ValueError: If the dialogues do not name each question exactly once, the batch size is no positive integer, or a
            question is not finite.
    """
    if isinstance(question, Tensor) and question.dim() != 3:
        question = checked("held-out questions", question)
    parameter = next(model.parameters())
    training = model.training
    model.eval()
    places, outputs = [], []
    try:
        for rows, output in ask(
            model,
            lambda rows: question[rows].to(parameter.device, parameter.dtype),
            len(question),
            dialogues=dialogues,
            batch_size=batch_size,
            num_steps=num_steps,
        ):
            places.append(rows)
            outputs.append(output)
    finally:
        model.train(training)
    back = torch.cat(places).argsort()
    return Prediction(
        embedding=torch.cat([output.embedding.float().cpu() for output in outputs])[back],
        surface=torch.cat([output.surface.float().cpu() for output in outputs])[back],
        query=torch.cat([output.query.float().cpu() for output in outputs])[back],
        key=functools.partial(keys, model),
        parameters=sum(model.parameter_counts().values()),
        seconds_train=seconds_train,
        trials=1,
    )


@torch.no_grad()
def keys(model: Network, answer: Tensor) -> Tensor:
    """A model's keys of answers, wherever these are: ``[num_answers, width]``, on their device."""
    return model.key(answer.to(next(model.parameters()).device)).float().to(answer.device)


def checked(name: str, x: Tensor, *, rows: int | None = None, width: int | None = None) -> Tensor:
    """Rows of finite numbers, float32 on the CPU, or an error that names them."""
    if x.dim() != 2 or not len(x):
        raise ValueError(f"{name}: expected [num_pairs >= 1, width], got {list(x.shape)}")
    if rows is not None and len(x) != rows:
        raise ValueError(f"{name}: expected {rows} rows, one for each held-out pair, got {len(x)}")
    if width is not None and x.size(1) != width:
        raise ValueError(f"{name}: expected width {width}, got {x.size(1)}")
    bad = int((~x.isfinite().all(dim=1)).sum())
    if bad:
        raise ValueError(f"{name}: {bad} of {len(x)} embeddings are not finite")
    return x.detach().float().cpu()
