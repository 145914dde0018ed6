"""The registry: what a backend says of itself, what is refused and why, and a backend of one's own."""

from __future__ import annotations

import ast
import json
import warnings
from pathlib import Path

import pytest
import torch

import cellgraph
from cellgraph import CellGraph, GMLPCell, Graph, Lattice, NCACell
from cellgraph.ops import (
    Backend,
    Case,
    NeighbourSum,
    backend_names,
    backend_needs,
    candidates,
    find_backend,
    fitting_backends,
    register,
    registry,
)
from cellgraph.ops.fused import build, load_operators
from cellgraph.ops.fused.backend import Fused

LATTICE = Lattice((3, 4))
TRIANGLE = Graph(torch.tensor([[0, 1, 2], [1, 2, 0]]))
LOPSIDED = Lattice((5,), [(1,), (2,)])


class Doubling(Backend):
    """A backend that shows whether it ran: the reference, twice."""

    name = "doubling"

    def fits(self, case):
        return None if case.dtype in (None, torch.float64) else f"computes in float64, got {case.dtype}"

    def run(self, layer, x, weight):
        return 2 * layer.along_edges(x, weight)


@pytest.fixture
def doubling(monkeypatch):
    monkeypatch.setattr(registry, "_BACKENDS", dict(registry._BACKENDS))
    register(Doubling())


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    monkeypatch.setattr(build, "_is_loaded", lambda: False)
    load_operators.cache_clear()
    yield
    load_operators.cache_clear()


@pytest.mark.parametrize("name", backend_names()[1:])
def test_what_a_backend_says_goes_on_after_its_name(name):
    backend = find_backend(name)
    cases = [
        Case(graph, shared, dtype, torch.device(device))
        for graph in (LATTICE, LOPSIDED, TRIANGLE)
        for shared in (True, False)
        for dtype in (torch.float16, torch.float32)
        for device in ("cpu", "cuda")
    ]
    for said in (backend.needs(), *(backend.fits(case) for case in cases)):
        assert said is None or (said.split()[0] in ("needs", "shares", "runs", "computes") and "\n" not in said)
    assert backend.name == name


def test_the_reference_needs_nothing_and_fits_everything():
    for graph in (LATTICE, LOPSIDED, TRIANGLE):
        assert find_backend("scatter").needs() is None
        assert candidates(Case(graph, shared=False, dtype=torch.float16, device=torch.device("cuda")))[-1].name == (
            "scatter"
        )


@pytest.mark.parametrize(
    ("case", "left_out"),
    [
        (Case(LATTICE), set()),
        (Case(LATTICE, shared=False), {"conv", "fused"}),
        (Case(LATTICE, dtype=torch.float16), {"fused"}),
        (Case(LATTICE, device=torch.device("cuda")), {"fused"}),
        (Case(LOPSIDED), {"triton"}),
        (Case(TRIANGLE), {"conv", "fused", "stencil", "triton"}),
    ],
    ids=["lattice", "not shared", "float16", "on a GPU", "without opposites", "no lattice"],
)
def test_what_fits(case, left_out):
    fitting = {backend.name for backend in fitting_backends(case)}
    assert {*backend_names()[1:]} - fitting == left_out
    here = [backend.name for backend in candidates(case)]
    lacking = {name for name, needs in backend_needs().items() if needs}
    assert "triton" not in here or torch.cuda.is_available()
    assert fitting - lacking - {"triton"} == {*here} - {"triton"}


@pytest.mark.parametrize("case", [Case(LATTICE), Case(TRIANGLE), Case(LATTICE, shared=False)], ids=str)
def test_whatever_is_a_candidate_computes_the_reference(case):
    x = torch.randn(2, case.graph.num_nodes, 3, dtype=torch.float64)
    groups = 1 if case.shared else case.graph.num_nodes
    weight = torch.randn(case.graph.num_directions + 1, groups, 3, dtype=torch.float64)
    expected = NeighbourSum(case.graph, backend="scatter")(x, weight)
    for backend in candidates(case):
        layer = NeighbourSum(case.graph)
        layer.chosen = backend
        torch.testing.assert_close(layer(x, weight), expected)


@pytest.mark.parametrize(
    ("build_it", "message"),
    [
        (lambda: NeighbourSum(TRIANGLE, backend="conv"), "'conv' needs a Lattice, a Graph.* by 'scatter' or 'segment'"),
        (lambda: GMLPCell(LATTICE, 8, hidden=8, sharing="layer", backend="conv"), "'conv' shares its weights"),
        (lambda: GMLPCell(LATTICE, 8, hidden=8, sharing="cell", backend="fused"), "'fused' shares its weights"),
        (lambda: GMLPCell(LATTICE, 8, hidden=8, norm_transport=True, backend="fused"), "with norm_transport=True"),
        (
            lambda: GMLPCell(LATTICE, 8, hidden=8, order="sequential", backend="fused"),
            "plain steps only.*'sequential'",
        ),
        (lambda: NCACell(LATTICE, 8, backend="quantum"), "backend must be one of .*'scatter'.*got 'quantum'"),
    ],
)
def test_a_forced_backend_that_does_not_fit_says_why(build_it, message):
    with pytest.raises(ValueError, match=message):
        build_it()


