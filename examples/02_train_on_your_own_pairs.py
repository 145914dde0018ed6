"""Train a small cube on pairs of your own, from Python, and compare it with ridge regression.

The pairs come from NumPy's and SciPy's documentation; the teacher is TF-IDF with a truncated SVD, so nothing is
downloaded. Put ``cellgraph.data.read_pairs("my.jsonl")`` in their place for a file of questions and answers.

    python examples/02_train_on_your_own_pairs.py
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

import torch

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.data import docstring_pairs, split_pairs
from cellgraph.retrieval import (
    EmbeddedPairs,
    Retrieval,
    Ridge,
    TrainSettings,
    evaluate,
    predict,
    predict_closed_forms,
    print_evaluation,
    standard_objective,
)
from cellgraph.teacher import EmbeddingCache, LSATeacher
from cellgraph.training import train


def main() -> None:
    torch.manual_seed(0)
    pairs = docstring_pairs(limit=900, packages=["numpy", "scipy"])
    split = split_pairs(pairs, test=200, validation=100, seed=0)
    teacher = LSATeacher(100)
    teacher.fit([text for pair in split.train for text in (pair.question, pair.answer)])
    embedded = {}
    with TemporaryDirectory() as folder:
        cache = EmbeddingCache(folder)
        for part in ("train", "validation", "test"):
            rows = getattr(split, part)
            question = cache.embed(teacher, [pair.question for pair in rows])
            embedded[part] = EmbeddedPairs(question, cache.embed(teacher, [pair.answer for pair in rows]))

    fitted, test = embedded["train"], embedded["test"]
    cell = GMLPCell(Lattice((3, 5, 5)), channels=32, hidden=64)
    model = CellGraph(cell, in_features=teacher.width, surface_channels=4, num_steps=2)
    model.fit_adapters(fitted.question, fitted.answer)
    settings = TrainSettings(max_steps=150, batch_size=32, lr=3e-3, warmup_steps=10, ema=0.9, val_every=25)
    objective = standard_objective(dialogue=1.0, surface=0.1, negatives="bank", centred=True)
    result = train(model, Retrieval(objective, fitted, embedded["validation"]), settings)

    predictions = predict_closed_forms(fitted.question, fitted.answer, test.question, baselines={"ridge": Ridge()})
    predictions["lattice"] = predict(model, test.question, seconds_train=result.seconds)
    evaluation = evaluate(
        predictions,
        test.answer,
        answers_train=fitted.answer,
        to_surface=model.target_surface,
        answer_texts=[pair.answer for pair in split.test],
        reference="lattice",
    )
    print_evaluation(evaluation)


if __name__ == "__main__":
    main()
