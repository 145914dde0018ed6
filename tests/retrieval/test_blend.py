"""The blend of a network's cosines and the scores of words, beside its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata, zscore

from cellgraph.retrieval.blend import WEIGHTS, Blend


def scores(seed: int, *, questions: int = 40, answers: int = 30) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two scores, each of which knows something of the right answer that the other does not."""
    rng = np.random.default_rng(seed)
    target = rng.integers(answers, size=questions)
    right = np.eye(answers)[target]
    cosines = 0.1 * rng.normal(size=right.shape) + 0.15 * right
    words = rng.exponential(3, size=right.shape) * (rng.random(right.shape) < 0.3) + 5 * right
    return torch.from_numpy(cosines), torch.from_numpy(words), torch.from_numpy(target)


def test_each_score_is_standardised_for_each_question() -> None:
    cosines, words, _ = scores(0)
    wanted = 0.7 * zscore(cosines.numpy(), axis=1) + 0.3 * zscore(words.numpy(), axis=1)
    np.testing.assert_allclose(Blend(0.3)(cosines, words).numpy(), wanted, atol=1e-12)
    # Neither's unit counts.
    torch.testing.assert_close(Blend(0.3)(5 * cosines - 2, 100 * words + 1), Blend(0.3)(cosines, words))


def test_a_question_that_shares_no_word_is_left_to_the_network() -> None:
    cosines, words, _ = scores(1)
    words[3] = 0
    blended = Blend(0.6)(cosines, words)
    assert blended.isfinite().all()
    np.testing.assert_allclose(blended[3].numpy(), 0.4 * zscore(cosines[3].numpy()), atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_weight_is_the_best_of_those_tried(seed: int) -> None:
    cosines, words, target = scores(seed)

    def figure(weight: float) -> float:
        both = (1 - weight) * zscore(cosines.numpy(), axis=1) + weight * zscore(words.numpy(), axis=1)
        ranks = rankdata(-both, axis=1)[np.arange(len(target)), target.numpy()]
        return float(np.mean(1 / ranks))

    figures = {weight: figure(weight) for weight in WEIGHTS}
    found = Blend.fit(cosines, words, target)
    assert figures[found.weight] == pytest.approx(max(figures.values()), abs=1e-6)
    assert figures[found.weight] > max(figures[0.0], figures[1.0])


def test_what_knows_nothing_has_no_weight() -> None:
    cosines, words, target = scores(0)
    assert Blend.fit(cosines, torch.zeros_like(words), target).weight == 0.0
    assert Blend.fit(torch.zeros_like(cosines), words, target).weight > 0.0
    perfect = torch.nn.functional.one_hot(target, 30).double()
    assert Blend.fit(perfect, words, target).weight == 0.0


@pytest.mark.parametrize("weight", [-0.1, 1.1, "much"])
def test_weights_that_are_none_are_refused(weight: object) -> None:
    with pytest.raises(ValueError, match="weight"):
        Blend(weight)  # type: ignore[arg-type]
