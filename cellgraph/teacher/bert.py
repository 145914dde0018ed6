"""BERT's encoder in PyTorch alone, for a start without transformers.

Importing the encoder of transformers takes longer than all else that a question needs, see ``benchmarks/RESULTS.md``.
The same operations in the same order give the same bits; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from cellgraph.numbers import plain_numbers

#: Added to the variance by every normalisation, as in the published configuration.
EPSILON = 1e-12


class BertEncoder:
    """`BERT <https://arxiv.org/abs/1810.04805>`_ (section 3): texts as tokens to a vector for each token.

    Args:
        weights: Its tensors, under the names that transformers saves them by.
        heads: Number of attention heads.
    """

    @plain_numbers
    def __init__(self, weights: Mapping[str, Tensor], *, heads: int) -> None:
        self.weights, self.heads = weights, heads
        self.num_layers = sum(name.endswith("attention.self.query.weight") for name in weights)

    def __call__(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Encode texts of one segment.

        Args:
            tokens: Numbers of the tokens, padded at the right.
            mask: 1 where there is a token, 0 where there is padding.

        Shapes:
            - **tokens**, **mask:** ``[num_texts, num_tokens]``
            - **output:** ``[num_texts, num_tokens, width]``
        """
        segments, places = (self.weights[f"embeddings.{name}_embeddings.weight"] for name in ("token_type", "position"))
        x = self._norm("embeddings.LayerNorm", self.words(tokens) + segments[0] + places[: tokens.size(1)])
        # Without padding there is nothing to mask, and a mask would only choose a slower kernel.
        allowed = None if bool(mask.all()) else mask.bool()[:, None, None].expand(-1, 1, tokens.size(1), -1)
        for layer in range(self.num_layers):
            x = self._layer(f"encoder.layer.{layer}", x, allowed)
        return x

    def words(self, tokens: Tensor) -> Tensor:
        """The vectors of tokens before any layer has read them, ``[num_texts, num_tokens, width]``."""
        return F.embedding(tokens, self.weights["embeddings.word_embeddings.weight"])

    def _layer(self, name: str, x: Tensor, allowed: Tensor | None) -> Tensor:
        query, key, value = (
            self._linear(f"{name}.attention.self.{part}", x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed).transpose(1, 2).flatten(2)
        x = self._norm(f"{name}.attention.output.LayerNorm", self._linear(f"{name}.attention.output.dense", heard) + x)
        inner = F.gelu(self._linear(f"{name}.intermediate.dense", x))
        return self._norm(f"{name}.output.LayerNorm", self._linear(f"{name}.output.dense", inner) + x)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], EPSILON)
