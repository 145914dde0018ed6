"""Questions by category: the share of relevant answers, system by system, and what the confidence is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cellgraph.answering.bank import AnswerBank
from cellgraph.answering.categories import RULES, categorise, nearest_cosine, order, similarity_threshold
from cellgraph.answering.confidence import Confidence, reliability, score_features
from cellgraph.answering.relevance import relevant
from cellgraph.answering.run import FinishedRun
from cellgraph.data import QAPair
from cellgraph.files import write_atomically, write_json
from cellgraph.retrieval import Interval, Prediction, bootstrap_interval, bootstrap_intervals
from cellgraph.retrieval.embedded import dialogues_of
from cellgraph.retrieval.metrics import first_right, recall_at_k
from cellgraph.retrieval.question_answering import WORDS
from cellgraph.teacher import TokenStates
from cellgraph.texts import escaped_markdown, markdown_table

KS = (1, 5, 10)
ALL = "all"


@dataclass(frozen=True)
class QuestionReport:
    """The figures of several systems on questions by category.

    Attributes:
        rows: One for each category and system: ``category``, ``system``, ``count``, and for k = 1, 5, 10 the share of
            questions with a relevant answer among the first k, ``relevant_at_k``, its interval ``..._low`` and
            ``..._high``, and ``true_at_k`` for the true answer alone.
        trust: One for each category: ``category``, ``count``, share ``answered`` (not "I do not know"), share of those
            ``right`` and its interval (``None`` where nothing was answered), and ``answered_without``, the share
            answered although every relevant answer is taken from the bank.
        calibration_error: Expected calibration error of the confidence, see :func:`~.confidence.reliability`.
        reliability: The table behind it.
        threshold: Least confidence of an answer.
        precision: What that was chosen for.
        equivalence: Cosine from which on an answer is equivalent to the true one.
        bank: Number of distinct answers searched.
        rules: How questions without a category were given one.
    """

    rows: list[dict[str, Any]]
    trust: list[dict[str, Any]]
    calibration_error: float
    reliability: list[dict[str, Any]]
    threshold: float | None
    precision: float
    equivalence: float
    bank: int
    rules: str = RULES


def judge_questions(
    predictions: Mapping[str, Prediction],
    answers: Tensor,
    target: Tensor,
    categories: Sequence[str],
    *,
    bank: AnswerBank,
    confidence: Confidence,
    trusted: str,
    with_words: Callable[[Tensor], Tensor] | None = None,
    num_resamples: int = 10_000,
) -> QuestionReport:
    """Judge what systems answer to questions.

    Args:
        predictions: What systems answer, by name; their order is that of the rows.
        answers: True answer embeddings.
        target: Position of each true answer in the bank.
        categories: Category of each question.
        bank: Where answers are looked for.
        confidence: Learned on validation pairs; says as well what counts as equivalent.
        trusted: The system that the confidence is about.
        with_words: Gives the scores of that system and of shared words together, from its own, for one system more.
        num_resamples: Resamples of the bootstrap.

    Shapes:
        - **answers:** ``[num_questions, width]``
        - **target:** ``[num_questions]``
    """
    right = relevant(bank, answers, target, threshold=confidence.equivalence)
    true = torch.zeros_like(right).scatter(1, target[:, None], True)
    named = list(dict.fromkeys(sorted(categories, key=order)))
    members = {name: torch.tensor([category == name for category in categories]) for name in named}
    if len(named) > 1:
        members[ALL] = torch.ones(len(categories), dtype=torch.bool)
    scored = {name: bank.by(system.key).scores(system.query) for name, system in predictions.items()}
    if with_words is not None:
        scored[f"{trusted} + {WORDS}"] = with_words(scored[trusted])
    found = {name: (first_right(s, right), first_right(s, true)) for name, s in scored.items()}
    rows = []
    for category, inside in members.items():
        for system, (some, exact) in found.items():
            values = torch.stack([recall_at_k(some[inside], k) for k in KS], dim=1)
            row: dict[str, Any] = {"category": category, "system": system, "count": int(inside.sum())}
            for k, interval in zip(KS, bootstrap_intervals(values, num_resamples=num_resamples), strict=True):
                row |= _told(f"relevant_at_{k}", interval)
                row[f"true_at_{k}"] = float(recall_at_k(exact[inside], k).mean())
            rows.append(row)

    scores = scored[trusted]
    probability = confidence.probability(score_features(scores.topk(2, dim=1).values))
    came = first_right(scores, right) <= 1
    error, table = reliability(probability, came)
    # With every right answer gone, whatever is said is wrong.
    left = scores.masked_fill(right, -1.0).topk(2, dim=1).values
    known, without = confidence.known(probability), confidence.known(confidence.probability(score_features(left)))
    trust = []
    for category, inside in members.items():
        row = {"category": category, "count": int(inside.sum()), "answered": float(known[inside].double().mean())}
        said = came[inside & known].double()
        row |= dict.fromkeys(_names("right"))
        if len(said):
            row |= _told("right", bootstrap_interval(said, num_resamples=num_resamples))
        trust.append(row | {"answered_without": float(without[inside].double().mean())})
    return QuestionReport(
        rows=rows,
        trust=trust,
        calibration_error=error,
        reliability=table,
        threshold=confidence.threshold,
        precision=confidence.precision,
        equivalence=confidence.equivalence,
        bank=len(bank),
    )


def judge_run(
    run: FinishedRun,
    asked: Sequence[QAPair],
    systems: Callable[[Tensor | TokenStates, list[list[int]]], Mapping[str, Prediction]],
    *,
    trusted: str,
) -> QuestionReport:
    """Judge what systems answer to questions out of the bank of all the run's answers and those of the questions.

    Args:
        run: The run.
        asked: The questions with their answers; one without a category is given one, see
            :func:`~.categories.categorise`.
        systems: Gives what each system answers to questions, as the network is given them, and by the numbers of those
            that are the turns of each dialogue.
        trusted: The system that the confidence is about.
    """
    texts = {part: [pair.question for pair in getattr(run.pairs, part)] for part in ("train", "validation")}
    train, validation = run.embed(texts["train"]), run.embed(texts["validation"])
    questions = [pair.question for pair in asked]
    question = run.embed(questions)
    found = categorise(
        questions, nearest_cosine(question, train), texts["train"], threshold=similarity_threshold(validation, train)
    )
    own = run.answers()
    bank = run.bank([*own, *(pair.answer for pair in asked)])
    lexical = run.lexical(bank)
    return judge_questions(
        systems(run.read(questions), dialogues_of(asked)),
        run.embed([pair.answer for pair in asked]),
        bank.position[len(own) :],
        [pair.category or category for pair, category in zip(asked, found, strict=True)],
        bank=bank,
        confidence=run.confidence(bank),
        trusted=trusted,
        with_words=lambda scores: lexical.scores(questions, scores),
    )


def markdown(report: QuestionReport) -> str:
    """The report as Markdown text."""
    lines = ["# Questions by category", "", *_caption(report), ""]
    headings = ["category", "n", "system", *(f"relevant@{k} [95 %]" for k in KS), *(f"true@{k}" for k in KS)]
    lines += markdown_table(
        headings,
        [
            [
                *(escaped_markdown(row["category"]), str(row["count"]), escaped_markdown(row["system"])),
                *(_share(row, f"relevant_at_{k}") for k in KS),
                *(f"{row[f'true_at_{k}']:.3f}" for k in KS),
            ]
            for row in report.rows
        ],
    )
    said = "none" if report.threshold is None else f"{report.threshold:.3f}"
    lines += ["", "## Confidence", ""]
    lines += [
        f'Below {said} the answer is "I do not know", chosen on the validation pairs so that {report.precision:.0%} of '
        f"the answers given are relevant. Expected calibration error here: {report.calibration_error:.3f}. "
        "Without: share answered although no relevant answer is in the bank.",
        "",
    ]
    lines += markdown_table(
        ["category", "n", "answered", "right when answered [95 %]", "answered without"],
        [
            [
                *(escaped_markdown(row["category"]), str(row["count"]), f"{row['answered']:.3f}"),
                "-" if row["right"] is None else _share(row, "right"),
                f"{row['answered_without']:.3f}",
            ]
            for row in report.trust
        ],
    )
    lines += [
        "",
        *markdown_table(
            ["confidence", "n", "mean confidence", "right"],
            [
                [
                    *(f"{row['low']:.1f}-{row['high']:.1f}", str(row["count"])),
                    *(f"{row[figure]:.3f}" for figure in ("confidence", "right")),
                ]
                for row in report.reliability
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


def save_report(report: QuestionReport, folder: Path) -> None:
    """Write ``questions.json`` and ``questions.md``, each whole or not at all."""
    write_json(folder / "questions.json", asdict(report))
    write_atomically(folder / "questions.md", markdown(report).encode())


def _names(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


def _told(name: str, interval: Interval) -> dict[str, float]:
    """A mean with its interval, as a part of a row."""
    return dict(zip(_names(name), (interval.mean, interval.low, interval.high), strict=True))


def _share(row: dict[str, Any], name: str) -> str:
    mean, low, high = (row[part] for part in _names(name))
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def _caption(report: QuestionReport) -> list[str]:
    return [
        f"Searched: {report.bank:,} distinct answers. relevant@k: share of questions for which the true answer, or "
        f"one whose embedding has a cosine of at least {report.equivalence:.3f} with it, is among the first k; so near "
        "are only 1 in 100 training answers to any answer of an unrelated pair. true@k: the true answer alone. "
        "Bootstrap intervals over questions.",
        f"Categories, where the file gives none: {report.rules}.",
    ]
