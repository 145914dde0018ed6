from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity

from cellgraph.retrieval import (
    chance_level,
    cosine,
    csls,
    distinct_answers,
    first_right,
    neighbourhood_cosine,
    ranks,
    recall_at_k,
    reciprocal_ranks,
)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def noisy_pairs(generator: torch.Generator, num_pairs: int = 60, width: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    answers = torch.randn(num_pairs, width, generator=generator, dtype=torch.float64)
    return answers + torch.randn(num_pairs, width, generator=generator, dtype=torch.float64), answers


def brute_csls(predictions: np.ndarray, answers: np.ndarray, k: int) -> np.ndarray:
    """Equation 2 of Conneau et al. 2018, one pair at a time."""

    def cos(x: np.ndarray, y: np.ndarray) -> float:
        return float(x @ y / np.sqrt(x @ x) / np.sqrt(y @ y))

    def near(x: np.ndarray, others: np.ndarray) -> float:
        return float(np.mean(sorted((cos(x, y) for y in others), reverse=True)[:k]))

    return np.array([[2 * cos(p, a) - near(p, answers) - near(a, predictions) for a in answers] for p in predictions])


def test_cosine_is_the_diagonal_of_sklearns(generator):
    predictions, answers = noisy_pairs(generator)
    expected = np.diag(cosine_similarity(predictions.numpy(), answers.numpy()))
    np.testing.assert_allclose(cosine(predictions, answers).numpy(), expected, atol=1e-12)


def test_centred_cosine_is_the_cosine_of_what_is_left_of_the_mean(generator):
    predictions, answers = noisy_pairs(generator)
    mean = torch.randn(12, generator=generator, dtype=torch.float64)
    expected = np.diag(cosine_similarity((predictions - mean).numpy(), (answers - mean).numpy()))
    np.testing.assert_allclose(cosine(predictions, answers, mean=mean).numpy(), expected, atol=1e-12)


def test_the_mean_answer_has_no_centred_cosine_even_after_rounding(generator):
    answers = torch.randn(500, 384, generator=generator) + 2
    exact = answers.double().mean(0)
    # The same mean in another precision differs in the last bits, which must not count as a direction.
    predictions = exact.half().double().lerp(exact, 1 - 1e-6).float().expand(500, -1)
    assert not cosine(predictions, answers, mean=exact.float()).any()
    assert cosine(predictions, answers).mean() > 0.5


def test_cosine_of_a_zero_vector_is_zero():
    assert cosine(torch.zeros(1, 3), torch.ones(1, 3)).item() == 0


@pytest.mark.parametrize(("predictions", "answers"), [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((3,), (3,))])
def test_cosine_refuses_what_does_not_pair_up(predictions, answers):
    with pytest.raises(ValueError, match="must both be"):
        cosine(torch.ones(predictions), torch.ones(answers))


def test_cosine_refuses_a_mean_of_another_width():
    with pytest.raises(ValueError, match=r"mean must be \[3\], got \[4\]"):
        cosine(torch.ones(2, 3), torch.ones(2, 3), mean=torch.ones(4))


@pytest.mark.parametrize("chunk_size", [1, 7, 60, 1000])
def test_ranks_match_scipy_with_ties(generator, chunk_size):
    # Few distinct integer vectors make exact ties likely.
    predictions = torch.randint(-1, 2, (60, 3), generator=generator).double()
    answers = torch.randint(-1, 2, (40, 3), generator=generator).double()
    target = torch.randint(40, (60,), generator=generator)
    score = (
        torch.nn.functional.normalize(predictions, dim=1) @ torch.nn.functional.normalize(answers, dim=1).T
    ).numpy()
    expected = rankdata(-score.round(9), method="average", axis=1)[np.arange(60), target.numpy()]
    assert (expected % 1 == 0.5).any()
    assert ranks(predictions, answers, target, chunk_size=chunk_size).tolist() == expected.tolist()


def test_mrr_and_recall_match_sklearn(generator):
    predictions, answers = noisy_pairs(generator)
    target = torch.arange(60)
    found = ranks(predictions, answers, target)
    score = cosine_similarity(predictions.numpy(), answers.numpy())
    # With one true label a row, label ranking average precision is the mean reciprocal rank.
    mrr = label_ranking_average_precision_score(np.eye(60), score)
    assert reciprocal_ranks(found).mean().item() == pytest.approx(mrr, abs=1e-6)
    assert 0.2 < mrr < 0.9
    for k in (1, 5, 10):
        expected = top_k_accuracy_score(target.numpy(), score, k=k)
        assert recall_at_k(found, k).mean().item() == pytest.approx(expected, abs=1e-6)


def test_one_score_for_all_candidates_ranks_in_the_middle():
    found = ranks(torch.zeros(4, 3), torch.randn(9, 3), torch.tensor([0, 3, 5, 8]))
    assert found.tolist() == [5.0] * 4


def test_a_tie_for_the_first_place_is_no_hit():
    found = ranks(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.tensor([0]))
    assert found.tolist() == [1.5]
    assert recall_at_k(found, 1).item() == 0
    assert recall_at_k(found, 5).item() == 1


def test_random_predictions_score_chance(generator):
    num_pairs, trials = 100, 60
    recall, mrr = [], []
    for _ in range(trials):
        found = ranks(
            torch.randn(num_pairs, 16, generator=generator),
            torch.randn(num_pairs, 16, generator=generator),
            torch.randperm(num_pairs, generator=generator),
        )
        recall.append(recall_at_k(found, 1).mean().item())
        mrr.append(reciprocal_ranks(found).mean().item())
    harmonic = sum(1 / n for n in range(1, num_pairs + 1))
    assert chance_level(num_pairs) == pytest.approx((1 / num_pairs, harmonic / num_pairs))
    for observed, expected in zip((recall, mrr), chance_level(num_pairs), strict=True):
        assert abs(np.mean(observed) - expected) < 4 * np.std(observed) / trials**0.5


@pytest.mark.parametrize("k", [1, 4, 10, 100])
def test_csls_is_its_formula(generator, k):
    predictions, answers = noisy_pairs(generator, num_pairs=25, width=6)
    answers = answers[:18]
    expected = brute_csls(predictions.numpy(), answers.numpy(), k)
    np.testing.assert_allclose(csls(predictions, answers, k=k).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("chunk_size", [1, 8, 1000])
def test_ranks_with_csls_follow_its_formula(generator, chunk_size):
    predictions, answers = noisy_pairs(generator, num_pairs=40, width=6)
    score = brute_csls(predictions.numpy(), answers.numpy(), 10)
    expected = rankdata(-score, method="average", axis=1).diagonal()
    target = torch.arange(40)
    found = ranks(predictions, answers, target, csls_k=10, chunk_size=chunk_size)
    assert found.tolist() == expected.tolist()
    assert found.tolist() != ranks(predictions, answers, target).tolist()


def test_csls_demotes_a_hub():
    # Every prediction leans towards the first candidate, a hub, and only then to its own answer.
    answers = torch.cat([torch.ones(1, 8), torch.eye(8)])
    predictions = torch.eye(8) + 0.5 * torch.ones(8, 8)
    target = torch.arange(1, 9)
    assert ranks(predictions, answers, target).tolist() == [2.0] * 8
    assert ranks(predictions, answers, target, csls_k=4).tolist() == [1.0] * 8


def test_csls_refuses_no_neighbours():
    with pytest.raises(ValueError, match="k >= 1"):
        neighbourhood_cosine(torch.ones(2, 2), torch.ones(2, 2), k=0)


def test_ranks_refuse_a_missing_target():
    with pytest.raises(ValueError, match="one target for each of 3"):
        ranks(torch.ones(3, 2), torch.ones(2, 2), torch.tensor([0, 1]))


def test_answers_are_equal_by_text_or_by_embedding():
    answers = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1e-7], [0.0, 1.0], [-0.0, 1.0], [1.0, 1.0]])
    texts = ["Yes,  indeed.", "No.", "yes, indeed.\n", "Cut off", "Also cut off", "Else"]
    candidates, target = distinct_answers(answers, texts)
    assert candidates.tolist() == [0, 1, 5]
    assert target.tolist() == [0, 1, 0, 1, 1, 2]
    # Without texts rows 0 and 2 differ.
    assert distinct_answers(answers)[1].tolist() == [0, 1, 2, 1, 1, 3]


