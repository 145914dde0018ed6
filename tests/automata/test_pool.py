"""The sample pool: who starts anew, who is damaged, what goes back, and that nothing carries a gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from cellgraph import Lattice
from cellgraph.automata import Batch, SamplePool, Task

LATTICE = Lattice((4, 4))


class Level(Task):
    """Samples are numbered by their target; a state's loss is its mean."""

    def __init__(self):
        super().__init__(LATTICE)
        self.made = 0

    def sample(self, size, generator):
        number = torch.arange(self.made, self.made + size, dtype=torch.float)
        self.made += size
        return Batch(torch.zeros(size, 16, 3), target=number, kind=number.long() % 2)

    def loss(self, x, batch):
        return x.mean((1, 2))

    def damage(self, batch, generator):
        return Batch(batch.x - 100, batch.target, kind=batch.kind)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def filled(**options):
    """A pool of eight whose sample i has loss i."""
    pool, task = SamplePool(8, **{"reseed": 0, **options}), Level()
    pool.samples = task.sample(8, generator())
    pool.put(torch.arange(8), torch.arange(8.0)[:, None, None].expand(8, 16, 3), steps=5)
    return pool, task


def test_the_worst_start_anew_and_the_best_are_damaged():
    pool, task = filled(reseed=2, damage=3)
    index, batch = pool.draw(task, 8, generator(1))
    by_place = batch.select(index.argsort())
    assert by_place.x[:, 0, 0].tolist() == [-100.0, -99.0, -98.0, 3.0, 4.0, 5.0, 0.0, 0.0]
    # The new samples are the ninth and the tenth, target and kind included.
    assert sorted(by_place.target[6:].tolist()) == [8.0, 9.0]
    assert torch.equal(by_place.kind, by_place.target.long() % 2)
    assert pool.age.tolist() == [5, 5, 5, 5, 5, 5, 0, 0]
    assert torch.equal(pool.samples.x[index], batch.x)


def test_unranked_chance_chooses_who_starts_anew_and_who_is_damaged():
    rounds, renewed, damaged = 400, torch.zeros(8), torch.zeros(8)
    pool, task = filled(reseed=2, damage=3, ranked=False)
    for seed in range(rounds):
        pool.put(torch.arange(8), torch.arange(1.0, 9)[:, None, None].expand(8, 16, 3), steps=1)
        index, batch = pool.draw(task, 8, generator(seed))
        level = batch.select(index.argsort()).x[:, 0, 0]
        renewed += level == 0
        damaged += level < 0
    assert int(renewed.sum()) == 2 * rounds
    assert int(damaged.sum()) == 3 * rounds
    # Five standard deviations of a binomial count.
    assert ((renewed / rounds - 2 / 8).abs() < 5 * (2 / 8 * 6 / 8 / rounds) ** 0.5).all()
    assert ((damaged / rounds - 3 / 8).abs() < 5 * (3 / 8 * 5 / 8 / rounds) ** 0.5).all()


@pytest.mark.parametrize("ranked", [True, False])
@pytest.mark.parametrize("lost", [torch.nan, torch.inf])
def test_what_has_no_loss_is_the_first_to_start_anew(ranked, lost):
    for seed in range(8):
        pool, task = filled(reseed=1, damage=1, ranked=ranked)
        pool.samples.x[seed] = lost
        pool.draw(task, 8, generator(seed))
        assert pool.age.tolist() == [0 if place == seed else 5 for place in range(8)]


def test_the_old_start_anew():
    pool, task = filled(max_age=7)
    pool.put(torch.tensor([1, 4]), torch.ones(2, 16, 3), steps=3)
    pool.draw(task, 8, generator())
    assert pool.age.tolist() == [5, 0, 5, 5, 0, 5, 5, 5]


def test_what_starts_anew_is_not_damaged():
    # The best, which would be damaged, are too old.
    pool, task = filled(damage=2, max_age=7)
    pool.put(torch.tensor([0, 1]), torch.tensor([0.0, 1.0])[:, None, None].expand(2, 16, 3), steps=3)
    index, batch = pool.draw(task, 8, generator(1))
    level = batch.select(index.argsort()).x[:, 0, 0].tolist()
    assert level == [0.0, 0.0, -98.0, -97.0, 4.0, 5.0, 6.0, 7.0]
    pool, task = filled(damage=2, max_age=3)
    pool.put(torch.tensor([6]), torch.full((1, 16, 3), 6.0), steps=0)
    pool.age[6] = 1
    index, batch = pool.draw(task, 8, generator(1))
    # One alone is left.
    assert [place for place, x in enumerate(batch.select(index.argsort()).x[:, 0, 0].tolist()) if x < 0] == [6]


def test_a_batch_touches_nobody_else():
    pool, task = filled(reseed=1, damage=1)
    index, _ = pool.draw(task, 3, generator(3))
    others = [i for i in range(8) if i not in index]
    assert len(set(index.tolist())) == 3
    assert pool.samples.x[others, 0, 0].tolist() == [float(i) for i in others]
    ranked = sorted(index.tolist())
    assert pool.samples.x[ranked, 0, 0].tolist() == [ranked[0] - 100.0, float(ranked[1]), 0.0]


def test_what_goes_in_is_detached_and_a_copy():
    pool, task = filled()
    x = torch.ones(2, 16, 3, requires_grad=True)
    pool.put(torch.tensor([0, 1]), x * 2, steps=1)
    assert not pool.samples.x.requires_grad
    _, batch = pool.draw(task, 8, generator())
    batch.x.fill_(-7)
    assert not (pool.samples.x == -7).any()


