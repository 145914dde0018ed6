"""Exported programs: equal to the network, in processes that know nothing of it, for every kind of network."""

from __future__ import annotations

import functools
import importlib.util
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cellgraph import CellGraph, GMLPCell, Graph, Lattice, NCACell
from cellgraph.automata import Automaton, Batch, Task
from cellgraph.integrations import export
from cellgraph.integrations.export import export_onnx, export_torch
from cellgraph.nn import Surface
from cellgraph.testing import randomise

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
NEEDS_ONNX = pytest.mark.skipif(not HAS_ONNX, reason="onnx, onnxscript and onnxruntime are not installed (extra onnx)")


def network(
    lattice: Lattice | None = None, *, num_steps: object = 2, cell: dict | None = None, **options: object
) -> CellGraph:
    lattice = lattice or Lattice((3, 3, 3), boundary=("open", "periodic", "open"))
    gmlp = GMLPCell(lattice, 6, **{"hidden": 8, "heads": 2, **(cell or {})})
    model = CellGraph(gmlp, in_features=7, num_steps=num_steps, **{"surface_channels": 1, **options})  # type: ignore[arg-type]
    randomise(model, std=0.3)
    return model


def masked() -> Lattice:
    mask = torch.ones(3, 3, 3)
    mask[1, 1, 1] = mask[1, 0, 2] = 0
    return Lattice((3, 3, 3), 18, mask=mask)


NETWORKS = {
    "memory, clamped": lambda: network(cell={"memory_channels": 2}, injection="clamped"),
    "mask, layers, rate": lambda: network(masked(), cell={"sharing": "layer", "fire_rate": 0.5}, num_steps=(2, 3)),
    "2-D, scatter, own cells": lambda: network(
        Lattice((3, 4), 8), cell={"backend": "scatter", "sharing": "cell"}, input_nodes="top", output_nodes="bottom"
    ),
    "tolerance, conv": lambda: network(cell={"backend": "conv"}, tolerance=1e9, num_steps=3, remat_every=2),
}


class Loaded:
    """What ``torch.export.load`` was given and gave: loading takes longer than all else in these tests, and once is
    enough where the file that was written has the very bytes that were loaded.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._load = torch.export.load
        monkeypatch.setattr(torch.export, "load", self._loading)

    def _loading(self, file: io.BytesIO) -> torch.export.ExportedProgram:
        self._content, self._program = file.getvalue(), self._load(file)
        return self._program

    def of(self, path: Path) -> torch.export.ExportedProgram:
        """The program of a file."""
        assert path.read_bytes() == self._content
        return self._program


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    return Loaded(monkeypatch)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if "2-D" in name else [pytest.mark.slow]) for name in NETWORKS]
)
def test_a_torch_program_gives_what_the_network_gives(name: str, tmp_path: Path, loaded: Loaded) -> None:
    model = NETWORKS[name]().train()
    report = export_torch(model, tmp_path / "cube.pt2")
    assert report.difference <= 1e-5
    assert report.num_bytes == (tmp_path / "cube.pt2").stat().st_size
    assert model.training
    program = loaded.of(tmp_path / "cube.pt2")
    namespaces = {str(n.target).split(".")[0] for n in program.graph.nodes if "." in str(n.target)}
    assert namespaces == {"aten"}
    model.eval()
    model.tolerance = 0.0
    question = torch.randn(9, 7)
    wanted = model(question)
    memory = () if wanted.memory is None else (torch.zeros_like(wanted.memory),)
    run = program.module()
    found = run(question, *memory)
    torch.testing.assert_close(found[0], wanted.embedding, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1], wanted.surface, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[2], wanted.query, rtol=1e-5, atol=1e-5)
    assert len(found) == len(report.outputs) == (3 if wanted.memory is None else 4)
    if wanted.memory is not None:
        torch.testing.assert_close(found[3], wanted.memory, rtol=1e-5, atol=1e-5)
        # A second turn.
        again = model(question, wanted.memory).embedding
        torch.testing.assert_close(run(question, found[3])[0], again, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@NEEDS_ONNX
@pytest.mark.parametrize("name", ["memory, clamped", "mask, layers, rate"])
def test_an_onnx_model_gives_what_the_network_gives(name: str, tmp_path: Path) -> None:
    model = NETWORKS[name]().eval()
    report = export_onnx(model, tmp_path / "cube.onnx", num_steps=3)
    assert report.difference <= 1e-5
    question, memory = torch.randn(9, 7), None
    np.save(tmp_path / "question.npy", question.numpy())
    if model.cell.memory_channels:
        memory = torch.randn(9, model.lattice.num_nodes, model.cell.memory_channels)
        np.save(tmp_path / "memory.npy", memory.numpy())
    # Nothing but onnxruntime and NumPy.
    script = """
import sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("cube.onnx", providers=["CPUExecutionProvider"])
names = [x.name for x in session.get_inputs()]
for x in session.get_inputs():
    assert isinstance(x.shape[0], str), x.shape
outputs = session.run(None, {name: np.load(name + ".npy") for name in names})
np.savez("out.npz", **dict(zip([y.name for y in session.get_outputs()], outputs)))
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=120)
    out = model(question, memory, num_steps=3)
    with np.load(tmp_path / "out.npz") as found:
        assert tuple(found) == report.outputs
        for key, wanted in zip(report.outputs, (out.embedding, out.surface, out.query, out.memory), strict=False):
            np.testing.assert_allclose(found[key], wanted.detach().numpy(), rtol=1e-5, atol=1e-5)


