"""The states of the global generators, to be compared before and after."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def states_after(seed: int | None = None) -> list[Any]:
    """The states of Python's, NumPy's and PyTorch's generators, on the GPUs in use, too.

    Args:
        seed: What they are seeded with before, unlike anything that the library seeds with.
    """
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    found = [random.getstate(), name, keys.tolist(), rest, torch.get_rng_state().tolist()]
    return [*found, *(state.tolist() for state in cuda)]
