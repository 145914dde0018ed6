"""The network of a teacher: texts to tokens, and tokens to a vector each."""

from __future__ import annotations

import inspect
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from cellgraph.numbers import plain_numbers
from cellgraph.teacher.batches import right_padded
from cellgraph.teacher.pretrained import Dispatch, read_model, read_tokenizer, special_token


class Network(Protocol):
    """What a teacher asks of its network."""

    def tokenize(self, texts: list[str]) -> tuple[list[list[int]], list[list[int]] | None, list[int]]:
        """The tokens of texts, their types where the model takes such, and how many there would be, uncut."""

    def hidden(self, tokens: list[list[int]], types: list[list[int]] | None, mask: Tensor) -> Tensor:
        """The last hidden states, ``[num_texts, num_tokens, width]``."""

    def input_embeddings(self, tokens: Tensor) -> Tensor:
        """The rows of the model's table of tokens, ``[num_texts, num_tokens, width]``."""


class TransformersNetwork:
    """A model of transformers with its tokenizer, each read from its files when first needed.

    Args:
        folder: Where the files lie.
        config: The model's configuration.
        name: What the teacher is called in messages.
        max_length: Longer texts are cut after this many tokens, special tokens included.
        dtype: Arithmetic of the model.
        quantization: ``"8bit"`` or ``"4bit"`` weights, or ``None``.
        device: Where the model runs.
        dispatch: How its weights are spread over several devices.

    Raises:
        ValueError: At first use: if the files cannot be read, or the tokens are more than the model has positions.
    """

    @plain_numbers
    def __init__(
        self,
        folder: Path,
        config: Any,
        *,
        name: str,
        max_length: int,
        dtype: torch.dtype,
        quantization: str | None,
        device: torch.device,
        dispatch: Dispatch,
    ) -> None:
        self.folder, self.config, self.name, self.max_length = folder, config, name, max_length
        self.dtype, self.quantization, self.device, self.dispatch = dtype, quantization, device, dispatch

    def tokenize(self, texts: list[str]) -> tuple[list[list[int]], list[list[int]] | None, list[int]]:
        """The tokens of texts, their types where the model takes such, and how many there would be, uncut."""
        encoding = self._tokenizer(texts, truncation=True, max_length=self.max_length, padding=False)
        tokens = encoding["input_ids"]
        types = encoding.get("token_type_ids") if "token_type_ids" in self._arguments else None
        if not all(tokens):
            # Tokenizers without special tokens turn an empty text into nothing, and nothing cannot be pooled.
            lone = special_token(self._tokenizer, self.config, "eos_token_id", "bos_token_id", "unk_token_id")
            tokens = [row or [lone] for row in tokens]
            types = [row or [0] for row in types] if types else None
        lengths = [len(row) for row in tokens]
        full = [place for place, length in enumerate(lengths) if length >= self.max_length]
        if full:
            uncut = self._tokenizer([texts[place] for place in full], verbose=False)["input_ids"]
            for place, row in zip(full, uncut, strict=True):
                lengths[place] = len(row)
        return tokens, types, lengths

    def hidden(self, tokens: list[list[int]], types: list[list[int]] | None, mask: Tensor) -> Tensor:
        """The last hidden states, ``[num_texts, num_tokens, width]``."""
        filler = special_token(self._tokenizer, self.config, "pad_token_id", "eos_token_id")
        inputs = {"input_ids": right_padded(tokens, filler)}
        if types is not None:
            inputs["token_type_ids"] = right_padded(types, 0)
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        options = {"use_cache": False} if "use_cache" in self._arguments else {}
        return self._model(**inputs, attention_mask=mask, **options).last_hidden_state

    def input_embeddings(self, tokens: Tensor) -> Tensor:
        """The rows of the model's table of tokens, ``[num_texts, num_tokens, width]``."""
        return self._model.get_input_embeddings()(tokens)

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = read_tokenizer(self.folder)
        special = tokenizer.num_special_tokens_to_add()
        known = [tokenizer.model_max_length, getattr(self.config.get_text_config(), "max_position_embeddings", None)]
        longest = min(length for length in [*known, 2**31] if length is not None and length > 0)
        if not special < self.max_length <= longest:
            raise ValueError(
                f"max_length of teacher {self.name!r} must be over its {special} special tokens and "
                f"at most its {longest} positions, got {self.max_length}"
            )
        return tokenizer

    @cached_property
    def _model(self) -> Any:
        return read_model(
            self.folder,
            self.config,
            dtype=self.dtype,
            quantization=self.quantization,
            device=self.device,
            dispatch=self.dispatch,
        )

    @cached_property
    def _arguments(self) -> set[str]:
        """Names of the arguments the model takes, which differ from architecture to architecture."""
        return set(inspect.signature(self._model.forward).parameters)
