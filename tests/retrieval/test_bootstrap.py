from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from cellgraph.retrieval import bootstrap_interval, bootstrap_intervals, paired_difference


def test_interval_matches_scipys_percentile_bootstrap():
    values = np.random.default_rng(0).exponential(size=80)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    found = bootstrap_interval(torch.from_numpy(values), num_resamples=20_000)
    assert found.mean == pytest.approx(values.mean())
    # Two draws of a 2.5 % quantile from 20,000 resamples differ by about 2 % of the standard error.
    tolerance = 0.1 * values.std() / 80**0.5
    assert found.low == pytest.approx(expected.low, abs=tolerance)
    assert found.high == pytest.approx(expected.high, abs=tolerance)


def test_coverage_of_a_known_mean():
    generator = torch.Generator().manual_seed(0)
    trials, covered = 400, 0
    for trial in range(trials):
        values = torch.randn(60, generator=generator) + 1
        interval = bootstrap_interval(values, num_resamples=500, seed=trial)
        covered += interval.low <= 1 <= interval.high
    # 95 % nominal; the percentile method at n = 60 falls short by about a point, four standard errors are 4.4 points.
    assert 0.895 < covered / trials < 0.99


def test_columns_share_their_resamples():
    values = torch.rand(40, 1, dtype=torch.float64)
    shifted = bootstrap_intervals(torch.cat([values, values + 1], dim=1))
    assert shifted[1][:3] == pytest.approx(tuple(x + 1 for x in shifted[0][:3]))
    assert shifted[0] == pytest.approx(bootstrap_interval(values[:, 0]))


def test_seed_decides():
    values = torch.rand(30)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_chunks_join_up(monkeypatch):
    values = torch.rand(30)
    whole = bootstrap_interval(values, num_resamples=999)
    monkeypatch.setattr("cellgraph.retrieval.bootstrap.DRAWN_AT_A_TIME", 30 * 100)
    assert bootstrap_interval(values, num_resamples=999) == whole


def test_whole_groups_are_drawn():
    generator = torch.Generator().manual_seed(0)
    groups = torch.tensor([0, 0, 0, 1, 2, 2, 5])
    values = torch.rand(7, 2, generator=generator, dtype=torch.float64)
    found = bootstrap_intervals(values, groups=groups, num_resamples=50_000, confidence=0.8)
    # All of the 4 ** 4 equally likely resamples of the four groups.
    members = [values[groups == group] for group in groups.unique()]
    means = [torch.cat([members[group] for group in drawn]).mean(0) for drawn in itertools.product(range(4), repeat=4)]
    low, high = np.quantile(torch.stack(means).numpy(), [0.1, 0.9], axis=0)
    for column, interval in enumerate(found):
        assert interval.mean == pytest.approx(float(values[:, column].mean()))
        assert (interval.low, interval.high) == pytest.approx((low[column], high[column]), abs=0.01)


def test_each_pair_a_group_of_its_own_is_no_grouping():
    values = torch.rand(30, 2)
    assert bootstrap_intervals(values, groups=torch.arange(30)) == bootstrap_intervals(values)
    with pytest.raises(ValueError, match=r"a group for each of 30 pairs, got \[29\]"):
        bootstrap_intervals(values, groups=torch.arange(29))


def test_pairs_that_are_alike_in_a_group_make_the_interval_wider():
    values = torch.randn(40, generator=torch.Generator().manual_seed(0))
    doubled, groups = values.repeat_interleave(5), torch.arange(40).repeat_interleave(5)
    alone, blind, grouped = (
        bootstrap_interval(values),
        bootstrap_interval(doubled),
        bootstrap_interval(doubled, groups=groups),
    )
    assert grouped == pytest.approx(alone)
    assert blind.high - blind.low < 0.6 * (grouped.high - grouped.low)


def test_the_probability_is_that_of_a_mean_beyond_zero():
    # Of 0 and 1 with n = 6 the resampled mean is 0 with probability 2 ** -6.
    values = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
    assert bootstrap_interval(values, num_resamples=100_000).p == pytest.approx(2 / 64, abs=0.003)
    assert bootstrap_interval(-values, num_resamples=100_000).p == pytest.approx(2 / 64, abs=0.003)
    assert bootstrap_interval(torch.tensor([-1.0, 1.0]), num_resamples=1000).p == 1.0
    assert bootstrap_interval(torch.ones(4), num_resamples=1000).p == 0.001


def test_confidence_widens():
    values = torch.rand(50)
    narrow, wide = (bootstrap_interval(values, confidence=c) for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_pairing_sees_what_separate_intervals_hide():
    generator = torch.Generator().manual_seed(0)
    hardness = torch.rand(200, generator=generator)
    first, second = hardness + 0.02 + 0.02 * torch.randn(200, generator=generator), hardness
    difference = paired_difference(first, second)
    assert difference.mean == pytest.approx((first - second).mean().item(), abs=1e-6)
    assert difference.low > 0
    assert bootstrap_interval(first).low < bootstrap_interval(second).high
    opposite = paired_difference(second, first)
    assert (opposite.low, opposite.high) == pytest.approx((-difference.high, -difference.low))


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (torch.ones(0), {}, "num_pairs >= 1"),
        (torch.tensor([1.0, float("nan")]), {}, "finite"),
        (torch.ones(2, 2), {}, r"\[num_pairs\]"),
        (torch.ones(2), {"num_resamples": 0}, "num_resamples"),
        (torch.ones(2), {"confidence": 1.0}, "confidence"),
    ],
)
def test_bad_input_is_named(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, **options)


def test_paired_values_must_pair_up():
    with pytest.raises(ValueError, match="one shape"):
        paired_difference(torch.ones(3), torch.ones(4))
