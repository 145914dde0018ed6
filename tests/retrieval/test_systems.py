"""The network and the words together, beside the same worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, zscore
from sklearn.metrics.pairwise import cosine_similarity

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.data import QAPair
from cellgraph.retrieval import Scores, evaluate
from cellgraph.retrieval.blend import WEIGHTS
from cellgraph.retrieval.embedded import EmbeddedPairs
from cellgraph.retrieval.lexical import BM25
from cellgraph.retrieval.prediction import predict
from cellgraph.retrieval.stages import Trained
from cellgraph.retrieval.systems import Embedded, with_words
from cellgraph.teacher import LSATeacher

KNOWN = ["the ant is by the sea", "the bee is by the hill", "the cat is by the lake", "the dog is by the lake"]


def test_answers_of_unknown_words_are_told_apart_by_their_words() -> None:
    teacher = LSATeacher(2)
    teacher.fit(KNOWN)
    texts = [KNOWN[0], "Zanzibar", "Quixotic zebra", "Xylophone"]
    answers = teacher.encode(texts)
    assert not answers[1:].any()
    words = Scores(BM25(texts).scores(["ant sea", "zanzibar", "quixotic zebra", "xylophone"]))
    found = evaluate({"words": words}, answers, answers_train=answers, to_surface=lambda x: x, answer_texts=texts)
    assert (found.candidates, found.rows[0]["recall_at_1"], found.rows[0]["mrr"]) == (4, 1.0, 1.0)


def network() -> CellGraph:
    torch.manual_seed(0)
    return CellGraph(GMLPCell(Lattice((2, 2, 2)), 4, hidden=8), in_features=6, num_steps=2, surface_channels=2).eval()


def part(seed: int) -> Embedded:
    """Pairs of a few words, of which each two in turn have one embedding, as texts have that a teacher cuts off."""
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    words = [f"{a}{b}o" for a in "bdfklmn" for b in "aeu"]
    drawn = [rng.choice(words, 4, replace=False) for _ in range(30)]
    pairs = [QAPair(f"{a} {b} {c}", f"{b} {c} {d} own{row}") for row, (a, b, c, d) in enumerate(drawn)]
    question = torch.randn(len(pairs) // 2, 6, generator=generator).repeat_interleave(2, dim=0)
    answer = question + 0.7 * torch.randn(len(pairs) // 2, 6, generator=generator).repeat_interleave(2, dim=0)
    return Embedded(pairs, EmbeddedPairs(question, answer))


@pytest.mark.parametrize("trials", [1, 7])
def test_of_answers_with_one_embedding_the_words_of_each_count(trials: int) -> None:
    model, validation, test = network(), part(0), part(1)

    def both(part: Embedded, weight: float) -> np.ndarray:
        with torch.no_grad():
            found = model(part.embeddings.question).query
            cosines = cosine_similarity(found, model.key(part.embeddings.answer[::2]))
        words = BM25(part.answers).scores(part.questions).numpy()
        words = np.maximum(words[:, ::2], words[:, 1::2])
        return (1 - weight) * zscore(cosines, axis=1) + weight * zscore(words, axis=1)

    def figure(weight: float) -> float:
        ranks = rankdata(-both(validation, weight).round(5), axis=1)[range(30), np.arange(30) // 2]
        return (1 / ranks).mean().round(6)

    best = max(WEIGHTS, key=figure)
    assert figure(best) > max(figure(0.0), figure(1.0))
    found = replace(predict(model, test.embeddings.question), trials=trials)
    words = Scores(BM25(test.answers).scores(test.questions))
    scores = with_words(Trained(model, 0.0, 0.0), found, words, validation, test)
    assert np.allclose(scores.scores.numpy(), both(test, best).repeat(2, axis=1), atol=1e-4)
    assert scores.trials == trials + 21
