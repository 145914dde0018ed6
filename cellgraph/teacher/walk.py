"""The walk of texts through a network, in batches of like length."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cellgraph.progress import progress_bar
from cellgraph.teacher.batches import batches_by_length, right_padded
from cellgraph.teacher.network import Network

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tokens:
    """A batch of texts in tokens.

    Attributes:
        places: Which of the texts they are.
        ids: The tokens of each.
        types: Their types where the model takes such.
        mask: Ones where there are tokens, ``[num_texts, longest]``, on the network's device.
    """

    places: list[int]
    ids: list[list[int]]
    types: list[list[int]] | None
    mask: Tensor


def walk(
    network: Network,
    texts: list[str],
    work: Callable[[Tokens], None],
    *,
    device: torch.device,
    batch_size: int,
    batch_tokens: int,
    progress: bool,
) -> list[int]:
    """Have work done on all texts, the longest first, in the network's own arithmetic whatever is around.

    Args:
        network: Makes tokens of the texts.
        texts: The texts.
        work: What is done with a batch.
        device: Where the network is.
        batch_size, batch_tokens: See :func:`~cellgraph.teacher.batches.batches_by_length`.
        progress: Whether to show a progress bar.

    Returns:
        How many tokens each text has, those that were cut off counted, too.
    """
    ids, types, uncut = network.tokenize(texts)
    lengths = [len(row) for row in ids]
    ambient = torch.autocast(device.type, enabled=False)
    with progress_bar(len(texts), enabled=progress) as advance, ambient:
        for places in batches_by_length(lengths, batch_size, batch_tokens):
            mask = right_padded([[1] * lengths[place] for place in places], 0).to(device)
            kinds = None if types is None else [types[place] for place in places]
            work(Tokens(places, [ids[place] for place in places], kinds, mask))
            advance(len(places))
    return uncut


def warn_of_cut(cut: int, texts: int, most: int) -> None:
    """Say how many of the texts were not read to their end, if any."""
    if cut:
        logger.warning("%d of %d texts have more than %d tokens: the rest of them is not read", cut, texts, most)
