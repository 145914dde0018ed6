"""Ends: what stands around a lattice, from a question to a surface and from the cells to an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cellgraph.lattice import Lattice
from cellgraph.nn import (
    AutoencoderAdapter,
    LinearAdapter,
    LinearPath,
    MatryoshkaAdapter,
    PCAAdapter,
    Readout,
    Surface,
    regress,
)
from cellgraph.nn.blocks import check_finite, mapped, mean_row, some_rows
from cellgraph.nn.path import KEYS
from cellgraph.nn.rebuilding import check_taken
from cellgraph.pretrained import Pretrained
from cellgraph.transport import Conveyor

PATHS = ("none", "linear")
STARTS = ("identity", "ridge")
ADAPTERS: dict[str, type[LinearAdapter]] = {
    "linear": LinearAdapter,
    "pca": PCAAdapter,
    "autoencoder": AutoencoderAdapter,
    "matryoshka": MatryoshkaAdapter,
}


class Ends(Pretrained):
    """A network's input and output surface with their adapters, and the linear path beside its lattice, if any.

    Attributes:
        input_surface: Where questions are injected.
        output_surface: Where answers are extracted.
        question_adapter: Its encoder gives the surface of a question.
        answer_adapter: Its encoder gives the surface of an answer, and does not learn; its decoder the answer that a
            surface stands for.
        path: The linear path from question to answer.
        readout: What is read off the cells and added to it.
    """

    cell: Any
    conveyor: Conveyor
    input_surface: Surface
    output_surface: Surface
    question_adapter: LinearAdapter
    answer_adapter: LinearAdapter
    path: LinearPath | None
    readout: Readout | None

    def add_ends(
        self,
        lattice: Lattice,
        num_channels: int,
        *,
        in_features: int,
        surfaces: Sequence[Surface],
        adapter: str | Mapping[str, Any],
        path: str,
        key: str,
        readout: Any,
        readout_channels: int | None,
    ) -> None:
        """Build what stands around the lattice.

        Args:
            lattice: The lattice.
            num_channels: How many channels of the state are not memory.
            in_features: Width of the teacher's embeddings.
            surfaces: The input and the output surface.
            adapter: See :class:`~cellgraph.CellGraph`, as the others.
            path: One of :data:`PATHS`.
            key: See :class:`~cellgraph.nn.LinearPath`.
            readout: The cells that are read.
            readout_channels: How many of their channels.

        Raises:
            ValueError: If the surfaces differ in width or need more channels, or a name is unknown.
        """
        self.input_surface, self.output_surface = surfaces
        width = self.input_surface.width
        if width != self.output_surface.width:
            raise ValueError(
                f"the two surfaces must be equally wide, got {width} in and {self.output_surface.width} out"
            )
        if self.input_surface.channels > num_channels:
            raise ValueError(
                f"surface_channels must fit the {num_channels} channels of the state that are not memory, "
                f"got {self.input_surface.channels}"
            )
        options = dict(adapter) if isinstance(adapter, Mapping) else {"name": adapter}
        name = options.pop("name", None)
        if not isinstance(name, str) or name not in ADAPTERS:
            raise ValueError(f"adapter must be one of {sorted(ADAPTERS)}, got {name!r}")
        check_taken(f"the adapter {name}", ADAPTERS[name], options, given=("in_features", "out_features"))
        if path not in PATHS:
            raise ValueError(f"path must be one of {PATHS}, got {path!r}")
        self.question_adapter = ADAPTERS[name](in_features, width, **options)
        known = self.question_adapter.config()
        self.adapter_options = {"name": name, **{option: known[option] for option in options}}
        self.answer_adapter = ADAPTERS[name](in_features, width, **options)
        self.answer_adapter.load_state_dict(self.question_adapter.state_dict())
        for made, surface in zip((self.question_adapter, self.answer_adapter), surfaces, strict=True):
            if isinstance(made, PCAAdapter) and lattice.dim:
                made.positions = lattice.positions[surface.index].repeat_interleave(surface.channels, dim=0)
        self.answer_adapter.encoder.requires_grad_(False)
        self.path, self.readout, self.readout_nodes, self.key_kind = None, None, readout, key
        self.readout_channels = num_channels if readout_channels is None else readout_channels
        if key not in KEYS:
            raise ValueError(f"key must be one of {KEYS}, got {key!r}")
        if not 1 <= self.readout_channels <= num_channels:
            raise ValueError(
                f"readout_channels must be between 1 and the {num_channels} channels of the state that are not memory, "
                f"got {readout_channels}"
            )
        if path == "linear":
            # Nothing is decoded.
            self.answer_adapter.requires_grad_(False)
            self.path = LinearPath(in_features, key=key)
            read = _mask(lattice, readout, self.output_surface)
            self.readout = Readout(read, self.readout_channels, in_features)

    @property
    def in_features(self) -> int:
        """Width of the embeddings that go in and come out."""
        return self.question_adapter.in_features

    def encode(self, question: Tensor) -> Tensor:
        """The surface that questions are injected as, ``[batch, surface_width]``."""
        embedding = question if self.path is None else self.path.question(question)
        # Under autocast the adapter's output is bfloat16; the state is kept in the parameters' dtype.
        return self.question_adapter.encode(embedding).to(self.cell.dtype)

    def decode(self, cells: Tensor, question: Tensor, *, num_steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """The answers, their surfaces, and their queries, that the last states of the cells that are read stand for.

        Args:
            cells: The states, ``[batch, num_read, channels]``, see :attr:`read_index`.
            question: The questions, ``[batch, in_features]``.
            num_steps: Number of steps that were taken.
        """
        if self.path is None or self.readout is None:
            extracted = self.output_surface.read(cells) / self.conveyor.gain(num_steps)
            embedding = self.answer_adapter.decode(extracted)
            return embedding, extracted, embedding
        z = self.path.question(question)
        query = self.path(z) + self.readout(cells)
        return self.path.embedding(z, query), self.answer_adapter.encode(query), query

    def key(self, answer: Tensor) -> Tensor:
        """What queries are compared with to find answers, ``[..., in_features]`` as they are."""
        return answer if self.path is None else self.path.key(answer)

    @property
    def read_index(self) -> Tensor:
        """Numbers of the cells that the answer is read off."""
        return self.output_surface.index if self.readout is None else self.readout.index

    def target_surface(self, answer: Tensor) -> Tensor:
        """The surface that stands for an answer embedding: fixed, without gradient."""
        with torch.no_grad():
            return self.answer_adapter.encode(answer if self.path is None else self.path.answer(answer))

    @torch.no_grad()
    def fit_adapters(self, question: Any, answer: Any, *, start: str = "identity") -> dict[str, float]:
        """Fit the adapters in closed form to training pairs, before the training proper.

        Args:
            question: Training questions, ``[num_pairs, in_features]``, in memory or on the disk; of the latter, ridge
                regression looks at some.
            answer: Their answers, likewise.
            start: ``"identity"``: the new network answers each question with the question itself, moved to the mean of
                the answers; ``"ridge"``: with what ridge regression says.

        Returns:
            The adapters' reconstruction errors on these embeddings, shares of the variance.

        Raises:
            ValueError: If ``start`` is unknown, the embeddings' width is not the adapters', a value is not finite,
                there are not as many questions as answers, or anything is not on the CPU.
        """
        check_start(start, self)
        check_fit(self, question, answer)
        if self.path is not None:
            return self._fit_path(self.path, question, answer, start)
        self.answer_adapter.fit(answer)
        self.question_adapter.load_state_dict(self.answer_adapter.state_dict())
        seen = some_rows(question, answer)
        errors = {
            "question_reconstruction_error": self.question_adapter.reconstruction_error(seen[0]),
            "answer_reconstruction_error": self.answer_adapter.reconstruction_error(seen[1]),
        }
        if start == "ridge":
            question, answer = some_rows(question, answer)
            regress(self.question_adapter, question, self.target_surface(answer))
        else:
            shift = mean_row(mapped(answer, self.target_surface)) - mean_row(
                mapped(question, self.question_adapter.encode)
            )
            self.question_adapter.move(shift)
        return errors

    def _fit_path(self, path: LinearPath, question: Any, answer: Any, start: str) -> dict[str, float]:
        path.fit(question, answer)
        if start == "ridge":
            path.regress(*some_rows(question, answer))
        scaled = {"question": mapped(question, path.question), "answer": mapped(answer, path.answer)}
        adapters = {"question": self.question_adapter, "answer": self.answer_adapter}
        for name, adapter in adapters.items():
            adapter.fit(scaled[name])
        seen = dict(zip(scaled, some_rows(*scaled.values()), strict=True))
        return {f"{name}_reconstruction_error": adapters[name].reconstruction_error(seen[name]) for name in adapters}

    def parameter_counts(self) -> dict[str, int]:
        """Number of parameters of the parts in use."""
        parts: dict[str, tuple[nn.Module, ...]] = {
            "adapters": (self.question_adapter.encoder, self.answer_adapter.decoder)
        }
        if self.path is not None and self.readout is not None:
            parts = {"adapters": (self.question_adapter.encoder,), "readout": (self.readout,), **self.path.parts()}
        return {name: sum(p.numel() for part in found for p in part.parameters()) for name, found in parts.items()}

    def ends_config(self) -> dict[str, Any]:
        """The constructor's arguments that are about the ends, as plain types."""
        read = self.readout_nodes
        if not isinstance(read, str):
            read = Surface(self.cell.lattice, read).config()["nodes"]
        return {
            "in_features": self.in_features,
            "input_nodes": self.input_surface.config()["nodes"],
            "output_nodes": self.output_surface.config()["nodes"],
            "surface_channels": self.input_surface.channels,
            "path": "none" if self.path is None else "linear",
            "key": self.key_kind,
            "readout_channels": self.readout_channels,
            "readout": read,
            "adapter": self.adapter_options,
        }


