"""Teachers that are transformers models."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cellgraph.files import expanded
from cellgraph.numbers import plain_numbers
from cellgraph.teacher.batches import CPU_BATCH_TOKENS, right_padded
from cellgraph.teacher.hub import file_digest, locate_model, model_files, weight_files
from cellgraph.teacher.network import Network, TransformersNetwork
from cellgraph.teacher.pooling import POOLINGS, pool
from cellgraph.teacher.pretrained import Dispatch, check_quantization, find_device, read_config
from cellgraph.teacher.protocol import checked_texts
from cellgraph.teacher.state import checked_options, read_state, write_state
from cellgraph.teacher.walk import Tokens, walk, warn_of_cut

#: The options that change an embedding.
CHANGING = ("pooling", "max_length", "dtype", "quantization", "normalize")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TransformersTeacher:
    """Any encoder or decoder of `transformers <https://huggingface.co/docs/transformers>`_, frozen.

    Texts are padded at the right for every pooling, sorted by length so that little of a batch is padding, and come
    back in their own order. Building one is cheap: the files are looked for when first needed, and the weights are
    read only by :meth:`encode`; :attr:`width` and :attr:`fingerprint` are computed from the files. Code that comes
    with a model is never run.

    Args:
        name_or_path: Local folder or hub id; of an encoder-decoder model, the encoder is used.
        pooling: ``"mean"`` over the tokens, the ``"last"`` token (decoders) or the first, ``"cls"``.
        max_length: Longer texts are cut after this many tokens, special tokens included.
        dtype: Arithmetic of the model: ``"float32"``, ``"bfloat16"`` or ``"float16"``; embeddings are float32 always.
        quantization: ``"8bit"`` or ``"4bit"`` weights by bitsandbytes, on a CUDA GPU.
        batch_size: Most texts in a batch.
        batch_tokens: Most tokens in a batch, padding included; one text may be longer. By default what keeps a CPU's
            caches warm, and no limit on an accelerator.
        device: Where the model runs: the accelerator if there is one, else the CPU, by default.
        normalize: Whether embeddings are scaled to unit length.
        revision: Branch, tag or commit on the hub.
        device_map: ``"auto"``: accelerate spreads the weights over the GPUs, then the memory, then ``offload_folder``.
        max_memory: What it may take of each, such as ``{0: "20GiB", "cpu": "60GiB"}``; what is there by default.
        offload_folder: Where weights go that fit nowhere else.

    Shapes:
        - ``encode``: ``num_texts`` texts to ``[num_texts, width]``

    Raises:
        ValueError: If an argument is not one of the known ones, or quantization finds no GPU or no bitsandbytes.
    """

    kind = "transformers"

    @plain_numbers
    def __init__(
        self,
        name_or_path: str | os.PathLike[str],
        *,
        pooling: str = "mean",
        max_length: int = 256,
        dtype: str = "float32",
        quantization: str | None = None,
        batch_size: int = 64,
        batch_tokens: int | None = None,
        device: str | torch.device | None = None,
        normalize: bool = True,
        revision: str | None = None,
        device_map: str | None = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        offload_folder: str | os.PathLike[str] | None = None,
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, got {pooling!r}")
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {tuple(DTYPES)}, got {dtype!r}")
        self.device = find_device(device)
        if batch_tokens is None:
            batch_tokens = CPU_BATCH_TOKENS if self.device.type == "cpu" else batch_size * max_length
        for name, value in (("max_length", max_length), ("batch_size", batch_size), ("batch_tokens", batch_tokens)):
            if value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}")
        self.name_or_path = os.fspath(name_or_path)
        self.pooling = pooling
        self.max_length = max_length
        self.dtype = dtype
        self.quantization = quantization
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
        self.normalize = bool(normalize)
        self.revision = revision
        self._dispatch = Dispatch(device_map, max_memory, offload_folder)
        self._expected: str | None = None
        if quantization is not None:
            check_quantization(quantization, self.device)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name_or_path!r}, pooling={self.pooling!r}, max_length={self.max_length})"

    @property
    def width(self) -> int:
        """Number of components of an embedding, from the model's configuration."""
        return int(self._config.get_text_config().hidden_size)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over weights, configuration, tokenizer and the options that change an embedding.

        Raises:
            OSError: If the files cannot be had.
            ValueError: If the teacher was loaded from a folder and its files are no longer those it was saved with.
        """
        content = {
            "files": {path.name: file_digest(path) for path in model_files(self.folder)},
            "weights": dict(self._weight_digests),
            **{name: getattr(self, name) for name in CHANGING},
        }
        fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        if self._expected not in (None, fingerprint):
            raise ValueError(
                f"the files of teacher {self.name_or_path!r} have changed: expected fingerprint "
                f"{str(self._expected)[:12]}..., got {fingerprint[:12]}..."
            )
        return fingerprint

    @cached_property
    def folder(self) -> Path:
        """Where the model's files lie on this machine, downloaded if need be.

        Raises:
            OSError: If they are nowhere to be had.
        """
        folder = self._locate()
        model_files(folder)
        weight_files(folder)
        return folder

    def fit(self, texts: Sequence[str]) -> None:
        """Does nothing: the model is trained already."""

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
        """Turn texts into embeddings, in their order.

        Args:
            texts: The texts; an empty one is embedded as a lone special token.
            progress: Whether to show a progress bar.

        Shapes:
            - result: ``[num_texts, width]``, float32, on the CPU

        Raises:
            OSError: If the model's files cannot be had.
            ValueError: If they cannot be read, or the texts are not strings.
        """
        texts = checked_texts(texts)
        # Made outside of inference mode: tensors made within could not take part in training.
        result = torch.empty(len(texts), self.width, dtype=torch.float32)
        if not texts:
            return result

        def embed(batch: Tokens) -> None:
            result[batch.places] = self._encoded(batch)

        with torch.inference_mode():
            lengths = self._walk(texts, embed, progress=progress)
        warn_of_cut(sum(length > self.max_length for length in lengths), len(texts), self.max_length)
        return result

    def token_states(
        self, texts: Sequence[str], *, level: str = "hidden", max_tokens: int | None = None, progress: bool = False
    ) -> tuple[list[Tensor], int]:
        """A vector for each token of texts, special tokens included.

        Args:
            texts: The texts.
            level: ``"hidden"``: of the last layer; ``"input"``: the input embeddings, before any layer.
            max_tokens: Longer texts are cut, by no more than what is left being given: the layers have read it all.
            progress: Whether to show a progress bar.

        Returns:
            For each text ``[num_tokens, width]``, float32, on the CPU; and how many texts were cut.

        Raises:
            OSError: If the model's files cannot be had.
            ValueError: If they cannot be read, or the texts are not strings.
        """
        texts = checked_texts(texts)
        found: list[Tensor] = [torch.empty(0)] * len(texts)
        if not texts:
            return found, 0
        most = self.max_length if max_tokens is None else max_tokens

        def read(batch: Tokens) -> None:
            made = self._input_embeddings(batch) if level == "input" else self._hidden(batch)
            for place, row, own in zip(batch.places, made.float().cpu(), batch.ids, strict=True):
                found[place] = row[: min(len(own), most)].clone()

        with torch.no_grad():
            lengths = self._walk(texts, read, progress=progress)
        return found, sum(length > most for length in lengths)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write ``teacher.json``, which names the model and its fingerprint; the weights stay where they are.

        Raises:
            OSError: If the folder cannot be written or the model's files cannot be had.
        """
        write_state(folder, {"kind": self.kind, "options": self._options(), "fingerprint": self.fingerprint})

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> TransformersTeacher:
        """Build the teacher that :meth:`save_pretrained` described; the fingerprint is compared at first use.

        Raises:
            OSError: If the folder has no ``teacher.json``.
            ValueError: If it does not describe such a teacher.
        """
        state = read_state(folder)
        teacher = cls._from_options(folder, state)
        teacher._expected = state["fingerprint"]
        return teacher

    @classmethod
    def _from_options(cls, folder: str | os.PathLike[str], state: dict[str, Any]) -> TransformersTeacher:
        options = checked_options(folder, state, {"name_or_path", "revision", *CHANGING})
        return cls(options.pop("name_or_path"), **options)

    def _options(self) -> dict[str, Any]:
        path = expanded(self.name_or_path)
        return {
            # A relative path would mean another folder when read from elsewhere.
            "name_or_path": str(path.resolve()) if path is not None and path.is_dir() else self.name_or_path,
            "revision": self.revision,
            **{name: getattr(self, name) for name in CHANGING},
        }

    def _locate(self) -> Path:
        return locate_model(self.name_or_path, revision=self.revision)

    @cached_property
    def _weight_digests(self) -> dict[str, str]:
        return {path.name: file_digest(path) for path in weight_files(self.folder)}

    @cached_property
    def _config(self) -> Any:
        return read_config(self.folder)

    @cached_property
    def _network(self) -> Network:
        """What reads texts; its weights are those that the teacher was saved with, if it was."""
        if self._expected is not None:
            _ = self.fingerprint
        return self._read_network()

    def _read_network(self) -> Network:
        return TransformersNetwork(
            self.folder,
            self._config,
            name=self.name_or_path,
            max_length=self.max_length,
            dtype=DTYPES[self.dtype],
            quantization=self.quantization,
            device=self.device,
            dispatch=self._dispatch,
        )

    def _walk(self, texts: list[str], work: Callable[[Tokens], None], *, progress: bool) -> list[int]:
        most = {"batch_size": self.batch_size, "batch_tokens": self.batch_tokens}
        return walk(self._network, texts, work, device=self.device, progress=progress, **most)

    def _hidden(self, batch: Tokens) -> Tensor:
        return self._network.hidden(batch.ids, batch.types, batch.mask)

    def _encoded(self, batch: Tokens) -> Tensor:
        embedding = pool(self._hidden(batch).float(), batch.mask, self.pooling)
        if embedding.size(1) != self.width:
            raise ValueError(
                f"teacher {self.name_or_path!r}: expected embeddings of width {self.width} by its configuration, "
                f"got {embedding.size(1)}"
            )
        return torch.nn.functional.normalize(embedding, dim=1) if self.normalize else embedding

    def _input_embeddings(self, batch: Tokens) -> Tensor:
        made = self._network.input_embeddings(right_padded(batch.ids, 0).to(self.device))
        if made.size(-1) != self.width:
            raise ValueError(
                f"teacher {self.name_or_path!r}: its input embeddings are {made.size(-1)} wide and its states "
                f"{self.width}: use front.tokens.level=hidden"
            )
        return made
