"""The 2-D ARC: grids laid out, automata of many tasks beside single ones, fitted, judged and drawn."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

from cellgraph.automata import AutomatonSettings, SamplePool, on_lattice, train_automaton
from cellgraph.automata.automaton import Automaton
from cellgraph.automata.tasks.arc2d import task as arc2d_task
from cellgraph.automata.tasks.arc2d.attempts import Attempt, Judgement, attempt, interval
from cellgraph.automata.tasks.arc2d.automata import GridAutomata, GridReadout, grid_loss
from cellgraph.automata.tasks.arc2d.colours import free_colours, permuted
from cellgraph.automata.tasks.arc2d.fitting import Fitting, answered
from cellgraph.automata.tasks.arc2d.grids import GridPair, GridTask, read_grids
from cellgraph.automata.tasks.arc2d.layout import OUTSIDE, GridLayout, turns
from cellgraph.automata.tasks.arc2d.task import Arc2D
from cellgraph.automata.tasks.arc2d.walk import walk
from cellgraph.lattice import Lattice
from cellgraph.nn import NCACell
from cellgraph.testing import randomise
from cellgraph.unroll import rollout

OFFSETS = Lattice((3, 3), 8).offsets
PARTS = {"perception": {"name": "stencil", "num_filters": 2}, "update": {"name": "mlp", "hidden": 7}, "norm": "rms"}
QUICK = {"updates": 2, "votes": 2, "last": 1}


def made(lattice, context_channels, channels=5):
    """A cell that does something."""
    cell = NCACell(lattice, channels, **PARTS, step_size=0.5, context_channels=context_channels)
    randomise(cell, std=0.4)
    return cell


def drawn(height, width, seed=0):
    random = np.random.default_rng(seed)
    return GridPair(*(random.integers(0, 10, (height, width)) for _ in range(2)))


def recoloured(name, colour, other, tests=1, sizes=((3, 4), (2, 5))):
    """A task: a colour becomes another one."""
    random = np.random.default_rng(colour)
    pairs = []
    for shape in (*sizes, *[(3, 3)] * tests):
        source = random.integers(0, 2, shape) * colour
        source.flat[0] = colour
        pairs.append(GridPair(source, np.where(source == colour, other, source)))
    return GridTask(name, tuple(pairs[: len(sizes)]), tuple(pairs[len(sizes) :]))


def as_json(task):
    parts = {"train": task.demonstrations, "test": task.tests}
    return {n: [{"input": p.source.tolist(), "output": p.target.tolist()} for p in pairs] for n, pairs in parts.items()}


@pytest.fixture
def path(tmp_path):
    """Eight tasks to learn from, two to judge, and one of each set whose grids change their shapes."""
    tasks = {"train": [recoloured(f"t{c}", c, 9 - c) for c in range(1, 9)]}
    tasks["eval"] = [recoloured("e1", 1, 3, tests=2), recoloured("e2", 5, 3)]
    sets = {part: {task.name: as_json(task) for task in some} for part, some in tasks.items()}
    for some in sets.values():
        some["other"] = {"train": [{"input": [[1]], "output": [[1, 1]]}], "test": [{"input": [[1]], "output": [[1]]}]}
    file = tmp_path / "arc.json"
    file.write_text(json.dumps(sets))
    return file


def experiment(path, **options):
    torch.manual_seed(0)
    task = Arc2D(path, channels=5, vector_channels=3, fitting=Fitting(**QUICK), **options)
    return task, made(task.lattice, task.context_channels)


@pytest.mark.parametrize("neighbourhood", [4, 8])
def test_each_row_walks_as_its_own_cell_on_a_lattice(neighbourhood):
    offsets = Lattice((3, 3), neighbourhood).offsets
    rows = [[drawn(2, 3, 1), drawn(4, 2, 2)], [drawn(1, 5, 3)]]
    layout = GridLayout.of(rows, offsets)
    cells = [made(Lattice((3, 3), neighbourhood), 4).double() for _ in rows]
    names = [name for name, _ in cells[0].named_parameters()]
    weights = {name: torch.stack([dict(c.named_parameters())[name] for c in cells]) for name in names}
    x = torch.randn(2, layout.source.size(1), 5, dtype=torch.float64, requires_grad=True)
    context = torch.randn(2, layout.source.size(1), 4, dtype=torch.float64)
    states = walk(cells[0], weights, layout, x, context, num_steps=3)
    probe = torch.randn_like(x)
    (states[-1] * probe).sum().backward()
    found = {name: [dict(c.named_parameters())[name].grad for c in cells] for name in names}
    given = x.grad.clone()
    for cell in cells:
        cell.zero_grad()
    x.grad = None
    for row, (pairs, cell) in enumerate(zip(rows, cells, strict=True)):
        start = 0
        for pair in pairs:
            own, lattice = slice(start, start + pair.cells), Lattice(pair.source.shape, neighbourhood)
            options = {"num_steps": 3, "context": context[row : row + 1, own], "trajectory": True}
            alone = rollout(cell.on(lattice), x[row : row + 1, own], **options)
            assert torch.allclose(torch.stack(states)[:, row, own], alone.trajectory[:, 0], atol=1e-6)
            start += pair.cells
        assert (states[-1][row, start:] == 0).all()
        # With the very weights, for their gradients.
        total, start = 0.0, 0
        for pair in pairs:
            own = slice(start, start + pair.cells)
            there = on_lattice(cell, Lattice(pair.source.shape, neighbourhood))
            end = rollout(there, x[row : row + 1, own], num_steps=3, context=context[row : row + 1, own]).x
            total = total + (end * probe[row : row + 1, own]).sum()
            start += pair.cells
        total.backward()
        for name, parameter in cell.named_parameters():
            assert torch.allclose(found[name][row], parameter.grad, atol=1e-5), name
    assert torch.allclose(given, x.grad, atol=1e-5)


def test_products_in_bfloat16_come_near():
    layout = GridLayout.of([[drawn(5, 6)]], OFFSETS)
    cell = made(Lattice((3, 3), 8), 4)
    weights = {name: p.detach()[None] for name, p in cell.named_parameters()}
    x, context = torch.randn(1, 30, 5), torch.randn(1, 30, 4)
    whole, half = (walk(cell, weights, layout, x, context, num_steps=4, half=half)[-1] for half in (False, True))
    assert 0 < (whole - half).abs().max() < 0.1 * whole.abs().max()


@pytest.mark.parametrize("way", range(8))
def test_a_turned_layout_is_that_of_the_turned_grid(way):
    pair = drawn(3, 5)
    cell, readout = made(Lattice((3, 3), 8), 12), GridReadout(5)
    automata = GridAutomata.alike(cell, readout, torch.randn(1, 2))
    taps = turns(OFFSETS)[way]
    (found,) = automata.answer(GridLayout.of([[pair]], OFFSETS).turned(taps), 3)
    found = found.view(3, 5, 10)
    # The grid itself, turned in each way: one of them, and no other, gives what the turned directions give.
    agree = []
    for mirror in (False, True):
        for quarter in range(4):

            def turned(array, mirror=mirror, quarter=quarter):
                array = np.flip(array, 1) if mirror else array
                return np.rot90(array, quarter).copy()

            source = turned(pair.source)
            (one,) = automata.answer(GridLayout.of([[GridPair(source, source)]], OFFSETS), 3)
            expected = turned(found.detach().numpy())
            agree.append(bool(np.allclose(one.detach().view(*source.shape, 10).numpy(), expected, atol=1e-4)))
    assert sum(agree) == 1
    assert agree[0] == (way == 0)


def test_gradients_pass_a_turned_layout():
    cell = made(Lattice((3, 3), 8), 12).double()
    layout = GridLayout.of([[drawn(2, 3)]], OFFSETS).turned(turns(OFFSETS)[1])
    weights = {name: p.detach()[None].requires_grad_() for name, p in cell.named_parameters()}
    context = torch.randn(1, 6, 12, dtype=torch.float64)

    def end(x):
        return walk(cell, weights, layout, x, context, num_steps=2)[-1]

    x = torch.randn(1, 6, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(end, x, atol=1e-5)
    # The step's backward is written by hand, and refuses to be differentiated itself.
    (grad,) = torch.autograd.grad(end(x).pow(3).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_rows_of_a_layout_are_selected_and_coloured():
    rows = [[drawn(2, 3, 1), drawn(1, 2, 2)], [drawn(1, 3, 3)]]
    layout = GridLayout.of(rows, OFFSETS)
    alone = layout.select(torch.tensor([1]))
    fresh = GridLayout.of(rows[1:], OFFSETS)
    for name in ("source", "target", "grid", "neighbours"):
        assert torch.equal(getattr(alone, name), getattr(fresh, name)), name
    colours = torch.stack([torch.arange(10), torch.arange(10).flip(0)]).expand(2, 2, 10)
    seen = layout.coloured(colours)
    assert seen.source[0, :6].tolist() == rows[0][0].source.ravel().tolist()
    assert seen.target[0, 6:8].tolist() == (9 - rows[0][1].target).ravel().tolist()
    assert (seen.source[1, 3:] == OUTSIDE).all()


def test_only_free_colours_change_places():
    task = recoloured("t", 4, 7)
    # 4 is in all demonstrations, 7 new in a target, 0 the background.
    assert free_colours(task) == [1, 2, 3, 5, 6, 8, 9]
    found = permuted([free_colours(task), []], 50, torch.Generator().manual_seed(0))
    assert (found.sort(-1).values == torch.arange(10)).all()
    assert (found[0][:, [0, 4, 7]] == torch.tensor([0, 4, 7])).all()
    assert (found[1] == torch.arange(10)).all()
    # Each free colour comes to each free place.
    assert {*found[0, :, 1].tolist()} == {1, 2, 3, 5, 6, 8, 9}


def test_the_loss_is_that_of_the_cells_counted_by_hand():
    pair = GridPair(np.array([[1, 2, 3, 4]]), np.array([[1, 2, 3, 5]]))
    layout = GridLayout.of([[pair], [drawn(2, 3)]], OFFSETS)
    logits = torch.randn(2, 6, 10)
    each = [-float(logits[0, i].log_softmax(-1)[c]) for i, c in enumerate([1, 2, 3, 5])]
    expected = 0.25 * sum(each) / 4 + 0.75 * (sum(each[:3]) / 3 + each[3]) / 2
    assert float(grid_loss(logits, layout, balance=0.75)[0]) == pytest.approx(expected, rel=1e-5)


def test_votes_over_colourings_keep_the_colours(path):
    task, cell = experiment(path)
    # An automaton that keeps what is there does so in any colours and turned in any way.
    torch.nn.init.zeros_(task.readout.colour.weight)
    torch.nn.init.zeros_(task.readout.colour.bias)
    automata = GridAutomata.alike(cell, task.readout, torch.zeros(1, 3))
    layout = GridLayout.of([[drawn(3, 4), drawn(2, 2)]], OFFSETS)
    options = {"num_steps": 2, "turned": True, "generator": torch.Generator().manual_seed(0)}
    found = answered(automata, layout, OFFSETS, [range(10)], Fitting(votes=8), **options)
    assert torch.equal(found, layout.source)


def test_shares_of_tasks_and_grids_are_counted_by_hand():
    two, one = recoloured("two", 1, 3, tests=2), recoloured("one", 5, 3)
    wrong = np.zeros((3, 3), dtype=int)
    judgement = Judgement()
    targets = [pair.target for pair in two.tests]
    # The first test by one attempt, the second by the other.
    judgement.add([Attempt(two, (targets[0], wrong), True, None), Attempt(one, (wrong,), False, None)])
    judgement.add([Attempt(two, (wrong, targets[1]), False, None), Attempt(one, (wrong,), False, None)])
    figures = judgement.figures()
    assert judgement.solved() == ["two"]
    assert figures["solved"] == 0.5
    assert figures["solved_first"] == 0
    assert figures["fitted"] == 0.5
    assert figures["grids"] == pytest.approx(2 / 3)
    assert (figures["solved_low"], figures["solved_high"]) == interval(1, 2)


def test_the_interval_is_that_of_wilson():
    # Newcombe 1998, table I: 81 of 263, method 3.
    assert interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_tasks_are_read_that_keep_their_shapes(path, tmp_path):
    sets = read_grids(path)
    assert [task.name for task in sets["train"]] == [f"t{c}" for c in range(1, 9)]
    assert np.array_equal(sets["eval"][1].tests[0].source, recoloured("e2", 5, 3).tests[0].source)
    for content, message in [
        ("[1]", "sets of tasks"),
        ("[" * 100_000, "sets of tasks"),
        ('{"train": {"a": {"train": []}}}', "a task of the ARC"),
        ('{"train": {"../a": {"train": []}}}', "a name that a file can have, got '../a'"),
        ('{"train": {"a": {"train": [], "test": []}}}', "demonstrations and tests"),
        ('{"train": {"a": {"train": [{"input": [[10]], "output": [[1]]}], "test": []}}}', "colours must be 0 to 9"),
        ('{"train": {"a": {"train": [{"input": [[1], [1, 2]], "output": [[1]]}], "test": []}}}', "task of the ARC"),
    ]:
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            read_grids(tmp_path / "bad.json")


def test_fitted_automata_solve_a_task_from_scratch(path):
    torch.manual_seed(0)
    task = Arc2D(
        path, channels=8, vector_channels=2, scratch=True, fitting=Fitting(updates=60, lr=2e-2, last=1, votes=1)
    )
    cell = NCACell(task.lattice, 8, **PARTS, step_size=0.5, context_channels=task.context_channels)
    before = {name: p.clone() for name, p in cell.state_dict().items()}
    figures = task.evaluate(cell, num_steps=2)
    assert figures["solved"] == figures["fitted"] == figures["grids"] == 1
    assert figures["seconds"] > 0
    assert all(torch.equal(before[name], p) for name, p in cell.state_dict().items())


def test_targets_of_tests_do_not_change_the_answers(path):
    task, cell = experiment(path)
    judgement, _ = task.judge_tasks(cell, num_steps=2)
    first = {name: made[0].answers for name, made in judgement.attempts.items()}
    task.judged_tasks = [
        GridTask(t.name, t.demonstrations, tuple(GridPair(p.source, 9 - p.target) for p in t.tests))
        for t in task.judged_tasks
    ]
    judgement, _ = task.judge_tasks(cell, num_steps=2)
    for name, made in judgement.attempts.items():
        assert all(map(np.array_equal, made[0].answers, first[name]))


def test_what_is_judged_is_not_learned_from(path):
    kept = ["t1", "t2", "t3", "t5", "t6", "t7"]
    for judged, names in (("evaluation", ["e1", "e2"]), ("validation", ["t4", "t8"])):
        task = Arc2D(path, judged=judged)
        assert sorted(t.name for t in task.learned) == kept
        assert [t.name for t in task.judged_tasks] == names
    subsets = [
        [t.name for t in Arc2D(path, judged="training", scratch=True, subset=4, subset_seed=s).judged_tasks]
        for s in (1, 1, 2)
    ]
    assert subsets[0] == subsets[1] != subsets[2]
    assert len(set(subsets[0])) == 4


@pytest.mark.parametrize("scratch", [False, True])
def test_it_learns_judges_and_draws(path, tmp_path, scratch, monkeypatch):
    task, cell = experiment(path, scratch=scratch)
    settings = AutomatonSettings(max_steps=3, batch_size=2, num_steps=(2, 2), accelerator="cpu", val_every=3)
    before = [p.clone() for p in task.parameters()]
    model = train_automaton(cell, task, settings, progress=False).model
    assert any(not torch.equal(a, b) for a, b in zip(before, task.parameters(), strict=True))
    fitted = []
    monkeypatch.setattr(arc2d_task, "attempt", lambda *given, **how: (fitted.append(1), attempt(*given, **how))[1])
    figures, draw = task.examine(model.cell, num_steps=2)
    assert figures["tasks"] == 2
    files = draw(tmp_path)
    # Once for the figures and the pictures; and anew for another cell, whatever was judged before.
    assert len(fitted) == len(task.turned)
    task.draw(cell, tmp_path, num_steps=2)
    assert len(fitted) == 2 * len(task.turned)
    assert sorted(file.name for file in files) == ["arc2d.md", "arc2d_e1.png", "arc2d_e2.png"]
    assert "17 of 277" in files[-1].read_text()


def test_a_start_from_what_was_learned_answers_as_the_task_does(path):
    """Unfitted automata with a task's own vector are what training trains."""
    task, cell = experiment(path)
    batch = task.sample(3, torch.Generator().manual_seed(0))
    x = task.run(cell, batch, num_steps=2).x
    automata = GridAutomata.alike(cell, task.readout, task.vectors(batch.kind))
    (logits,) = automata.answer(batch.layout, 2)
    assert torch.allclose(task.loss(x, batch), grid_loss(logits, batch.layout, balance=0.5), atol=1e-5)


