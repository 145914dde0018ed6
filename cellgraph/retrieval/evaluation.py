"""Evaluation: every system judged on the same held-out pairs, one row each."""

from __future__ import annotations

import io
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from cellgraph.retrieval.bootstrap import Interval, bootstrap_intervals, paired_difference
from cellgraph.retrieval.metrics import (
    best_of_each,
    chance_level,
    cosine,
    distinct_answers,
    first_right,
    ranks,
    recall_at_k,
    reciprocal_ranks,
)
from cellgraph.retrieval.prediction import Prediction, Scores, checked

RECALLS = (1, 5, 10)
#: Where cosines are taken: between surfaces, between embeddings, and between these less their mean in training.
SPACES = ("surface", "teacher", "centred")

Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """The figures of all systems on the same held-out pairs.

    Attributes:
        rows: One for each system, in the order given: ``name``, ``cosine_surface``, ``cosine_teacher``,
            ``cosine_centred``, ``recall_at_1``, ``recall_at_5``, ``recall_at_10``, ``mrr``, ``mrr_low``, ``mrr_high``,
            the six retrieval figures again with the suffix ``_csls``, ``parameters``, ``pairs_train``, ``pairs_test``,
            ``seconds_train`` and ``trials``; ``None`` where a system has no such figure.
        differences: Mean reciprocal rank of ``reference`` less that of each other system, with the paired interval and
            the probability of none: ``name``, ``against``, ``mrr``, ``mrr_low``, ``mrr_high``, ``mrr_p`` and the same
            with ``_csls``.
        pairs_train: Number of training pairs.
        pairs_test: Number of held-out pairs.
        candidates: Number of distinct answers among the held-out pairs.
        groups: Number of groups that the bootstrap draws.
        csls_k: Neighbours of CSLS.
        num_resamples: Resamples of the bootstrap.
        seed: Seed of the bootstrap.
        reciprocal_ranks: By name, ``[num_pairs, 2]``: plain and with CSLS; for comparisons across runs.
    """

    rows: list[Row]
    differences: list[Row]
    pairs_train: int
    pairs_test: int
    candidates: int
    groups: int
    csls_k: int
    num_resamples: int
    seed: int
    reciprocal_ranks: dict[str, Tensor] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, as ``evaluation.json`` holds them."""
        recall, mrr = chance_level(self.candidates)
        return {
            "rows": self.rows,
            "differences": self.differences,
            "pairs_train": self.pairs_train,
            "pairs_test": self.pairs_test,
            "candidates": self.candidates,
            "groups": self.groups,
            "chance": {"recall_at_1": recall, "mrr": mrr},
            "csls_k": self.csls_k,
            "num_resamples": self.num_resamples,
            "seed": self.seed,
        }

    def __str__(self) -> str:
        """The table, as it is printed."""
        # How it looks is a matter of a module that knows this one.
        from cellgraph.retrieval.table import print_evaluation

        console = Console(file=io.StringIO(), width=100)
        with console.capture() as captured:
            print_evaluation(self, console=console)
        return captured.get().rstrip()


def evaluate(
    predictions: Mapping[str, Prediction | Scores],
    answers: Tensor,
    *,
    answers_train: Tensor,
    to_surface: Callable[[Tensor], Tensor],
    pairs_train: int | None = None,
    answer_texts: Sequence[str] | None = None,
    groups: Tensor | None = None,
    reference: str | None = None,
    csls_k: int = 10,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Evaluation:
    """Judge predictions against the true answers of held-out pairs.

    Answers are retrieved by the raw cosine of a system's queries with its keys of them, for most the embeddings in
    teacher space, and once more with :func:`~cellgraph.retrieval.metrics.csls`, among the distinct held-out answers
    (:func:`~cellgraph.retrieval.metrics.distinct_answers`). Where scores of the answers themselves differ among those
    that are one candidate, the highest counts.

    Args:
        predictions: What each system predicts, by its name in the table; their order is that of the rows.
        answers: True answer embeddings of the held-out pairs.
        answers_train: Answer embeddings of the training pairs, for the centre of the centred cosine.
        to_surface: The answer adapter's ``encode``: gives the surface of the true answers, and that of a prediction
            that comes without one.
        pairs_train: Number of training pairs, where ``answers_train`` are of some of them.
        answer_texts: Texts of the held-out answers, to find equal ones.
        groups: Number of the group that each held-out pair is of, for the bootstrap; each is one by default.
        reference: Name of the system whose lead over each other is reported.
        csls_k: Neighbours of CSLS.
        num_resamples: Resamples of the bootstrap.
        seed: Seed of the bootstrap.

    Shapes:
        - **answers:** ``[num_pairs, in_features]``
        - **answers_train:** ``[num_train_pairs, in_features]``

    Raises:
        ValueError: If there are no held-out or training pairs or no predictions, an embedding is not finite or of
            another shape, or the reference is not among the predictions.
    """
    if not predictions:
        raise ValueError("nothing to evaluate: no predictions given")
    if reference is not None and reference not in predictions:
        raise ValueError(f"reference must be one of {list(predictions)}, got {reference!r}")
    answers = checked("held-out answers", answers)
    answers_train = checked("training answers", answers_train, width=answers.size(1))
    with torch.no_grad():
        surfaces = checked("surfaces of the held-out answers", to_surface(answers), rows=len(answers))
    mean = answers_train.double().mean(0).float()
    trained_on = len(answers_train) if pairs_train is None else pairs_train
    candidates, target = distinct_answers(answers, answer_texts)

    rows: list[Row] = []
    columns: list[Tensor] = []
    for name, prediction in predictions.items():
        row: Row = {"name": name}
        if isinstance(prediction, Scores):
            row |= dict.fromkeys(f"cosine_{space}" for space in SPACES)
            scores = checked(f"scores of {name!r}", prediction.scores, rows=len(answers), width=len(answers))
            own = target[:, None] == torch.arange(len(candidates))
            found = {"": first_right(best_of_each(scores, target), own)}
        else:
            embedding = checked(
                f"prediction of {name!r}", prediction.embedding, rows=len(answers), width=answers.size(1)
            )
            with torch.no_grad():
                surface = to_surface(embedding) if prediction.surface is None else prediction.surface
            surface = checked(f"surface of {name!r}", surface, rows=len(answers), width=surfaces.size(1))
            row |= {
                "cosine_surface": float(cosine(surface, surfaces).mean()),
                "cosine_teacher": float(cosine(embedding, answers).mean()),
                "cosine_centred": float(cosine(embedding, answers, mean=mean).mean()),
            }
            both = (("", None), ("_csls", csls_k))
            known = checked(f"keys of {name!r}", prediction.key(answers[candidates]), rows=len(candidates))
            query = checked(f"query of {name!r}", prediction.query, rows=len(answers), width=known.size(1))
            found = {suffix: ranks(query, known, target, csls_k=k) for suffix, k in both}
        for suffix in ("", "_csls"):
            ranked = found.get(suffix)
            hits = {n: None if ranked is None else float(recall_at_k(ranked, n).mean()) for n in RECALLS}
            row |= {f"recall_at_{n}{suffix}": share for n, share in hits.items()}
            row |= dict.fromkeys((f"mrr{suffix}", f"mrr_low{suffix}", f"mrr_high{suffix}"))
            columns.append(reciprocal_ranks(found[""] if ranked is None else ranked))
        row["parameters"] = int(prediction.parameters)
        row["pairs_train"] = trained_on if prediction.pairs_train is None else prediction.pairs_train
        row["pairs_test"] = len(answers)
        row["seconds_train"], row["trials"] = float(prediction.seconds_train), int(prediction.trials)
        rows.append(row)

    values = torch.stack(columns, dim=1)
    options: dict[str, Any] = {"groups": groups, "num_resamples": num_resamples, "seed": seed}
    intervals = bootstrap_intervals(values, **options)
    for row, plain, with_csls in zip(rows, intervals[::2], intervals[1::2], strict=True):
        row |= _mrr(plain)
        row |= {} if row["recall_at_1_csls"] is None else _mrr(with_csls, "_csls")
    by_name = dict(zip(predictions, values.split(2, dim=1), strict=True))
    reranked = {row["name"] for row in rows if row["recall_at_1_csls"] is not None}
    return Evaluation(
        rows=rows,
        differences=[] if reference is None else _differences(by_name, reference, reranked, options),
        pairs_train=trained_on,
        pairs_test=len(answers),
        candidates=len(candidates),
        groups=len(answers) if groups is None else len(groups.unique()),
        csls_k=csls_k,
        num_resamples=num_resamples,
        seed=seed,
        reciprocal_ranks=by_name,
    )


def _mrr(interval: Interval, suffix: str = "") -> Row:
    return {f"mrr{suffix}": interval.mean, f"mrr_low{suffix}": interval.low, f"mrr_high{suffix}": interval.high}


def _differences(
    by_name: Mapping[str, Tensor], reference: str, reranked: Container[str], options: Mapping[str, Any]
) -> list[Row]:
    differences = []
    for name, values in by_name.items():
        if name == reference:
            continue
        row: Row = {"name": reference, "against": name}
        for column, suffix in enumerate(("", "_csls")):
            if column and not (name in reranked and reference in reranked):
                row |= dict.fromkeys(f"mrr{part}{suffix}" for part in ("", "_low", "_high", "_p"))
                continue
            found = paired_difference(by_name[reference][:, column], values[:, column], **options)
            row |= {**_mrr(found, suffix), f"mrr_p{suffix}": found.p}
        differences.append(row)
    return differences
