"""Relevant answers: the true one, and those that the teacher cannot tell from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cellgraph.answering.bank import AnswerBank
from cellgraph.data import QAPair, group_numbers
from cellgraph.retrieval.metrics import TIE

#: Share of the training answers that may have an equivalent one by accident.
ACCIDENTS = 0.01


def equivalence_threshold(pairs: Sequence[QAPair], answers: Tensor, *, accidents: float = ACCIDENTS) -> float:
    """The cosine from which on the teacher's embeddings call two answers equivalent.

    Training answers whose pairs share neither question, answer, topic nor dialogue
    (:func:`~cellgraph.data.group_pairs`) are about different things. For each answer the nearest such stranger is
    looked up; the threshold is the cosine that only the share ``accidents`` of the answers exceed. So an answer that
    is counted as equivalent is nearer to the true one than all strangers are to 99 of 100 answers.

    Args:
        pairs: The training pairs.
        answers: Their answer embeddings.
        accidents: Share of the answers with a stranger above the threshold.

    Shapes:
        - **answers:** ``[num_pairs, width]``

    Returns:
        The threshold; 1 where all pairs are of one group, so that only equal embeddings are equivalent.

    Raises:
        ValueError: If there is not one embedding for each pair.
    """
    if len(pairs) != len(answers) or not len(pairs):
        raise ValueError(f"expected one embedding for each of {len(pairs)} pairs, at least one, got {len(answers)}")
    group = torch.from_numpy(group_numbers(pairs))
    unit = F.normalize(answers.float(), dim=1)
    nearest = []
    for rows in torch.arange(len(unit)).split(1024):
        own = group[rows][:, None] == group
        nearest.append((unit[rows] @ unit.T).masked_fill(own, -1.0).amax(1))
    strangers = torch.cat(nearest)
    strangers = strangers[strangers > -1.0].double()
    return float(strangers.quantile(1 - accidents)) if len(strangers) else 1.0


def relevant(bank: AnswerBank, answers: Tensor, target: Tensor, *, threshold: float) -> Tensor:
    """Which answers of the bank would be right: the true one and those at or above the threshold.

    Args:
        bank: The bank.
        answers: Embeddings of the true answers.
        target: Position of each in the bank.
        threshold: From :func:`equivalence_threshold`.

    Shapes:
        - **answers:** ``[num_questions, width]``
        - **target:** ``[num_questions]``
        - **output:** ``[num_questions, num_answers]``, true or false
    """
    right = bank.scores(answers) >= threshold - TIE
    return right.scatter(1, target[:, None], True)