def test_as_many_samples_are_drawn_as_are_asked_for(path):
    task, _ = experiment(path)
    batch = task.sample(50, torch.Generator().manual_seed(0))
    assert len(batch) == len(batch.kind) == 50
    # Six tasks of three pairs: each of the 18 comes twice, and some a third time.
    counts = batch.kind.bincount()
    assert len(counts) == 6
    assert counts.min() >= 6
    assert counts.max() <= 9


@pytest.mark.parametrize("scratch", [False, True])
def test_a_seed_is_one_of_the_attempts_too(path, scratch):
    """Of their fresh weights and of what is drawn while they are fitted; no attempt of one seed is another's."""

    def weights(seed):
        task, cell = experiment(path, scratch=scratch, seed=seed, turned=(False, False))
        # Enough updates that none sees the same demonstrations in the same order by chance.
        task.fitting = Fitting(**QUICK | {"updates": 12})
        return [made.automaton.vector for made in task.judge_tasks(cell, num_steps=2)[0].attempts["e1"]]

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    found = [*first, *other]
    assert len(found) == 4
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(found, 2))


def test_what_does_not_fit_is_refused(path):
    for options in ({"judged": "all"}, {"judged": "training"}, {"subset": 3}, {"together": 0}, {"turned": ()}):
        with pytest.raises(ValueError, match=r"must be|from scratch"):
            Arc2D(path, **options)
    task, _ = experiment(path)
    task.pool = SamplePool(4)
    with pytest.raises(ValueError, match="pool"):
        task.lesson(AutomatonSettings())
    plain = NCACell(task.lattice, 5, context_channels=task.context_channels)
    with pytest.raises(ValueError, match="norm 'rms', got 'none'"):
        task.check(type("Made", (), {"cell": plain}), AutomatonSettings())
    fits, task.pool = Automaton(made(task.lattice, task.context_channels), task), None
    task.check(fits, AutomatonSettings())
    with pytest.raises(ValueError, match=r"training\.precision must be 32-true, got bf16-mixed"):
        task.check(fits, AutomatonSettings(precision="bf16-mixed"))
    for options in ({"compile": True}, {"remat_every": 2}):
        with pytest.raises(ValueError, match=r"training\.remat_every must be 0 and training\.compile false, got"):
            task.check(fits, AutomatonSettings(**options))
    # What training refuses is refused without it, too: it would be computed as if it were another cell.
    for call in (lambda: task.evaluate(plain, num_steps=2), lambda: task.validate(plain, num_steps=2)):
        with pytest.raises(ValueError, match="norm 'rms', got 'none'"):
            call()
    with pytest.raises(ValueError, match="opposite"):
        GridLayout.of([[drawn(2, 2)]], [(0, 1)])
    with pytest.raises(ValueError, match="rotations"):
        turns([(0, 1), (0, -1)])
    told = {**PARTS, "perception": {**PARTS["perception"], "trainable": False}}
    fixed = NCACell(task.lattice, 5, **told, context_channels=task.context_channels)
    with pytest.raises(ValueError, match="perception must be learned, got trainable False"):
        task.check(type("Made", (), {"cell": fixed}), AutomatonSettings())
    for options in ({"updates": 0}, {"lr": 0.0}, {"ema": 1.0}, {"balance": 2.0}, {"updates": 1e2}, {"lr": math.nan}):
        with pytest.raises(ValueError, match="must be"):
            Fitting(**options)


