"""Batches without a sample: every backend, cell and integration gives back as many, with gradients of zero."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from served import small_run
from torch import Tensor, nn

from cellgraph import Cell, CellGraph, GMLPCell, Graph, Lattice, NCACell, rollout
from cellgraph.answering import Confidence, FinishedRun, Session
from cellgraph.integrations.export import export_onnx, export_torch
from cellgraph.integrations.graph import edge_influence, to_data
from cellgraph.integrations.huggingface import CellGraphModel
from cellgraph.ops import NeighbourSum, backend_names, find_backend
from cellgraph.teacher import EmbeddingCache
from cellgraph.testing import randomise

LATTICE = Lattice((3, 2, 2))
CELLS = {
    "gmlp": lambda **options: GMLPCell(LATTICE, 16, hidden=16, heads=2, **options),
    "gmlp by layer": lambda **options: GMLPCell(LATTICE, 16, hidden=16, heads=2, sharing="layer", **options),
    "gmlp by cell": lambda **options: GMLPCell(LATTICE, 16, hidden=16, heads=2, sharing="cell", **options),
    "nca": lambda **options: NCACell(LATTICE, 16, norm="rms", **options),
    "gru": lambda **options: NCACell(LATTICE, 16, perception="stencil", update="gru", **options),
    "attention": lambda **options: NCACell(LATTICE, 16, perception="attention", **options),
}


def usable(backend: str) -> str:
    if needs := find_backend(backend).needs():
        pytest.skip(f"{backend} {needs}")
    return backend


def model(backend: str = "auto", **options: object) -> CellGraph:
    made = CellGraph(
        CELLS["gmlp"](backend=backend),
        in_features=4,
        num_steps=3,
        adapter="linear",
        **{"surface_channels": 1, **options},
    )
    randomise(made)
    return made


def assert_pulls_nothing(y: Tensor, shape: tuple[int, ...], module: nn.Module) -> None:
    """The result has the shape, and no parameter a gradient but zero."""
    assert tuple(y.shape) == shape
    y.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in module.parameters())


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "each"])
@pytest.mark.parametrize("backend", backend_names()[1:])
def test_a_sum(backend: str, shared: bool) -> None:
    if not shared and find_backend(backend).name == "conv":
        pytest.skip("conv shares its weights between cells")
    for lattice in (LATTICE, Lattice((3, 3), 8, boundary="periodic", mask=[[1, 1, 0], [1, 1, 1], [0, 1, 1]])):
        layer = NeighbourSum(lattice, backend=usable(backend))
        groups = 1 if shared else lattice.num_nodes
        weight = torch.randn(lattice.num_directions + 1, groups, 5, requires_grad=True)
        y = layer(torch.zeros(0, lattice.num_nodes, 5, requires_grad=True), weight)
        assert y.shape == (0, lattice.num_nodes, 5)
        (grad,) = torch.autograd.grad(y.sum(), weight)
        assert grad.shape == weight.shape
        assert not grad.any()


@pytest.mark.parametrize("options", [{}, {"fire_rate": 0.5}, {"alive_channel": 1}, {"order": "sequential"}], ids=str)
@pytest.mark.parametrize("kind", CELLS)
def test_a_rollout(kind: str, options: dict[str, object]) -> None:
    cell: Cell = CELLS[kind](memory_channels=2, context_channels=3, **options).train()
    randomise(cell)
    x, memory, context = torch.zeros(0, 12, 16), torch.zeros(0, 12, 2), torch.zeros(0, 1, 3)
    done = rollout(cell, x, memory, num_steps=3, context=context, remat_every=2, trajectory=kind == "nca")
    assert done.memory is not None
    assert done.memory.shape == (0, 12, 2)
    assert_pulls_nothing(done.x, (0, 12, 16), cell)
    assert_pulls_nothing(cell(x, torch.ones(0, 12, 1), context), (0, 12, 16), cell)


@pytest.mark.parametrize("backend", ["scatter", "segment"])
def test_a_rollout_on_a_graph(backend: str) -> None:
    graph = Graph(torch.tensor([[0, 1, 2], [1, 2, 0]]), edge_weight="mean")
    cell = NCACell(graph, 3, perception="stencil", backend=usable(backend))
    assert_pulls_nothing(rollout(cell, torch.zeros(0, 3, 3), num_steps=2).x, (0, 3, 3), cell)


@pytest.mark.parametrize("injection", ["once", "clamped"])
@pytest.mark.parametrize("backend", backend_names()[1:])
def test_a_network(backend: str, injection: str) -> None:
    network = model(usable(backend), injection=injection)
    for question in (torch.zeros(0, 4), torch.randn(3, 4)[:0]):
        assert_pulls_nothing(network(question).embedding, (0, 4), network)
        assert_pulls_nothing(network(question, trajectory=True).embedding, (0, 4), network)
        with torch.no_grad():
            assert network.eval()(question).embedding.shape == (0, 4)
    network.compile_step() if find_backend(backend).takes_steps else None
    with torch.autocast("cpu", torch.bfloat16):
        assert network(torch.zeros(0, 4)).embedding.shape == (0, 4)


def test_graphs_and_influence() -> None:
    network = model()
    output = network(torch.zeros(0, 4), trajectory=True)
    influence = edge_influence(network, torch.zeros(0, 4))
    assert influence.shape == (0, LATTICE.num_edges)
    assert not influence.requires_grad
    assert to_data(network, output, edge_influence=influence) == []


def test_in_transformers() -> None:
    wrapped = CellGraphModel.from_network(model())
    assert wrapped(torch.zeros(0, 4)).last_hidden_state.shape == (0, 4)
    assert wrapped(torch.zeros(2, 0, 4)).last_hidden_state.shape == (2, 0, 4)


@pytest.mark.slow
def test_exported_for_torch(tmp_path) -> None:
    export_torch(model(), tmp_path / "network.pt2")
    found = torch.export.load(tmp_path / "network.pt2").module()(torch.zeros(0, 4))
    assert [x.shape for x in found] == [(0, 4)] * 3


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("onnxscript"), reason="the ONNX packages are not installed")
def test_exported_for_onnx(tmp_path) -> None:
    import onnxruntime

    export_onnx(model(), tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    assert session.run(None, {"question": np.zeros((0, 4), np.float32)})[0].shape == (0, 4)


def test_scikit_learn_refuses_what_all_its_estimators_refuse() -> None:
    """Its checks of estimators demand an error, by the number of samples."""
    from cellgraph.integrations.estimator import CellGraphRegressor

    x = np.random.default_rng(0).normal(size=(20, 4))
    fitted = CellGraphRegressor(max_steps=1).fit(x, x)
    with pytest.raises(ValueError, match="0 sample"):
        fitted.predict(x[:0])


def test_a_session(tmp_path: Path) -> None:
    run = FinishedRun.load(small_run(tmp_path / "run", memory=2), EmbeddingCache(tmp_path / "cache"))
    bank = run.bank()
    trust = Confidence((0.0, 0.0), 0.0, None, precision=0.8, num_questions=1, answered=0.0, equivalence=1.0)
    session = Session(run.model, run.teacher, bank, trust)
    assert session.answer([], []) == ([], [])
    assert session.hear([], []) == []
    assert bank.nearest(torch.empty(0, 8), k=3) == []
