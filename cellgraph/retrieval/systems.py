"""What the systems of a table answer: closed forms, what was trained, and both with the words."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cellgraph.data import QAPair
from cellgraph.retrieval.blend import WEIGHTS, Blend
from cellgraph.retrieval.embedded import EmbeddedPairs
from cellgraph.retrieval.lexical import BM25
from cellgraph.retrieval.metrics import best_of_each, distinct_answers
from cellgraph.retrieval.prediction import Prediction, Scores, predict, predict_closed_forms
from cellgraph.retrieval.stages import Trained
from cellgraph.teacher import TokenStates


class Embedded(NamedTuple):
    """Pairs as texts and as embeddings."""

    texts: Sequence[QAPair]
    embeddings: EmbeddedPairs

    @property
    def questions(self) -> list[str]:
        """The questions as texts."""
        return [pair.question for pair in self.texts]

    @property
    def answers(self) -> list[str]:
        """The answers as texts."""
        return [pair.answer for pair in self.texts]


def answered(
    networks: Mapping[str, Trained],
    train: EmbeddedPairs,
    question: Tensor | TokenStates,
    dialogues: Sequence[Sequence[int]] | None,
) -> dict[str, Prediction]:
    """What closed forms and networks answer to questions, the latter as turns of dialogues where these are.

    Args:
        networks: What was trained, by name.
        train: The pairs that the closed forms are computed from.
        question: Embeddings of the questions, ``[num_questions, in_features]``, or their token states.
        dialogues: Numbers of the questions that are the turns of each dialogue, if they are.
    """
    pooled, some = question.pooled() if isinstance(question, TokenStates) else question, train.some()
    closed = predict_closed_forms(some.pooled, some.answer, pooled)
    return closed | {name: _predicted(one, question, dialogues) for name, one in networks.items()}


def with_words(network: Trained, found: Prediction, words: Scores, validation: Embedded, test: Embedded) -> Scores:
    """What a network and the words say together, the words' weight being the best on the validation pairs.

    Its trials are the network's and one for each weight.

    Args:
        network: The network.
        found: What it answers to the test questions.
        words: Scores of the words of the test questions, for the answer of each pair.
        validation: The pairs that choose the weight.
        test: The pairs that are judged.
    """
    begin = time.perf_counter()
    candidates, target = distinct_answers(validation.embeddings.answer, validation.answers)
    asked = validation.embeddings.question, validation.embeddings.dialogues
    known = _predicted(network, *asked).cosines(validation.embeddings.answer[candidates])
    blend = Blend.fit(known, best_of_each(BM25(validation.answers).scores(validation.questions), target), target)
    seconds = time.perf_counter() - begin
    candidates, target = distinct_answers(test.embeddings.answer, test.answers)
    scores = blend(found.cosines(test.embeddings.answer[candidates]), best_of_each(words.scores, target))
    return Scores(
        scores[:, target],
        parameters=found.parameters + 1,
        seconds_train=found.seconds_train + seconds,
        trials=found.trials + len(WEIGHTS),
    )


def _predicted(
    trained: Trained, question: Tensor | TokenStates, dialogues: Sequence[Sequence[int]] | None
) -> Prediction:
    """What something trained answers to questions."""
    # Batches of any size, each once, are not worth a compilation.
    with torch.compiler.set_stance("force_eager"):
        found = predict(trained.model, question, dialogues=dialogues, seconds_train=trained.seconds)
    return dataclasses.replace(found, trials=trained.trials)
