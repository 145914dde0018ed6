"""An ONNX file in the place of the network that it was exported from."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cellgraph.integrations.export import NUM_STEPS
from cellgraph.integrations.inference import Inference
from cellgraph.model import CellGraph, CellGraphOutput
from cellgraph.nn import LinearPath
from cellgraph.reading import first_line

#: Largest difference of an output to the network's own, relative to the output's largest value where that is above one:
#: what is exported differs by at most 1e-5 where it is written, other processors sum in other orders.
TOLERANCE = 1e-4


class OnnxNetwork(nn.Module):
    """A network whose answers onnxruntime computes from a file of :func:`~cellgraph.integrations.export.export_onnx`.

    It takes as many steps as the file does, and ends at no fixed point before. What the answers of a bank are compared
    by is not in the file: it is asked of the network itself.

    Args:
        path: The file.
        model: The network that it was exported from.

    Shapes:
        - **question:** ``[batch, in_features]``
        - **memory:** ``[batch, num_nodes, memory_channels]``, for networks with memory only
        - **output:** :class:`~cellgraph.model.CellGraphOutput`, without states

    Attributes:
        inference: The network as it was exported.

    Raises:
        ValueError: If onnxruntime is not installed, the file is no ONNX model, or not that of this network.
        OSError: If the file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], model: CellGraph) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise ValueError("an ONNX model needs onnxruntime: pip install cellgraph[onnx]") from None
        content = Path(path).read_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # What is wrong is told in a line, not by its log.
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has many kinds, with nothing in common
            raise ValueError(f"{path} is no model that onnxruntime can read: {first_line(error)}") from None
        steps = self._session.get_modelmeta().custom_metadata_map.get(NUM_STEPS, "")
        self.inference = Inference(copy.deepcopy(model).float(), num_steps=int(steps) if steps.isdecimal() else None)
        self._check(path)

    @property
    def model(self) -> CellGraph:
        """The network as it was exported."""
        return self.inference.model

    @property
    def path(self) -> LinearPath | None:
        """The network's linear path."""
        return self.model.path

    @property
    def remembers(self) -> bool:
        """Whether an answer depends on the turns before."""
        return self.inference.has_memory

    def key(self, answer: Tensor) -> Tensor:
        """What queries are compared with to find answers, ``[..., in_features]`` as they are."""
        return self.model.key(answer)

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters of the network's parts."""
        return self.model.parameter_counts()

    def forward(
        self, question: Tensor, memory: Tensor | None = None, *, num_steps: int | None = None
    ) -> CellGraphOutput:
        """Answer a batch of questions.

        Raises:
            ValueError: If other steps are asked for than the file takes.
        """
        if num_steps not in (None, taken := self.inference.num_steps):
            raise ValueError(f"the file takes num_steps={taken}, got {num_steps}: export it with as many")
        given = {"question": question.detach().float().cpu().numpy()}
        if self.remembers:
            cell = self.model.cell
            if memory is None:
                memory = torch.zeros(len(question), cell.lattice.num_nodes, cell.memory_channels)
            given["memory"] = memory.detach().float().cpu().numpy()
        names = self.inference.outputs
        said: dict[str, Any] = dict(zip(names, map(torch.from_numpy, self._session.run(names, given)), strict=True))
        return CellGraphOutput(
            embedding=said["embedding"],
            surface=said["surface"],
            query=said.get("query"),  # type: ignore[arg-type]
            memory=said.get("next_memory"),
            num_steps=self.inference.num_steps,
        )

    def extra_repr(self) -> str:
        return f"num_steps={self.inference.num_steps}"

    @torch.no_grad()
    def _check(self, path: str | os.PathLike[str]) -> None:
        """Refuse another network's file."""
        found = [x.name for x in self._session.get_inputs()], [x.name for x in self._session.get_outputs()]
        wanted = list(self.inference.inputs), list(self.inference.outputs)
        if found != wanted:
            raise ValueError(
                f"{path} is not this network's: expected inputs and outputs {wanted[0]} -> {wanted[1]}, "
                f"got {found[0]} -> {found[1]}"
            )
        inputs = self.inference.example(3)
        expected = self.inference(*inputs)
        try:
            said = self(*inputs)
        except Exception as error:
            raise ValueError(f"{path} is not this network's: {first_line(error)}") from None
        given = {"embedding": said.embedding, "surface": said.surface, "query": said.query, "next_memory": said.memory}
        for name, tensor in zip(self.inference.outputs, expected, strict=True):
            scale = max(1.0, float(tensor.abs().max()))
            difference = float((given[name] - tensor).abs().max()) / scale
            if not difference <= TOLERANCE:
                raise ValueError(
                    f"{path} is not this network's: its {name} differs by {difference:.1e}, "
                    f"expected at most {TOLERANCE:.0e}; export it again"
                )
