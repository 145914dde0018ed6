"""CellGraph: the identity at the start, reach, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import small

from cellgraph import CellGraph, GMLPCell, Graph, Lattice
from cellgraph.cone import LightCone
from cellgraph.lattice import BOUNDARIES
from cellgraph.unroll import rollout


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_new_network_is_the_identity_from_face_to_face(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.integers(1, 7)) for _ in range(3))
    boundary = tuple(data.draw(st.sampled_from(BOUNDARIES if size >= 3 else ("open",))) for size in shape)
    lattice = Lattice(shape, data.draw(st.sampled_from([6, 18, 26])), boundary=boundary)
    ends = data.draw(st.sampled_from([("front", "back"), ("bottom", "top"), ("left", "right"), ("front", "front")]))
    axis = {"front": 0, "bottom": 1, "left": 2}[ends[0]]
    hops = shape[axis] - 1 if ends[0] != ends[1] else 0
    num_steps = data.draw(st.integers(max(hops, 1), max(hops, 1) + 8))
    injection = data.draw(st.sampled_from(["once", "clamped"]))
    rate = data.draw(st.sampled_from([1.0, 0.5]))
    # With half the updates left out on average, a signal needs about twice the steps to arrive at full strength.
    num_steps = num_steps if rate == 1.0 else 2 * num_steps
    size = data.draw(st.sampled_from([1.0, 0.5]))
    cell = GMLPCell(lattice, 5, hidden=4, heads=2, fire_rate=rate, step_size=size).double()
    model = CellGraph(
        cell,
        in_features=4,
        num_steps=num_steps,
        surface_channels=2,
        path="none",
        adapter="linear",
        input_nodes=ends[0],
        output_nodes=ends[1],
        injection=injection,
    )
    model.double().eval()
    question = torch.randn(2, 4, dtype=torch.float64)
    surface = model.question_adapter.encode(question)
    out = model(question, trajectory=True)
    torch.testing.assert_close(out.surface, surface, rtol=1e-6, atol=1e-6)
    assert out.trajectory is not None
    assert float(out.trajectory.abs().max()) <= float(surface.abs().max()) * (1 + 1e-9)


@pytest.mark.parametrize("count", [6, 18, 26])
def test_a_new_network_is_the_identity_at_full_size(count: int) -> None:
    for num_steps in (10, 12, 14, 20):
        cell = GMLPCell(Lattice((11, 15, 15), count))
        model = CellGraph(
            cell, in_features=64, surface_channels=1, path="none", num_steps=num_steps, adapter="linear"
        ).eval()
        question = torch.randn(1, 64)
        torch.testing.assert_close(
            model(question).surface, model.question_adapter.encode(question), rtol=1e-4, atol=1e-4
        )


def test_the_scale_follows_the_steps_of_the_call() -> None:
    model = small(num_steps=(2, 9)).eval()  # type: ignore[arg-type]
    question = torch.randn(2, 9)
    for num_steps in range(2, 12):
        out = model(question, num_steps=num_steps)
        assert out.num_steps == num_steps
        torch.testing.assert_close(out.embedding, question, rtol=1e-4, atol=1e-4)
    drawn = {model.train()(question, generator=None).num_steps for _ in range(200)}
    assert drawn == set(range(2, 10))


def test_every_output_cell_feels_exactly_the_input_cells_within_reach() -> None:
    model = small(num_steps=3)
    for parameter in model.cell.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.double()
    lattice = model.lattice
    surface = torch.randn(1, 9, dtype=torch.float64)

    def through(values: torch.Tensor) -> torch.Tensor:
        x = model.input_surface.inject(values, num_channels=6)
        for _ in range(3):
            x = model.cell(x)
        return model.output_surface.extract(x)

    jacobian = torch.autograd.functional.jacobian(through, surface)[0, :, 0]
    for row, node in enumerate(model.output_surface.index.tolist()):
        distance = lattice.hops(torch.arange(27) == node)[model.input_surface.index]
        assert ((jacobian[row] != 0) == (distance <= 3)).all()


def test_a_rollout_too_short_is_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match=r"num_steps=1 .* over the 2 steps from .*'front'.*'back'.* num_steps >= 2"):
        small(num_steps=1)
    with pytest.raises(ValueError, match="num_steps=1"):
        small()(torch.randn(1, 9), num_steps=1)
    mask = torch.ones(3, 2, 2)
    mask[1] = 0
    with pytest.raises(ValueError, match="4 of 4 cells are cut off"):
        CellGraph(GMLPCell(Lattice((3, 2, 2), mask=mask)), in_features=4, surface_channels=1)


@pytest.mark.parametrize("surfaces", [{"input_nodes": ["front", "left"], "output_nodes": ["back", "right"]}])
def test_surfaces_that_no_shift_joins_still_get_the_signal(surfaces: dict) -> None:
    model = CellGraph(
        GMLPCell(Lattice((3, 3, 3)), 6, hidden=8),
        in_features=15,
        num_steps=6,
        path="none",
        **{"surface_channels": 1, **surfaces},
    )
    assert model.conveyor.direction is None
    assert model(torch.randn(2, 15)).surface.abs().min() > 0


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_an_answer_at_a_fixed_point_is_that_of_all_the_steps(size: float) -> None:
    cell = GMLPCell(Lattice((3, 3, 3)), 8, hidden=8)
    model = CellGraph(cell, in_features=9, surface_channels=1, path="none", injection="clamped", num_steps=20).eval()
    # All of the state moves on in a step: two steps later nothing changes any more.
    cell.set_conveyor(model.conveyor.direction, 1.0)
    question = size * torch.randn(2, 9)
    with torch.no_grad():
        expected = model(question)
        model.tolerance = 1e-6
        found = model(question)
        assert model(question[:0]).embedding.shape == (0, 9)
    assert found.num_steps < expected.num_steps == 20
    torch.testing.assert_close(found.embedding, expected.embedding)


def test_cells_that_want_a_context_are_refused_in_the_cone_too() -> None:
    lattice = Lattice((3, 3, 3))
    cell = GMLPCell(lattice, 8, hidden=8, context_channels=2)
    for cone in (None, LightCone(lattice, lattice.face("back"), 3, source=lattice.face("front"))):
        x = torch.zeros(2, 27 if cone is None else len(cone.own[0]), 8)
        with pytest.raises(ValueError, match=r"context must be \[batch, 1 or 27, 2\], got none"):
            rollout(cell, x, num_steps=3, cone=cone)


def test_memory_goes_in_and_comes_out() -> None:
    model = small(cell={"memory_channels": 2})
    first = model(torch.randn(2, 9))
    assert first.memory is not None
    assert first.memory.shape == (2, 27, 2)
    for parameter in model.cell.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    question = torch.randn(2, 9)
    remembered = model(question, model(torch.randn(2, 9)).memory)
    assert not torch.equal(remembered.embedding, model(question).embedding)
    assert small()(question).memory is None


def test_fitted_adapters_make_a_new_network_ridge_regression() -> None:
    from sklearn.linear_model import RidgeCV

    question, answer = torch.randn(200, 9), torch.randn(200, 9)
    answer = torch.nn.functional.normalize(answer + question @ torch.randn(9, 9), dim=1)
    model = small().eval()
    errors = model.fit_adapters(question, answer, start="ridge")
    assert errors["answer_reconstruction_error"] < 1e-6
    expected = RidgeCV(alphas=torch.logspace(-3, 3, 13).tolist()).fit(question.numpy(), answer.numpy())
    # Older versions predict in double precision.
    predicted = torch.as_tensor(expected.predict(question.numpy())).float()
    torch.testing.assert_close(model(question).embedding, predicted, rtol=1e-3, atol=2e-3)
    model.fit_adapters(question, answer, start="identity")
    moved = question - question.mean(0) + answer.mean(0)
    torch.testing.assert_close(model(question).embedding, moved, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="got 'zero'"):
        model.fit_adapters(question, answer, start="zero")


@pytest.mark.parametrize("path", ["linear", "none"])
def test_pairs_that_adapters_cannot_be_fitted_to_change_nothing(path: str) -> None:
    cell = GMLPCell(Lattice((3, 4, 4)), 8, hidden=8)
    model = CellGraph(cell, in_features=9, num_steps=4, path=path)
    question, answer = torch.randn(40, 9), torch.randn(40, 9)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    for start in ("identity", "ridge"):
        with pytest.raises(ValueError, match="as many questions as answers, at least one, got 40 and 25"):
            model.fit_adapters(question, answer[:25], start=start)
        for name, row in (("question", 7), ("answer", 39)):
            pairs = {"question": question.clone(), "answer": answer.clone()}
            pairs[name][row, 3] = float("nan")
            with pytest.raises(
                ValueError, match=f"{name} must be finite, got NaN or infinity in 1 rows, first in {row}"
            ):
                model.fit_adapters(**pairs, start=start)
        for pair, message in (
            ((question, answer[:, :8]), r"answers must have 9 features a row, got \[40, 8\]"),
            ((question[:9, 0], answer[:9, 0]), r"questions must have 9 features a row, got \[9\]"),
        ):
            with pytest.raises(ValueError, match=message):
                model.fit_adapters(*pair, start=start)
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())


def test_only_what_should_be_trained_is() -> None:
    model = small()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"answer_adapter.encoder.weight", "answer_adapter.encoder.bias"}
    assert not model.target_surface(torch.randn(2, 9)).requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"surface_channels": 7}, "fit the 6 channels"),
        ({"output_nodes": ["back", "left"]}, "equally wide, got 9 in and 15 out"),
        ({"injection": "drip"}, "got 'drip'"),
        ({"adapter": "magic"}, "got 'magic'"),
        ({"adapter": None}, "adapter must be one of .*, got None"),
        ({"adapter": {"name": ["pca"]}}, r"adapter must be one of .*, got \['pca'\]"),
        ({"adapter": {"name": "pca", "order": "rows"}}, "the adapter pca takes layout; got order"),
        ({"adapter": {"name": "linear", "in_features": 3}}, "the adapter linear takes no options; got in_features"),
        ({"num_steps": 0}, "num_steps must be positive"),
        ({"num_steps": (5, 4)}, "num_steps must be positive"),
    ],
)
def test_bad_arguments_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


@pytest.mark.parametrize("path", ["none", "linear"])
@pytest.mark.parametrize("width", [1, 8])
def test_embeddings_of_another_width_are_refused(path: str, width: int) -> None:
    model, x = small(path=path), torch.randn(4, width)
    calls = [lambda: model(x), lambda: model.target_surface(x), lambda: model.fit_adapters(x, x)]
    for call in [*calls, lambda: model.key(x)] if path == "linear" else calls:
        with pytest.raises(ValueError, match=rf"embeddings? must have 9 features, got {width}|questions must have 9"):
            call()


@pytest.mark.parametrize(("size", "move"), [(5, 2), (6, 2), (7, 3), (8, 2), (9, 3)])
def test_turns_around_a_ring_are_counted_by_the_length_of_a_move(size: int, move: int) -> None:
    lattice = Lattice((size,), [(-move,), (move,)], boundary="periodic")
    ends = [torch.arange(size) == node for node in (0, move)]
    cell = GMLPCell(lattice, 4, hidden=8, heads=2)
    model = CellGraph(
        cell, in_features=1, surface_channels=1, input_nodes=ends[0], output_nodes=ends[1], num_steps=20, path="none"
    )
    question = torch.randn(3, 1)
    torch.testing.assert_close(model(question).embedding, question)


@pytest.mark.parametrize("injection", ["once", "clamped"])
@pytest.mark.parametrize("missing", [[(0, 4)], [(0, 4), (1, 3)], [(1, 4)]])
def test_what_a_missing_cell_stops_does_not_come_round(missing: list[tuple[int, int]], injection: str) -> None:
    """Of two rings, one broken: what moves along them has no one amplitude, and is not taken for one."""
    mask = torch.ones(2, 5, dtype=torch.bool)
    for place in missing:
        mask[place] = False
    lattice = Lattice((2, 5), 8, boundary=("open", "periodic"), mask=mask)
    ends = [lattice.positions[:, 1] == column for column in (0, 2)]
    cell = GMLPCell(lattice, 4, hidden=8, heads=2)
    model = CellGraph(
        cell,
        in_features=2,
        surface_channels=1,
        input_nodes=ends[0],
        output_nodes=ends[1],
        num_steps=20,
        path="none",
        injection=injection,
    )
    question = torch.randn(3, 2)
    if len(missing) == 2 or injection == "clamped":
        torch.testing.assert_close(model(question).embedding, question)
    else:
        assert model.conveyor.direction is None


def test_a_signal_that_has_passed_is_no_answer() -> None:
    question = torch.randn(2, 9)
    # Made for the fewest steps that lead there, all of the signal moves on at each.
    model = small(2)
    assert torch.allclose(model(question).embedding, question, atol=1e-5)
    with pytest.raises(ValueError, match=r"after num_steps=3 nothing is left of a signal .* share 1 moves on"):
        model(question, num_steps=3)
    # Beside a path the answer is read without it.
    assert small(2, path="linear")(question, num_steps=3).embedding.isfinite().all()


@pytest.mark.parametrize("option", ["remat_every", "tolerance"])
def test_less_than_nothing_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}.* must not be negative, got .*-1"):
        small(**{option: -1})


def test_a_cone_takes_all_of_its_steps_or_none() -> None:
    model = small()
    cone = model.cone(4)
    assert cone is not None
    x = torch.randn(2, len(cone.own[0]), 6)
    with pytest.raises(ValueError, match="must not be negative, got 4 and -1"):
        rollout(model.cell, x, num_steps=4, cone=cone, remat_every=-1)


def test_more_ways_than_a_float_can_count() -> None:
    cell = GMLPCell(Lattice((600,)), 2, hidden=2, heads=1).double()
    model = CellGraph(
        cell,
        in_features=1,
        input_nodes="left",
        output_nodes="right",
        surface_channels=1,
        num_steps=1300,
        path="none",
        adapter="linear",
    ).double()
    question = torch.randn(3, 1, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(model(question).embedding, question, rtol=1e-6)


def test_offsets_that_arrive_only_when_mixed_are_no_conveyor() -> None:
    lattice = Lattice((6,), [(-3,), (-1,), (1,), (3,)])
    cell = GMLPCell(lattice, 8, hidden=8)
    model = CellGraph(
        cell, in_features=1, input_nodes="left", output_nodes="right", surface_channels=1, num_steps=4, path="none"
    )
    assert model.conveyor.direction is None
    assert model(torch.randn(2, 1)).embedding.isfinite().all()


def test_a_network_refuses_what_it_has_no_surface_or_word_for() -> None:
    graph = Graph(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3)
    with pytest.raises(ValueError, match=r"cells sit on a Lattice.*got Graph"):
        CellGraph(GMLPCell(graph, 8, hidden=8), in_features=4)
    with pytest.raises(ValueError, match="got context_channels=2"):
        small(cell={"context_channels": 2})
    with pytest.raises(ValueError, match=r"embeddings must be tensors.* got a NumPy array"):
        small().fit_adapters(np.zeros((9, 4), np.float32), np.zeros((9, 4), np.float32))
