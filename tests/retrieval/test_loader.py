"""Embedded pairs and the loader: what is delivered, in which order, and from any place again."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellgraph.retrieval import Batch, DialogueLoader, EmbeddedPairs


def pairs_of(lengths):
    names = [str(d) for d, length in enumerate(lengths) for _ in range(length)]
    rows = torch.arange(len(names) * 2.0).reshape(-1, 2)
    return EmbeddedPairs(rows, rows + 0.5, dialogue=names)


def indices(loader):
    return [batch.index.tolist() for batch in loader]


lengths_strategy = st.lists(st.integers(1, 5), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(lengths_strategy, st.integers(1, 4), st.none() | st.integers(1, 3), st.integers(0, 3))
def test_an_epoch_delivers_every_turn_once_and_in_order(lengths, batch_size, window, seed):
    pairs = pairs_of(lengths)
    loader = DialogueLoader(pairs, batch_size, seed=seed, window=window)
    announced = len(loader)
    batches = list(loader)
    assert len(batches) == announced
    seen = [row for batch in batches for row in batch.index.flatten().tolist() if row >= 0]
    assert sorted(seen) == list(range(len(pairs)))
    lanes: list[list[int]] = []
    for batch in batches:
        if batch.starts:
            lanes = [[] for _ in range(len(batch.index))]
        for lane, turns in zip(lanes, batch.index.tolist(), strict=True):
            lane.extend(row for row in turns if row >= 0)
            assert lane in [dialogue[: len(lane)] for dialogue in pairs.dialogues]
        if batch.mask is not None:
            assert torch.equal(batch.mask, batch.index >= 0)
        real = batch.index >= 0
        assert torch.equal(batch.question[real], pairs.question[batch.index[real]])
        assert torch.equal(batch.answer[real], pairs.answer[batch.index[real]])


@settings(deadline=None, max_examples=60)
@given(lengths_strategy, st.integers(1, 4), st.none() | st.integers(1, 3), st.integers(0, 30))
def test_a_stream_goes_on_from_its_state(lengths, batch_size, window, taken):
    options = {"seed": 5, "window": window, "num_batches": 31, "drop_last": True}
    undisturbed = DialogueLoader(pairs_of(lengths), batch_size, **options)
    expected = [(batch.index.tolist(), batch.starts, batch.epoch) for batch in undisturbed]
    first = DialogueLoader(pairs_of(lengths), batch_size, **options)
    list(itertools.islice(first, taken))
    second = DialogueLoader(pairs_of(lengths), batch_size, **options)
    second.load_state_dict(first.state_dict())
    assert [(batch.index.tolist(), batch.starts, batch.epoch) for batch in second] == expected[taken:]


def test_epochs_and_seeds_differ_and_repeat():
    pairs = pairs_of([1] * 20)
    loader = DialogueLoader(pairs, 20, seed=1, num_batches=3)
    epochs = indices(loader)
    assert epochs[0] != epochs[1] != epochs[2]
    assert indices(DialogueLoader(pairs, 20, seed=1, num_batches=3)) == epochs
    assert indices(DialogueLoader(pairs, 20, seed=2, num_batches=3))[0] not in epochs
    assert indices(loader) == epochs


def test_without_a_seed_the_order_is_the_data_s():
    loader = DialogueLoader(pairs_of([1] * 5), 2)
    assert indices(loader) == [[[0], [1]], [[2], [3]], [[4]]] == indices(loader)
    assert len(DialogueLoader(pairs_of([1] * 5), 2, drop_last=True)) == 2
    assert len(DialogueLoader(pairs_of([1]), 2, drop_last=True)) == 1


def test_states_of_other_streams_are_refused():
    loader = DialogueLoader(pairs_of([1] * 5), 2, seed=1)
    with pytest.raises(ValueError, match="its seed was 2, now it is 1"):
        loader.load_state_dict(DialogueLoader(pairs_of([1] * 5), 2, seed=2).state_dict())
    with pytest.raises(ValueError, match="its num_pairs was 4, now it is 5"):
        loader.load_state_dict(DialogueLoader(pairs_of([1] * 4), 2, seed=1).state_dict())
    with pytest.raises(ValueError, match="batch_size must be positive, got 0"):
        DialogueLoader(pairs_of([1]), 0)


def test_pairs_know_equal_answers_and_the_order_of_turns():
    answer = torch.tensor([[1.0], [2.0], [1.0]])
    pairs = EmbeddedPairs(torch.zeros(3, 2), answer, dialogue=["a", "", "a"], turn=[1, 0, 0])
    assert pairs.dialogues == [[2, 0], [1]]
    assert pairs.group[0] == pairs.group[2] != pairs.group[1]
    assert EmbeddedPairs(torch.zeros(3, 2), answer, dialogue=["", "", ""]).dialogues == [[0], [1], [2]]


def test_bad_embeddings_are_named():
    good = torch.zeros(3, 2)
    bad = good.clone()
    bad[1, 0] = torch.nan
    with pytest.raises(ValueError, match="question must be finite, got NaN or infinity in 1 rows, first in 1"):
        EmbeddedPairs(bad, good)
    with pytest.raises(ValueError, match="as many questions as answers, at least one, got 3, 2"):
        EmbeddedPairs(good, good[:2])
    with pytest.raises(
        ValueError, match=r"answer must be floating point \[num_pairs, width\], got torch.float32 \[3\]"
    ):
        EmbeddedPairs(good, good[:, 0])
    with pytest.raises(ValueError, match="got 0, 0"):
        EmbeddedPairs(good[:0], good[:0])
    with pytest.raises(ValueError, match="turn must have 3 entries, got 1"):
        EmbeddedPairs(good, good, turn=[0])


def test_a_batch_moves_as_one():
    batch = Batch.gather(pairs_of([2, 1]), torch.tensor([[0, 1], [2, -1]]), starts=False, epoch=1.5)
    moved = batch.to("meta")
    assert batch.to("cpu") is batch
    assert {x.device.type for x in (moved.question, moved.answer, moved.index, moved.group, moved.mask)} == {"meta"}
    assert (moved.starts, moved.epoch, len(batch)) == (False, 1.5, 3)
