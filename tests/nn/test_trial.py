"""The trial of ways to take a step: decisions on times that are made up, and one real."""

from __future__ import annotations

import copy
import math
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

from cellgraph import CellGraph, GMLPCell, Graph, Lattice, NCACell
from cellgraph.nn import trial as module
from cellgraph.nn.trial import Trial, Way
from cellgraph.ops import choice as races
from cellgraph.ops import find_backend
from cellgraph.ops.choice import kept_choices
from cellgraph.ops.fused import load_operators
from cellgraph.ops.fused.backend import Fused
from cellgraph.testing import randomise

BARE = "without neighbour sums"
EAGER = {"fused": 1.0, "stencil": 5.0, "conv": 9.0, "scatter": 7.0, "segment": 7.0}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_operators()  # they would be built anew in that cache
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path))


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch):
    """Has every way take seconds that are made up, on a clock that nothing else moves; and lists the ways that ran."""
    clock, ran = [0.0], []
    monkeypatch.setattr(races.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(Fused, "load", lambda self: True)

    def set_times(times: dict[str, float]) -> list[str]:
        def run(self: Trial, way: Way | None):
            name = BARE if way is None else str(way)

            def call(samples: int, steps: int) -> None:
                if times[name] == math.inf:
                    raise RuntimeError("does not run")
                ran.append(name)
                clock[0] += 0.001 * times[name] * samples * steps

            return call

        monkeypatch.setattr(Trial, "_run", run)
        return ran

    return set_times


def new_cell(**options: object) -> GMLPCell:
    return GMLPCell(Lattice((3, 4, 5)), 16, hidden=16, heads=4, **options)


def state(samples: int = 8, channels: int = 16) -> torch.Tensor:
    return torch.zeros(samples, 60, channels)


def test_what_is_faster_than_any_compiled_step_spares_the_compiling(pretend) -> None:
    ran = pretend({**EAGER, BARE: 1.0, "stencil, compiled": 4.0})
    way, choice = Trial(new_cell(), state()).fastest()
    assert (str(way), way.backend.takes_steps) == ("fused", True)
    assert "stencil, compiled" not in ran
    assert set(choice.seconds) >= {"fused", "stencil", "conv", "scatter"}
    assert BARE not in choice.seconds


def test_an_operator_that_is_slow_here_has_the_stencil_compiled(pretend, capsys) -> None:
    ran = pretend({**EAGER, "fused": 4.0, BARE: 2.0, "stencil, compiled": 3.0})
    way, _ = Trial(new_cell(), state()).fastest()
    assert (way.backend.name, way.compiled) == ("stencil", True)
    assert "trying the compiled step too" in capsys.readouterr().err
    ran.clear()
    # Where it may not be compiled, it is not, and the rest is tried for itself.
    way, _ = Trial(new_cell(), state(), compiling=False).fastest()
    assert str(way) == "fused"
    assert "stencil, compiled" not in ran


@pytest.mark.parametrize("seed", range(20))
def test_no_way_is_more_than_a_twentieth_faster(pretend, seed: int) -> None:
    drawn = torch.rand(6, generator=torch.Generator().manual_seed(seed)).tolist()
    bare = 0.5 + drawn[0]
    # No sum is for nothing, and a compiled step takes its time without the sums at least.
    times = {name: bare + 6 * share for name, share in zip(("stencil", "conv", "scatter"), drawn[1:4], strict=True)}
    times |= {"fused": 4 * drawn[4], "stencil, compiled": bare * (1.3 + drawn[5]), BARE: bare, "segment": 99.0}
    pretend(times)
    way, _ = Trial(new_cell(), state()).fastest()
    assert times[str(way)] <= 1.05 * min(value for name, value in times.items() if name != BARE)


def test_a_choice_is_made_once_for_a_case(pretend) -> None:
    ran = pretend({**EAGER, BARE: 1.0, "stencil, compiled": 4.0})
    Trial(new_cell(), state()).fastest()
    assert ran
    ran.clear()
    for like in (state(), state(3)):
        assert str(Trial(new_cell(), like).fastest()[0]) == "fused"
    assert not ran
    one_sample, half_as_wide = state(1), partial(GMLPCell, Lattice((3, 4, 5)), 16, hidden=8, heads=4)
    others = [(new_cell(), one_sample), (half_as_wide(), state()), (new_cell().double(), state().double())]
    for cell, like in others:
        ran.clear()
        Trial(cell, like).fastest()
        assert ran
    ran.clear()
    with torch.no_grad():
        Trial(new_cell(), state()).fastest()
    assert ran
    ran.clear()
    with torch.autocast("cpu", torch.bfloat16):
        Trial(new_cell(), state()).fastest()
    assert ran
    assert len(list(kept_choices())) == 6


def test_what_does_not_run_is_left_out(pretend) -> None:
    pretend({**EAGER, "fused": math.inf, BARE: 1.0, "stencil, compiled": math.inf})
    way, choice = Trial(new_cell(), state()).fastest()
    assert str(way) == "stencil"
    assert "fused" not in choice.seconds


class OutOfResourcesError(Exception):
    """As Triton's: a kernel that does not fit the device."""

    __module__ = "triton.runtime.errors"


def test_a_kernel_that_does_not_fit_is_left_out_and_a_fault_of_the_cell_is_not(pretend, monkeypatch) -> None:
    pretend({**EAGER, BARE: 0.9})
    made = Trial._run

    def failing(error: Exception):
        def run(self: Trial, way: Way | None):
            def call(samples: int, steps: int) -> None:
                raise error

            return call if way is not None and way.backend.name == "conv" else made(self, way)

        return run

    cell = new_cell()
    x = state()
    monkeypatch.setattr(Trial, "_run", failing(OutOfResourcesError("shared memory")))
    way, choice = Trial(cell, x).fastest()
    assert str(way) == "fused"
    assert choice is not None
    assert "conv" not in choice.seconds
    monkeypatch.setattr(Trial, "_run", failing(TypeError("unexpected")))
    with pytest.raises(TypeError, match="unexpected"):
        Trial(cell, torch.zeros(2, 60, 16, dtype=torch.float64)).fastest()


def test_where_nothing_runs_the_default_is_believed_in_and_nothing_kept(pretend) -> None:
    pretend(dict.fromkeys((*EAGER, BARE, "stencil, compiled"), math.inf))
    way, choice = Trial(new_cell(sharing="layer"), state()).fastest()
    assert str(way) == "stencil, compiled"
    assert choice is None
    assert not list(kept_choices())


def test_a_damaged_choice_is_measured_again(pretend, tmp_path: Path) -> None:
    ran = pretend({**EAGER, BARE: 1.0})
    Trial(new_cell(), state()).fastest()
    (path,) = (tmp_path / "operators").glob("choice-*.json")
    kept = path.read_bytes()
    for content in (b"{", kept.replace(b'"fused": ', b'"teleport": ')):
        path.write_bytes(content)
        ran.clear()
        assert str(Trial(new_cell(), state()).fastest()[0]) == "fused"
        assert ran
        (choice,) = kept_choices()
        assert choice.fastest == "fused"


def test_a_graph_has_its_ways_and_a_giant_is_not_tried(pretend, monkeypatch) -> None:
    ran = pretend({**EAGER, "scatter": 3.0, "scatter, compiled": 2.0, "segment, compiled": 2.5, BARE: 1.0})
    ring = Graph(torch.stack([torch.arange(60), (torch.arange(60) + 1) % 60]), 60)
    cell = GMLPCell(ring, 16, hidden=16, heads=4)
    assert str(Trial(cell, state()).fastest()[0]) == "scatter, compiled"
    monkeypatch.setattr(module, "LARGEST", 59)
    ran.clear()
    assert str(Trial(new_cell(), state()).fastest()[0]) == "fused"
    assert str(Trial(new_cell(sharing="layer"), state()).fastest()[0]) == "stencil, compiled"
    assert not ran


def test_who_names_a_backend_has_it(pretend) -> None:
    ran = pretend({})
    for name, compiled in (("conv", False), ("stencil", True), ("scatter", True)):
        cell = new_cell(backend=name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cell.compile_step()
        assert Trial(cell, state()).fastest() == (Way(find_backend(name), compiled=compiled), None)
    assert not ran


def rolled(cell, x: torch.Tensor, steps: int = 2) -> torch.Tensor:
    from cellgraph import rollout

    return rollout(cell, x, num_steps=steps).x


def test_a_real_trial_measures_all_and_disturbs_nothing() -> None:
    cell = new_cell()
    randomise(cell)
    x = torch.randn(3, 60, 16, requires_grad=True)
    wanted = rolled(copy.deepcopy(cell), x)
    before = {name: value.clone() for name, value in cell.state_dict().items()}
    cell.compile_step(compiling=False)
    drawn = torch.get_rng_state()
    found = rolled(cell, x)
    assert torch.equal(torch.get_rng_state(), drawn)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in cell.state_dict().items())
    assert x.grad is None
    assert all(parameter.grad is None for parameter in cell.parameters())
    (choice,) = kept_choices()
    assert set(choice.seconds) >= {"stencil", "conv", "scatter"}
    assert cell.taken.split(",")[0] == cell.neighbour_sum.chosen.name == choice.fastest
    # Training goes on from there as if nothing had been.
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in cell.parameters())