class Whatever(Task):
    """Random states and contexts."""

    def __init__(self, lattice: Graph, *, clamped: Surface | None = None) -> None:
        super().__init__(lattice)
        self.clamped, self.context_channels = clamped, 2

    def sample(self, size: int, generator: torch.Generator) -> Batch:
        draw = functools.partial(torch.randn, generator=generator)
        return Batch(draw(size, self.lattice.num_nodes, 4), context=draw(size, 1, 2))

    def loss(self, x: torch.Tensor, batch: Batch) -> torch.Tensor:
        return x.square().mean((1, 2))


RANDOM = {"fire_rate": 0.5, "always_random": True}
RING = Graph(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]))
CELLS = {
    "random, living": (
        Lattice((4, 4), 8),
        lambda graph, **options: NCACell(graph, 4, alive_channel=3, **options),
        RANDOM,
    ),
    "graph, one after another": (
        RING,
        lambda graph, **options: NCACell(graph, 4, perception="stencil", update="gru", memory_channels=1, **options),
        {"order": "sequential", **RANDOM},
    ),
    "attention": (Lattice((3, 5)), lambda graph, **options: NCACell(graph, 4, perception="attention", **options), {}),
    "gated, clamped": (
        Lattice((4, 4)),
        lambda graph, **options: GMLPCell(graph, 4, hidden=8, **options),
        {"fire_rate": 0.5},
    ),
}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("write", [export_torch, pytest.param(export_onnx, marks=NEEDS_ONNX)])
def test_a_program_of_steps_gives_what_the_automaton_gives(
    name: str, write: Callable, tmp_path: Path, loaded: Loaded
) -> None:
    graph, make, options = CELLS[name]
    clamped = Surface(graph, "top", channels=2) if "clamped" in name else None
    task = Whatever(graph, clamped=clamped)
    cell = make(graph, context_channels=2, **options)
    randomise(cell, std=0.3)
    automaton = Automaton(cell, task).eval()
    report = write(automaton, tmp_path / "cells", num_steps=2)
    assert report.difference <= 1e-5
    batch = task.sample(7, torch.Generator().manual_seed(9))
    draws = (torch.rand(2, 7, graph.num_nodes, 1) < 0.5).float()
    given = {"state": batch.x, "context": batch.context, "update_masks": draws}
    wanted = batch.x
    for step in range(2):
        wanted = cell(wanted, draws[step] if options == RANDOM or "order" in options else None, batch.context)
        wanted = wanted if clamped is None else clamped.clamp(wanted, batch.x)
    inputs = [given[name] for name in report.inputs]
    assert len(inputs) == (3 if "always_random" in options else 2)
    if write is export_torch:
        (found,) = loaded.of(tmp_path / "cells").module()(*inputs)
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(tmp_path / "cells", providers=["CPUExecutionProvider"])
        named = {name: x.numpy() for name, x in zip(report.inputs, inputs, strict=True)}
        found = torch.as_tensor(session.run(None, named)[0])
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-5, atol=1e-5)


def test_an_automaton_is_exported_for_a_number_of_steps(tmp_path: Path) -> None:
    task = Whatever(Lattice((4,)))
    with pytest.raises(ValueError, match="num_steps must be given"):
        export_torch(Automaton(NCACell(task.lattice, 4, context_channels=2), task), tmp_path / "cells.pt2")
    for number in (0, -1):
        with pytest.raises(ValueError, match=f"num_steps must be at least 1, got {number}"):
            export_torch(
                Automaton(NCACell(task.lattice, 4, context_channels=2), task), tmp_path / "cells.pt2", num_steps=number
            )


@pytest.mark.slow
def test_torch_export_takes_a_network_as_it_is(tmp_path: Path) -> None:
    model = network(cell={"memory_channels": 2}).eval()
    # Marked as compiled: the compiled step must not get in the way, and is not built here.
    model.cell.compile(backend="eager")
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (torch.randn(3, 7),), dynamic_shapes={"question": {0: batch}})
    question = torch.randn(8, 7)
    wanted, found = model(question), program.module()(question)
    for name in ("embedding", "surface", "states", "memory"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=1e-5, atol=1e-5)
    assert export_torch(model, tmp_path / "cube.pt2").difference <= 1e-5


def test_a_program_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    made = export._program

    def changed(inference: export.Inference) -> torch.export.ExportedProgram:
        with torch.no_grad():
            inference.model.path.calibration.bias += 1e-3
        return made(inference)

    monkeypatch.setattr(export, "_program", changed)
    with pytest.raises(ValueError, match=r"differs from the model by 1\.0e-03, expected at most 1\.0e-05"):
        export_torch(model, tmp_path / "cube.pt2")
    assert not list(tmp_path.iterdir())


def test_a_program_whose_output_is_no_number_is_not_written(tmp_path: Path) -> None:
    model = network()
    inference = export._inference(model, None)

    def program(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        right, *others = inference(*inputs)
        return (torch.full_like(right, torch.nan), *others)

    with pytest.raises(ValueError, match="differs from the model by nan"):
        export._write(inference, model, program, b"", tmp_path / "cube.pt2", 1e-5)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="num_steps=1 cannot carry"):
        export_torch(network(), tmp_path / "cube.pt2", num_steps=1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs onnx, onnxscript, onnxruntime: pip install cellgraph\[onnx\]"):
        export_onnx(network(), tmp_path / "cube.onnx")


def test_a_program_draws_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set always_random=False"):
        export_torch(network(cell={"fire_rate": 0.5, "always_random": True}), tmp_path / "cube.pt2")