def test_zero_embeddings_are_one_by_their_texts_alone():
    answers = torch.tensor([[0.0, 0.0], [-0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert distinct_answers(answers)[0].tolist() == [0, 1, 2, 3]
    candidates, target = distinct_answers(answers, ["Zanzibar", "Xylophone", "An ant", "zanzibar"])
    assert candidates.tolist() == [0, 1, 2]
    assert target.tolist() == [0, 1, 2, 0]
    # No embedding finds one of them before another: of a tie for two places the mean.
    predictions = torch.tensor([[-1.0, 0.5], [-1.0, 0.5], [1.0, 0.0], [-1.0, 0.5]])
    for csls_k in (None, 1):
        assert ranks(predictions, answers[candidates], target, csls_k=csls_k).tolist() == [1.5, 1.5, 1.0, 1.5]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_answers_that_are_one_with_a_third_are_one_in_any_order(order):
    """One text twice, and one embedding twice, chained; another answer beside them."""
    answers, texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 1.0]]), ["t", "s", "t", "other"]
    order = list(order)
    candidates, target = distinct_answers(answers[order], [texts[index] for index in order])
    alone = order.index(3)
    assert candidates.tolist() == sorted([alone, 0 if alone else 1])
    assert target.tolist() == [int((index == 3) == (alone > 0)) for index in order]


def test_of_no_answers_none_are_distinct():
    assert [found.tolist() for found in distinct_answers(torch.zeros(0, 3), [])] == [[], []]


def test_duplicate_answers_are_no_errors(generator):
    answers = torch.randn(20, 8, generator=generator)
    answers = torch.cat([answers, answers, answers])
    candidates, target = distinct_answers(answers)
    assert len(candidates) == 20
    assert ranks(answers, answers[candidates], target).tolist() == [1.0] * 60
    assert ranks(answers, answers[candidates], target, csls_k=10).tolist() == [1.0] * 60


def test_distinct_answers_refuse_a_missing_text():
    with pytest.raises(ValueError, match="one text for each of 2 answers, got 1"):
        distinct_answers(torch.eye(2), ["one"])


def test_first_right_by_sorting():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 12, generator=generator)
    right = torch.rand(40, 12, generator=generator) < 0.2
    right[0] = False
    for row, found in enumerate(first_right(scores, right).tolist()):
        order = sorted(range(12), key=lambda j: -float(scores[row, j]))
        hits = [place for place, j in enumerate(order, 1) if right[row, j]]
        # Right answers further down do not count as wrong ones before the first.
        assert found == (hits[0] if hits else math.inf)


def test_what_is_no_number_ranks_last():
    right = torch.eye(4, dtype=torch.bool)
    assert first_right(torch.full((4, 4), torch.nan), right).tolist() == [4.0] * 4
    broken = torch.where(right, torch.nan, 0.5)
    assert first_right(broken, right).tolist() == [4.0] * 4
    assert first_right(torch.ones(4, 4), right).tolist() == [2.5] * 4