def test_a_batch_of_grids_names_its_tensors_alone(path):
    """They are what an update that is not finite is saved with."""
    task, _ = experiment(path)
    batch = task.sample(2, torch.Generator().manual_seed(0))
    assert {"x", "target", "context", "kind"} == set(batch.tensors())
    assert all(isinstance(tensor, torch.Tensor) for tensor in batch.tensors().values())


@pytest.mark.parametrize(("instructions", "taken"), [("avx2", False), ("avx512_bf16", True)])
def test_products_are_in_bfloat16_where_there_are_instructions_for_it(path, monkeypatch, instructions, taken):
    """By the rounding of what comes out; without instructions a product would take ten times as long."""
    monkeypatch.setattr(arc2d_task, "multiplies_bfloat16", lambda device: instructions == "avx512_bf16")
    rough, cell = experiment(path, half_products=True)
    whole, _ = experiment(path)
    whole.load_state_dict(rough.state_dict())
    batch = rough.sample(2, torch.Generator().manual_seed(0))
    ends = [task.run(cell, batch, num_steps=2).x for task in (rough, whole)]
    assert torch.equal(*ends) is not taken


def test_a_task_is_a_module_still(path):
    """No setting stands in the place of a method of modules."""
    task, _ = experiment(path, half_products=True)
    assert {*vars(task)}.isdisjoint(dir(torch.nn.Module))