def check_start(start: str, network: Any) -> None:
    """Raise a ValueError if a start is unknown, or not to be had of the network."""
    if start not in STARTS:
        raise ValueError(f"start must be one of {STARTS}, got {start!r}")
    if start == "ridge" and network.path is None and not isinstance(network.question_adapter.encoder, nn.Linear):
        kind = type(network.question_adapter).__name__
        raise ValueError(f"start='ridge' sets the path or a linear adapter, got path='none' and a {kind}")


def check_fit(network: Any, question: Any, answer: Any) -> None:
    """Raise a ValueError if a network or embeddings are not where closed forms are found, or the embeddings are no
    pairs of finite vectors of its width."""
    for given in (next(network.answer_adapter.parameters()), question, answer):
        if isinstance(given, np.ndarray):
            raise ValueError("embeddings must be tensors, or rows or tokens on the disk, got a NumPy array")
        if isinstance(given, Tensor) and (device := given.device).type != "cpu":
            raise ValueError(f"adapters are fitted on the CPU, before the network moves: expected cpu, got {device}")
    if len(question) != len(answer) or not len(question):
        raise ValueError(f"expected as many questions as answers, at least one, got {len(question)} and {len(answer)}")
    for name, rows in (("question", question), ("answer", answer)):
        width, shape = network.in_features, [*rows.shape]
        if shape[-1] != width or (isinstance(rows, Tensor) and rows.dim() != 2):
            raise ValueError(f"{name}s must have {width} features a row, got {shape}")
        check_finite(name, rows)


def _mask(lattice: Lattice, nodes: Any, output: Surface) -> Tensor:
    """The cells that are read."""
    if isinstance(nodes, str) and nodes in ("surface", "all"):
        return output.mask if nodes == "surface" else torch.ones(lattice.num_nodes, dtype=torch.bool)
    return Surface(lattice, nodes).mask
