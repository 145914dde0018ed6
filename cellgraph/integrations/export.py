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
from torch import Tensor

from cellgraph.automata import Automaton
from cellgraph.files import write_atomically
from cellgraph.integrations.inference import Inference, Steps
from cellgraph.model import CellGraph

#: Batches that an exported program is compared on; the program is traced with another size than either.
CHECKED_BATCHES = (1, 5)
#: Under this name an ONNX file says among its metadata how many steps it takes.
NUM_STEPS = "num_steps"


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how equal it is.

    Attributes:
        path: The file.
        num_bytes: Its size.
        inputs: Names of the program's inputs.
        outputs: Names of its outputs.
        difference: Largest difference to the model's own outputs, over batches of 1 and 5; relative to an output's
            largest value where that is above one.
    """

    path: Path
    num_bytes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    difference: float


def export_torch(
    model: CellGraph | Automaton, path: str | Path, *, num_steps: int | None = None, tolerance: float = 1e-5
) -> ExportReport:
    """Write inference as a ``.pt2`` file that ``torch.export.load`` reads, without this library.

    The batch is free; the number of steps is not.

    Args:
        model: The network, or an automaton as :class:`~cellgraph.integrations.inference.Steps`.
        path: The file.
        num_steps: Steps of the rollout; the upper end of the network's own by default, to be given for an automaton.
        tolerance: Largest difference to the model's own outputs, see :class:`ExportReport`; for a network in half
            precision at least four units in the last place.

    Raises:
        ValueError: If the outputs differ by more (no file is written then), or an automaton's steps are not given.
    """
    inference = _inference(model, num_steps)
    file = io.BytesIO()
    with _quiet():
        torch.export.save(_program(inference), file)
    program = torch.export.load(io.BytesIO(file.getvalue())).module()
    return _write(inference, model, program, file.getvalue(), Path(path), tolerance)


def export_onnx(
    model: CellGraph | Automaton, path: str | Path, *, num_steps: int | None = None, tolerance: float = 1e-5
) -> ExportReport:
    """Write inference as an ONNX file with the weights in it, and run it by onnxruntime to compare.

    The batch is free; the number of steps is not. The arithmetic is float32, whatever the network's.

    Args:
        model: The network, or an automaton as :class:`~cellgraph.integrations.inference.Steps`.
        path: The file.
        num_steps: Steps of the rollout; the upper end of the network's own by default, to be given for an automaton.
        tolerance: Largest difference to the model's own outputs, see :class:`ExportReport`.

    Raises:
        ValueError: If the outputs differ by more (no file is written then), an automaton's steps are not given, or the
            ONNX packages are not installed.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"ONNX export needs {', '.join(missing)}: pip install cellgraph[onnx]")
    import onnxruntime

    # Of what a network does, ONNX's runtimes know float32 whole, the other dtypes in parts.
    model = copy.deepcopy(model).float()
    inference = _inference(model, num_steps)
    with _quiet():
        program = torch.onnx.export(
            _program(inference),
            input_names=inference.inputs,
            output_names=inference.outputs,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props[NUM_STEPS] = str(inference.num_steps)
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> list[Tensor]:
        named = dict(zip(inference.inputs, (x.numpy() for x in inputs), strict=True))
        return [torch.as_tensor(output) for output in session.run(list(inference.outputs), named)]

    return _write(inference, model, run, content, Path(path), tolerance)


def _inference(model: CellGraph | Automaton, num_steps: int | None) -> Inference | Steps:
    if isinstance(model, CellGraph):
        return Inference(model, num_steps=num_steps)
    if num_steps is None:
        raise ValueError("num_steps must be given: an automaton takes any number of them")
    return Steps(model, num_steps=num_steps)


def _program(inference: Inference | Steps) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    shapes: Any = tuple({axis: batch} for axis in inference.batch_axes)
    if isinstance(inference, Steps):
        # They are one argument of several.
        shapes = (shapes,)
    # Without gradients the sum is traced through plain shifts, not through its backward's operators.
    with torch.no_grad():
        # Sizes 0 and 1 are special to the tracer.
        return torch.export.export(inference, inference.example(2), dynamic_shapes=shapes)


@torch.no_grad()
def _write(
    inference: Inference | Steps,
    model: CellGraph | Automaton,
    program: Callable[..., Any],
    content: bytes,
    path: Path,
    tolerance: float,
) -> ExportReport:
    reference: Any = copy.deepcopy(model).cpu().eval()
    # Two orders of a sum in half precision are this far apart.
    tolerance = max(tolerance, 4 * torch.finfo(inference.dtype).eps)
    differences = [0.0]
    for batch in CHECKED_BATCHES:
        inputs = inference.example(batch, seed=batch)
        wanted = inference.expected(reference, inputs, seed=batch)
        for expected, found in zip(wanted, program(*inputs), strict=True):
            scale = max(1.0, float(expected.abs().max()))
            differences.append(float((found - expected).abs().max()) / scale)
    # Python's own maximum would pass over what is no number.
    difference = float(torch.tensor(differences, dtype=torch.float64).max())
    if not difference <= tolerance:
        raise ValueError(
            f"the exported program differs from the model by {difference:.1e}, expected at most {tolerance:.1e}"
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
