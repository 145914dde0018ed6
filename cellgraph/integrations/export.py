"""Export: inference as a program of plain operators, by ``torch.export`` or as ONNX, checked for equal output."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cellgraph.files import write_atomically
from cellgraph.model import CellGraph
from cellgraph.numbers import plain_numbers

#: Batches that an exported program is compared on; the program is traced with another size than either.
CHECKED_BATCHES = (1, 5)


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how equal it is.

    Attributes:
        path: The file.
        num_bytes: Its size.
        inputs: Names of the program's inputs.
        outputs: Names of its outputs.
        difference: Largest difference to the network's own outputs, over batches of 1 and 5; relative to an output's
            largest value where that is above one.
    """

    path: Path
    num_bytes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    difference: float


class Inference(nn.Module):
    """A network as a function of tensors alone: question (and memory) to embedding, surface (and memory).

    It is a copy in evaluation mode with a fixed number of steps, no early end, and the plain ``stencil``: kernels and
    custom operators that a network may run on here are unknown elsewhere.

    Args:
        model: The network; left as it is.
        num_steps: Steps of the rollout; the upper end of the network's own by default.

    Shapes:
        - **question:** ``[batch, in_features]``
        - **memory:** ``[batch, num_nodes, memory_channels]``, for networks with memory only
        - **output:** ``[batch, in_features]``, ``[batch, surface_width]`` and the memory

    Raises:
        ValueError: If no signal can arrive in ``num_steps``.
    """

    @plain_numbers
    def __init__(self, model: CellGraph, *, num_steps: int | None = None) -> None:
        super().__init__()
        self.num_steps = model.num_steps[1] if num_steps is None else num_steps
        model.conveyor.check_reach(self.num_steps)
        # A copy leaves a compiled step behind.
        self.model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        self.model.tolerance, self.model.remat_every = 0.0, 0
        self.model.cell.backend = "stencil"
        self.has_memory = model.cell.memory_channels > 0

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return ("question", "memory") if self.has_memory else ("question",)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return ("embedding", "surface", "next_memory") if self.has_memory else ("embedding", "surface")

    def forward(self, question: Tensor, memory: Tensor | None = None) -> tuple[Tensor, ...]:
        """Answer a batch of questions."""
        # Exporters write slices of the full grid better than the cone's lists of cells.
        out = self.model(question, memory, num_steps=self.num_steps, states=True)
        return (out.embedding, out.surface, out.memory) if self.has_memory else (out.embedding, out.surface)

    def example(self, batch: int, *, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs, questions of unit length."""
        generator = torch.Generator().manual_seed(seed)
        cell = self.model.cell
        question = torch.randn(batch, self.model.in_features, generator=generator)
        inputs = [nn.functional.normalize(question, dim=1)]
        if self.has_memory:
            inputs.append(torch.randn(batch, cell.lattice.num_nodes, cell.memory_channels, generator=generator))
        return tuple(x.to(cell.dtype) for x in inputs)


def export_torch(
    model: CellGraph, path: str | Path, *, num_steps: int | None = None, tolerance: float = 1e-5
) -> ExportReport:
    """Write inference as a ``.pt2`` file that ``torch.export.load`` reads, without this library.

    The batch is free; the number of steps is not.

    Args:
        model: The network.
        path: The file.
        num_steps: Steps of the rollout; the upper end of the network's own by default.
        tolerance: Largest difference to the network's own outputs, see :class:`ExportReport`; for a network in half
            precision at least four units in the last place.

    Raises:
        ValueError: If the outputs differ by more; no file is written then.
    """
    inference = Inference(model, num_steps=num_steps)
    file = io.BytesIO()
    with _quiet():
        torch.export.save(_program(inference), file)
    program = torch.export.load(io.BytesIO(file.getvalue())).module()
    return _write(inference, model, program, file.getvalue(), Path(path), tolerance)


def export_onnx(
    model: CellGraph, path: str | Path, *, num_steps: int | None = None, tolerance: float = 1e-5
) -> ExportReport:
    """Write inference as an ONNX file with the weights in it, and run it by onnxruntime to compare.

    The batch is free; the number of steps is not. The arithmetic is float32, whatever the network's.

    Args:
        model: The network.
        path: The file.
        num_steps: Steps of the rollout; the upper end of the network's own by default.
        tolerance: Largest difference to the network's own outputs, see :class:`ExportReport`.

    Raises:
        ValueError: If the outputs differ by more (no file is written then), or the ONNX packages are not installed.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"ONNX export needs {', '.join(missing)}: pip install cellgraph[onnx]")
    import onnxruntime

    # Of what a network does, ONNX's runtimes know float32 whole, the other dtypes in parts.
    model = copy.deepcopy(model).float()
    inference = Inference(model, num_steps=num_steps)
    with _quiet():
        program = torch.onnx.export(
            _program(inference),
            input_names=inference.inputs,
            output_names=inference.outputs,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> list[Tensor]:
        named = dict(zip(inference.inputs, (x.numpy() for x in inputs), strict=True))
        return [torch.as_tensor(output) for output in session.run(list(inference.outputs), named)]

    return _write(inference, model, run, content, Path(path), tolerance)


def _program(inference: Inference) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    # Without gradients the sum is traced through plain shifts, not through its backward's operators.
    with torch.no_grad():
        # Sizes 0 and 1 are special to the tracer.
        return torch.export.export(
            inference, inference.example(2), dynamic_shapes=({0: batch},) * len(inference.inputs)
        )


@torch.no_grad()
def _write(
    inference: Inference,
    model: CellGraph,
    program: Callable[..., Any],
    content: bytes,
    path: Path,
    tolerance: float,
) -> ExportReport:
    reference = copy.deepcopy(model).cpu().eval()
    reference.tolerance = 0.0
    # Two orders of a sum in half precision are this far apart.
    tolerance = max(tolerance, 4 * torch.finfo(model.cell.dtype).eps)
    difference = 0.0
    for batch in CHECKED_BATCHES:
        inputs = inference.example(batch, seed=batch)
        out = reference(*inputs, num_steps=inference.num_steps)
        wanted = (out.embedding, out.surface, out.memory)
        for expected, found in zip(wanted, program(*inputs), strict=False):
            scale = max(1.0, float(expected.abs().max()))
            difference = max(difference, float((found - expected).abs().max()) / scale)
    if not difference <= tolerance:
        raise ValueError(
            f"the exported program differs from the network by {difference:.1e}, expected at most {tolerance:.1e}"
        )
    write_atomically(path, content)
    return ExportReport(path, len(content), inference.inputs, inference.outputs, difference)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' notes: on operators that they might know, on views among the buffers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
