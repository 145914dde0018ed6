"""The generators: the global ones of Python, NumPy and PyTorch, lent to what draws from them and given back."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def generator_states(*, cuda: bool = True) -> dict[str, Any]:
    """The states of all of them, as plain types and tensors.

    Args:
        cuda: Whether those of the GPUs are looked for; they are started for that.
    """
    name, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - the global state is the point
    looked_for = torch.cuda.is_initialized() or (cuda and torch.cuda.is_available())
    return {
        "python": random.getstate(),
        "numpy": (str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if looked_for else [],
    }


def restore_generators(states: dict[str, Any]) -> None:
    """Bring them into these states; those of as many GPUs as there are here.

    Args:
        states: What :func:`generator_states` gave.
    """
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    name, numpy_keys, position, has_gauss, numpy_gauss = states["numpy"]
    np.random.set_state((name, numpy_keys.numpy().astype(np.uint32), position, has_gauss, numpy_gauss))  # noqa: NPY002
    torch.set_rng_state(states["torch"].cpu())
    cuda = states["cuda"]
    if cuda and torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in cuda])


@contextlib.contextmanager
def own_generators(seed: int | None = None, *, cuda: bool = False) -> Iterator[None]:
    """Within, what draws from the global generators draws for itself: they are as before afterwards.

    Args:
        seed: Seed of PyTorch's generator on the CPU, where new weights are drawn; it goes on as it is without one.
        cuda: Whether a GPU may be used for the first time within, and seeded.

    Example:
        >>> before = torch.get_rng_state()
        >>> with own_generators(seed=1):
        ...     _ = torch.nn.Linear(2, 3)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """
    before = generator_states(cuda=cuda)
    try:
        if seed is not None:
            # Not torch.manual_seed: it seeds the GPUs, too, also one that is not in use yet.
            torch.default_generator.manual_seed(seed)
        yield
    finally:
        restore_generators(before)