def test_two_updates_in_a_row_cannot_run_back_into_the_first():
    pool, task = SamplePool(4), Level()
    weight = torch.ones((), requires_grad=True)
    for _ in range(3):
        index, batch = pool.draw(task, 4, generator())
        x = batch.x + weight
        # With a state that carries its graph over, the second round raises "backward through the graph a second time".
        (x * weight).sum().backward()
        pool.put(index, x, steps=1)


def test_a_pool_of_memories_keeps_the_last_channels_only():
    pool, task = SamplePool(4, reseed=0, memory_channels=1), Level()
    index, _ = pool.draw(task, 4, generator())
    pool.put(index, torch.ones(4, 16, 3), steps=1)
    _, batch = pool.draw(task, 4, generator())
    assert batch.x[..., :2].eq(0).all()
    assert batch.x[..., 2].eq(1).all()
    assert batch.target.tolist() == [8.0, 9.0, 10.0, 11.0]


def test_memory_starts_anew_by_chance_and_with_age():
    task = Level()
    pool = SamplePool(64, reseed=2, memory_channels=1, max_age=3)
    for round_ in range(2):
        index, batch = pool.draw(task, 64, generator(round_))
        pool.put(index, torch.ones(64, 16, 3), steps=2)
    # Of those drawn the second time two have a new memory, all others the one that was kept.
    assert batch.x[..., 2].mean(1).sort().values.tolist() == [0.0] * 2 + [1.0] * 62
    assert sorted(pool.age.tolist()) == [2] * 2 + [4] * 62
    _, batch = pool.draw(task, 64, generator(3))
    # Those of age four are too old; of the two that are not, chance may have taken some.
    assert 62 <= int((batch.x[..., 2].mean(1) == 0).sum()) <= 64
    with pytest.raises(ValueError, match="the memory alone is kept: got damage 1"):
        SamplePool(4, memory_channels=1, damage=1)


@dataclass(frozen=True)
class Wider(Batch):
    """Samples with one thing more."""

    extra: torch.Tensor | None = None


def test_samples_with_more_than_a_pool_keeps_are_refused():
    class Extra(Level):
        def sample(self, size, generator):
            return Wider(torch.zeros(size, 16, 3), extra=torch.zeros(size))

    with pytest.raises(ValueError, match="Extra gives them extra, too"):
        SamplePool(4).draw(Extra(), 2, generator())


class Learned(Level):
    """Its cells are told a number that is learned."""

    def __init__(self):
        super().__init__()
        self.told = torch.nn.Parameter(torch.ones(1, 1, 1))

    def sample(self, size, generator):
        return replace(super().sample(size, generator), context=self.told.expand(size, 1, 1))


def test_what_a_task_learns_is_not_lost_in_a_pool():
    with pytest.raises(ValueError, match="Learned would learn nothing of what its context is made of"):
        SamplePool(4).draw(Learned(), 4, generator())
    # New samples of a pool of memories are no older than the update.
    pool, task = SamplePool(4, reseed=0, memory_channels=1), Learned()
    for _ in range(2):
        index, batch = pool.draw(task, 4, generator())
        task.told.grad = None
        (batch.x.sum() + batch.context.sum()).backward()
        assert float(task.told.grad) == 4.0
        pool.put(index, batch.x, steps=1)
        assert not pool.samples.x.requires_grad


def test_a_saved_pool_goes_on_alike():
    pool, task = filled(reseed=1, damage=1)
    other, twin = SamplePool(8, reseed=1, damage=1), Level()
    twin.made = task.made
    other.load_state_dict(pool.state_dict())
    for seed in range(3):
        (index, batch), (twin_index, twin_batch) = (
            each.draw(own, 4, generator(seed)) for each, own in ((pool, task), (other, twin))
        )
        assert torch.equal(index, twin_index)
        for name, tensor in batch.tensors().items():
            assert torch.equal(tensor, twin_batch.tensors()[name])
        pool.put(index, batch.x + 1, steps=2)
        other.put(index, batch.x + 1, steps=2)
    assert torch.equal(pool.age, other.age)
    with pytest.raises(ValueError, match="8 samples, the saved one 4"):
        other.load_state_dict(SamplePool(4).state_dict())


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"size": 4, "reseed": -1}, {"size": 4, "damage": -1}, {"size": 4, "max_age": 0}]
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must be positive"):
        SamplePool(**options)


def test_a_batch_must_fit():
    with pytest.raises(ValueError, match="at most the pool's 4 samples"):
        SamplePool(4).draw(Level(), 5, generator())
    with pytest.raises(ValueError, match="at least the 2 \\+ 1"):
        SamplePool(4, reseed=2, damage=1).draw(Level(), 2, generator())


def test_the_default_damage_empties_a_ball():
    class Plain(Level):
        damage = Task.damage

    task = Plain()
    task.lattice = Lattice((12, 12))
    batch = task.damage(Batch(torch.ones(20, 144, 3)), generator())
    positions = task.lattice.positions.double()
    for state in batch.x:
        gone = state[:, 0] == 0
        assert torch.equal(state, (~gone).to(state)[:, None].expand(-1, 3))
        assert 0 < gone.sum() < 144
        # There is a centre: a cell that is nearer to all that is gone than to the nearest that is not.
        distance = torch.cdist(positions, positions)
        inner = distance.masked_fill(~gone, -1).amax(1)
        outer = distance.masked_fill(gone, 1e9).amin(1)
        assert (inner < outer).any()
