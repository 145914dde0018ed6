"""The teacher without a transformer: the mean of a model's input embeddings."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from cellgraph.files import expanded
from cellgraph.numbers import plain_numbers
from cellgraph.teacher.base import BaseTeacher
from cellgraph.teacher.hub import locate_model, weight_files
from cellgraph.teacher.minilm import HUB_ID, packaged_folder
from cellgraph.teacher.pretrained import read_config, read_model, read_tokenizer
from cellgraph.teacher.protocol import checked_texts

WEIGHTINGS = ("sif", "idf", "none")
#: How the input embeddings are called in the files of the usual models.
_NAMES = ("embed_tokens.weight", "word_embeddings.weight", "wte.weight", "shared.weight", "tok_embeddings.weight")
#: Texts at a time.
_BLOCK = 4096


class StaticTeacher(BaseTeacher):
    r"""The weighted mean of the input embeddings of a transformers model, of which nothing else is loaded.

    The smooth inverse frequency of `Arora et al. 2017 <https://openreview.net/forum?id=SyK00v5xx>`_: with
    :math:`p(w)` the share of a token among those of the training texts, and :math:`U` the leading directions of the
    training texts' own means,

    .. math:: v = \frac{1}{|s|} \sum_{w \in s} \frac{a}{a + p(w)} \, e_w, \qquad (1 - U U^\top) \, v

    at unit length. A text without a token becomes the zero vector.

    Args:
        name_or_path: Local folder or hub id; by default MiniLM's, from its package where that is installed.
        weighting: ``"sif"`` as above, ``"idf"`` the inverse frequency among the training texts, or ``"none"``.
        a: The constant of the first.
        remove: Number of leading directions that are removed. With none, and no weighting, there is nothing to fit.
        revision: Branch, tag or commit on the hub.

    Shapes:
        - ``encode``: ``num_texts`` texts to ``[num_texts, width]``

    Raises:
        ValueError: If an argument is out of range.
    """

    @plain_numbers
    def __init__(
        self,
        name_or_path: str | os.PathLike[str] = HUB_ID,
        *,
        weighting: str = "sif",
        a: float = 1e-3,
        remove: int = 1,
        revision: str | None = None,
    ) -> None:
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting must be one of {WEIGHTINGS}, got {weighting!r}")
        if not a > 0 or remove < 0:
            raise ValueError(f"a must be positive and remove not negative, got {a} and {remove}")
        self.name_or_path, self.revision = os.fspath(name_or_path), revision
        self.weighting, self.a, self.remove = weighting, a, remove
        path = expanded(self.name_or_path)
        # A relative path would mean another folder when read from elsewhere.
        self._given["name_or_path"] = str(path.resolve()) if path is not None and path.is_dir() else self.name_or_path
        self._learned: dict[str, Tensor] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name_or_path!r}, weighting={self.weighting!r}, remove={self.remove})"

    @classmethod
    def kind(cls) -> str:
        """Its name in files."""
        return "static"

    @property
    def width(self) -> int:  # type: ignore[override]
        """Number of components of an embedding: that of the model's input embeddings."""
        return self._table.size(1)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the input embeddings, the tokenizer, the options and what was learned.

        Raises:
            ValueError: If the teacher must learn and has not yet.
        """
        self._check_fitted()
        options = {name: value for name, value in self._given.items() if name not in ("name_or_path", "revision")}
        digest = hashlib.sha256(json.dumps([self.kind(), options, self._files_digest], sort_keys=True).encode())
        for name, tensor in sorted(self._learned.items()):
            digest.update(f"{name} {list(tensor.shape)}".encode() + tensor.numpy().tobytes())
        return digest.hexdigest()

    def fit(self, texts: Sequence[str]) -> None:
        """Learn how frequent tokens are, and the leading directions; give it training texts only.

        Raises:
            ValueError: If there is no text.
        """
        texts = checked_texts(texts)
        if not texts:
            raise ValueError("teacher static needs at least one text to learn from")
        self._learned = {}
        # In float32 a count would stay at 2 ** 24, which the commonest token of a large set passes.
        counts, found = (torch.zeros(len(self._table), dtype=torch.float64) for _ in range(2))
        for ids, _ in self._blocks(texts if self.weighting != "none" else []):
            for row in ids:
                counts += torch.bincount(row, minlength=len(counts))
                found[row] += 1
        if self.weighting == "sif":
            self._learned["weights"] = (self.a / (self.a + counts / counts.sum().clamp_min(1))).float()
        elif self.weighting == "idf":
            self._learned["weights"] = (((1 + len(texts)) / (1 + found)).log() + 1).float()
        if self.remove:
            moment = torch.zeros(self.width, self.width, dtype=torch.float64)
            for ids, _ in self._blocks(texts):
                rows = self._means(ids).double()
                moment += rows.T @ rows
            directions = torch.linalg.eigh(moment)[1].flip(1)[:, : self.remove]
            self._learned["directions"] = directions.float().contiguous()

    def encode(self, texts: Sequence[str], *, progress: bool = False) -> Tensor:
        """Turn texts into embeddings, in their order.

        Args:
            texts: The texts.
            progress: Ignored: thousands of texts take a second.

        Shapes:
            - result: ``[num_texts, width]``, float32

        Raises:
            OSError: If the model's files cannot be had.
            ValueError: If the teacher must learn and has not yet, or the texts are not strings.
        """
        self._check_fitted()
        texts = checked_texts(texts)
        result = torch.zeros(len(texts), self.width)
        for ids, place in self._blocks(texts):
            means = self._means(ids)
            if self.remove:
                directions = self._learned["directions"]
                means = means - means @ directions @ directions.T
            result[place] = F.normalize(means, dim=1)
        return result

    def state_dict(self) -> dict[str, Tensor]:
        """What was learned."""
        self._check_fitted()
        return self._learned

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take it back."""
        self._learned = dict(state)

    def _check_fitted(self) -> None:
        needed = {name for name, used in (("weights", self.weighting != "none"), ("directions", self.remove)) if used}
        if needed - self._learned.keys():
            raise ValueError("teacher static must be fitted on training texts first: fit(texts)")

    @cached_property
    def folder(self) -> Path:
        """Where the model's files lie on this machine."""
        packaged = packaged_folder() if self.name_or_path == HUB_ID else None
        return packaged or locate_model(self.name_or_path, revision=self.revision)

    @cached_property
    def _table(self) -> Tensor:
        for file in weight_files(self.folder):
            if file.suffix == ".safetensors":
                with safe_open(file, framework="pt") as tensors:
                    named = [name for name in tensors.keys() if name.endswith(_NAMES)]  # noqa: SIM118 - no mapping
                    if named:
                        return tensors.get_tensor(min(named, key=len)).float()
        options: dict[str, Any] = {"dtype": torch.float32, "quantization": None, "device": torch.device("cpu")}
        model: Any = read_model(self.folder, read_config(self.folder), **options)
        return model.get_input_embeddings().weight.detach()

    @cached_property
    def _tokenizer(self) -> Any:
        return read_tokenizer(self.folder)

    @cached_property
    def _files_digest(self) -> str:
        tokenizer = self._tokenizer.backend_tokenizer.to_str() if self._tokenizer.is_fast else repr(self._tokenizer)
        return hashlib.sha256(tokenizer.encode() + self._table.numpy().tobytes()).hexdigest()

    def _blocks(self, texts: list[str]) -> Any:
        """Tokens of the texts, and which texts they are, some at a time."""
        for start in range(0, len(texts), _BLOCK):
            part = texts[start : start + _BLOCK]
            rows = self._tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
            yield [torch.tensor(row, dtype=torch.long) for row in rows], slice(start, start + len(part))

    def _means(self, ids: list[Tensor]) -> Tensor:
        lengths = torch.tensor([len(row) for row in ids])
        offsets = lengths.cumsum(0) - lengths
        flat = torch.cat(ids)
        weights = self._learned["weights"][flat] if "weights" in self._learned else None
        sums = F.embedding_bag(flat, self._table, offsets, mode="sum", per_sample_weights=weights)
        return sums / lengths.clamp_min(1)[:, None]