def test_setting_a_backend_is_checked_like_building_with_it():
    cell = GMLPCell(LATTICE, 8, hidden=8, sharing="layer")
    with pytest.raises(ValueError, match="'conv' shares its weights"):
        cell.backend = "conv"
    assert cell.backend == "auto"
    cell.backend = "scatter"
    assert cell.neighbour_sum.chosen.name == cell.config()["backend"] == "scatter"
    cell.backend = "auto"
    assert cell.neighbour_sum.chosen.name == "stencil"


def test_a_choice_in_the_place_of_auto_stays_auto_in_the_configuration():
    cell = NCACell(LATTICE, 4)
    cell.neighbour_sum.chosen = find_backend("conv")
    assert cell.config()["backend"] == "auto"
    assert repr(cell.neighbour_sum) == "NeighbourSum(backend=auto, chosen=conv)"
    with pytest.raises(ValueError, match="'conv' needs a Lattice"):
        NeighbourSum(TRIANGLE).chosen = find_backend("conv")


@pytest.mark.usefixtures("doubling")
def test_a_backend_of_one_s_own_is_one_of_them():
    x, weight = torch.randn(1, 12, 2, dtype=torch.float64), torch.randn(5, 1, 2, dtype=torch.float64)
    twice, once = (NeighbourSum(LATTICE, backend=name)(x, weight) for name in ("doubling", "scatter"))
    assert torch.equal(twice, 2 * once)
    cell = GMLPCell(LATTICE, 8, hidden=8)
    assert "doubling" in [backend.name for backend in cell.candidates(torch.zeros(1, 12, 8, dtype=torch.float64))]
    assert "doubling" not in [backend.name for backend in cell.candidates(torch.zeros(1, 12, 8))]


def test_candidates_of_a_cell_are_those_its_step_fits():
    x = torch.zeros(1, 12, 16)
    fused = "fused" in [backend.name for backend in candidates(Case(LATTICE))]
    for cell, whole in (
        (GMLPCell(LATTICE, 16, hidden=16), fused),
        (GMLPCell(LATTICE, 16, hidden=16, order="sequential"), False),
        (GMLPCell(LATTICE, 16, hidden=10, heads=2), False),  # no whole vectors in any build
        (NCACell(LATTICE, 16), False),
    ):
        assert ("fused" in [backend.name for backend in cell.candidates(x)]) == whole


def saved_with(backend: str, folder: Path) -> None:
    CellGraph(
        GMLPCell(Lattice((3, 4, 4)), 8, hidden=8), in_features=16, surface_channels=1, num_steps=3
    ).save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["cell"]["backend"] = backend
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("backend", ["triton", "fused", "segment"])
def test_a_network_saved_elsewhere_is_loaded_with_one_warning(backend, tmp_path, monkeypatch):
    saved_with(backend, tmp_path)
    monkeypatch.setattr(type(find_backend(backend)), "needs", lambda self: "needs a thing that is not here")
    with pytest.warns(UserWarning, match=f"backend '{backend}' needs a thing that is not here.*'auto' here") as told:
        model = CellGraph.from_pretrained(tmp_path)
    assert len(told) == 1
    assert model.cell.backend == "auto"
    question = torch.randn(2, 16)
    torch.testing.assert_close(model(question).embedding, question, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("no_compiler")
def test_a_network_saved_with_the_fused_step_is_loaded_without_a_compiler(tmp_path):
    saved_with("fused", tmp_path)
    with pytest.warns(UserWarning, match="'fused' needs a C\\+\\+ compiler") as told:
        assert CellGraph.from_pretrained(tmp_path).cell.backend == "auto"
    assert len(told) == 1


def test_where_nothing_is_missing_a_saved_backend_is_kept_and_nothing_said(tmp_path):
    saved_with("scatter", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CellGraph.from_pretrained(tmp_path).cell.backend == "scatter"


def test_a_fused_backend_that_cannot_be_built_is_refused_when_asked_for_and_replaced_when_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(Fused, "needs", lambda self: None)
    monkeypatch.setattr(Fused, "load", lambda self: False)
    with pytest.raises(ValueError, match="backend 'fused' could not be built here"):
        GMLPCell(LATTICE, 16, hidden=16, backend="fused")
    saved_with("fused", tmp_path)
    assert CellGraph.from_pretrained(tmp_path).cell.backend == "auto"


def test_only_the_registry_asks_for_a_backend_s_name():
    """No comparison with one outside of ``ops``."""
    package = Path(cellgraph.__file__).parent
    files = [path for path in package.rglob("*.py") if package / "ops" not in path.parents]
    asked = [
        f"{path.name}:{node.lineno}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare)
        for side in (node.left, *node.comparators)
        for value in ast.walk(side)
        if isinstance(value, ast.Constant) and value.value in backend_names()[1:]
    ]
    assert len(files) > 100
    assert not asked