def test_each_occasion_has_its_way(pretend, monkeypatch) -> None:
    cell = NCACell(Lattice((3, 4, 5)), 16)
    pretend({"stencil": 1.0, "conv": 5.0, "scatter": 9.0, "segment": 9.0})
    cell.compile_step(compiling=False)
    rolled(cell, state())
    assert cell.neighbour_sum.chosen.name == "stencil"
    pretend({"stencil": 5.0, "conv": 1.0, "scatter": 9.0, "segment": 9.0})
    with torch.no_grad():
        rolled(cell, state())
    assert cell.taken.startswith("conv, 5 x as fast as stencil, 9 x as fast as s")
    assert cell.neighbour_sum.chosen.name == "conv"
    rolled(cell, state())
    assert cell.neighbour_sum.chosen.name == "stencil"


def test_a_copy_and_a_cell_with_another_backend_are_as_they_were(pretend) -> None:
    ran = pretend({**EAGER, "conv": 0.5, BARE: 1.0, "stencil, compiled": 9.0})
    cell = new_cell()
    cell.compile_step(compiling=False)
    rolled(cell, state())
    assert cell.taken
    twin = copy.deepcopy(cell)
    ran.clear()
    rolled(twin, state())
    assert not ran
    assert not twin.taken
    cell.backend = "scatter"
    rolled(cell, state())
    assert not ran
    assert not cell.taken


