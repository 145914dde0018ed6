"""Randomness: the states of the global generators, kept in the checkpoint."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import lightning
import torch

from cellgraph import processes
from cellgraph.generators import generator_states, restore_generators


class GlobalGenerators(lightning.Callback):
    """Saves the states of Python's, NumPy's and PyTorch's global generators and restores them where training goes on.

    The module's own generator is in the checkpoint by itself; these are for what draws without one, such as dropout.
    Of several processes that train together each draws from there for itself, and the states of all are kept.
    """

    def __init__(self) -> None:
        self._pending: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The states as plain types and tensors, the first process's and under ``others`` those of the rest."""
        first, *others = processes.all_have(generator_states())
        return {**first, "others": others} if others else first

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Note the states; what still happens before training may draw."""
        self._pending = state_dict

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Restore them."""
        if processes.rank():
            torch.manual_seed(pl_module.settings.seed + 1_000_003 * processes.rank())
        if self._pending is None:
            return
        others = self._pending.get("others", [])
        if processes.rank():
            if len(others) != processes.world() - 1:
                # It goes on with more or fewer processes.
                return
            self._pending = others[processes.rank() - 1]
        assert self._pending is not None
        restore_generators(self._pending)
        self._pending = None


@contextlib.contextmanager
def deterministic(*, enabled: bool) -> Iterator[None]:
    """Let PyTorch run no kernel that may sum in another order the next time, as its own switch has it.

    Args:
        enabled: Whether to; nothing is changed otherwise.

    Raises:
        RuntimeError: Where such a kernel is called for within, by PyTorch, with its name.
    """
    if not enabled:
        yield
        return
    # Without it cuBLAS is refused; it is read when cuBLAS is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
