"""Pooling: from one vector a token to one vector a text."""

from __future__ import annotations

from torch import Tensor

#: The known ways of pooling.
POOLINGS = ("mean", "last", "cls")


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool the token vectors of right-padded texts; what the padding holds has no influence.

    Sentence encoders are trained for ``"mean"`` (`Reimers and Gurevych 2019 <https://arxiv.org/abs/1908.10084>`_) or
    ``"cls"``, the first token; in a decoder only the ``"last"`` token has seen the whole text.

    Args:
        hidden: Last hidden states.
        mask: One for tokens, zero for padding, which stands at the right; at least one token a text.
        pooling: ``"mean"``, ``"last"`` or ``"cls"``.

    Shapes:
        - hidden: ``[num_texts, num_tokens, width]``
        - mask: ``[num_texts, num_tokens]``
        - result: ``[num_texts, width]``

    Raises:
        ValueError: If the pooling is unknown.

    Example:
        >>> import torch
        >>> hidden = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> mask = torch.tensor([[1, 1, 0]])
        >>> [pool(hidden, mask, pooling).item() for pooling in ("mean", "last", "cls")]
        [2.0, 3.0, 1.0]
    """
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        last = mask.sum(dim=1) - 1
        return hidden.take_along_dim(last[:, None, None], dim=1).squeeze(1)
    if pooling == "mean":
        # Not hidden * mask: a non-finite value in the padding would survive the multiplication by zero.
        kept = hidden.masked_fill(mask[:, :, None] == 0, 0.0)
        return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True)
    raise ValueError(f"pooling must be one of {POOLINGS}, got {pooling!r}")