@pytest.mark.parametrize(
    ("backend", "compiling", "will"),
    [
        ("stencil", True, True),
        ("scatter", True, find_backend("scatter").compiles),
        ("fused", True, False),
        ("stencil", False, False),
    ],
)
def test_a_backend_asked_for_by_name_says_whether_it_will_be_compiled(backend, compiling, will) -> None:
    cell = GMLPCell(Lattice((3, 4, 5)), 16, hidden=8, backend=backend)
    cell.compile_step(compiling=compiling)
    (way,) = Trial(cell, state(), compiling=compiling).ways()
    assert cell.will_compile == way.compiled == will


def test_a_light_cone_is_tried_against_its_tables() -> None:
    model = CellGraph(new_cell(), in_features=16, surface_channels=1, num_steps=3)
    randomise(model.cell)
    question = torch.randn(4, 16)
    wanted = copy.deepcopy(model)(question).embedding
    model.compile_step(compiling=False)
    torch.testing.assert_close(model(question).embedding, wanted, rtol=1e-4, atol=1e-5)
    (choice,) = kept_choices()
    assert choice.case["rollout"].startswith("light cone of 3 steps")
    assert "tables" in choice.seconds


def test_a_transform_an_export_and_a_context_are_no_occasion(pretend) -> None:
    ran = pretend({**EAGER, BARE: 1.0})
    cell = new_cell()
    cell.compile_step(compiling=False)
    torch.func.jacrev(lambda x: cell(x).sum(-1))(state(1))
    assert not ran
    cell = new_cell(context_channels=3)
    ways = Trial(cell, state(), context=True, compiling=False).ways()
    assert not any(way.backend.takes_steps for way in ways)


@pytest.mark.slow
def test_a_compiled_step_wins_where_nothing_else_does() -> None:
    """A cell whose backend is measured for real, its compiled step included."""
    cell = GMLPCell(Lattice((6, 8, 8)), 16, hidden=32, sharing="layer")
    randomise(cell)
    x = torch.randn(2, 384, 16)
    wanted = rolled(copy.deepcopy(cell), x)
    cell.compile_step()
    torch.testing.assert_close(rolled(cell, x), wanted, rtol=1e-4, atol=1e-4)
    (choice,) = kept_choices()
    assert "stencil, compiled" in choice.seconds
    assert (cell._compiled_call_impl is not None) == choice.fastest.endswith("compiled")
