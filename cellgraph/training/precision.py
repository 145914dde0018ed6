"""The precision of the arithmetic: Lightning's names for it, and the one that suits a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cellgraph.ops.processor import multiplies_bfloat16
from cellgraph.training.accelerator import device_type
from cellgraph.training.checkpoint import read_checkpoint

AUTO = "auto"
PRECISIONS = (AUTO, "32-true", "bf16-mixed", "16-mixed", "64-true")


def used_precision(precision: str, accelerator: str = "auto", *, last: Path | None = None) -> str:
    """The precision that a run has by its setting.

    ``"auto"`` stands for ``"bf16-mixed"`` where the device multiplies bfloat16, and ``"32-true"`` elsewhere; every
    other name for itself.

    Args:
        precision: One of :data:`PRECISIONS`.
        accelerator: Lightning's name of the device.
        last: Last checkpoint of a run: where there is one, ``"auto"`` stands for what the run was started with, on
            whatever processor that was.

    Raises:
        ValueError: If the name is unknown, or the checkpoint is damaged.

    Example:
        >>> used_precision("64-true")
        '64-true'
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    if precision != AUTO:
        return precision
    if last is not None and last.exists():
        recorded = recorded_precision(read_checkpoint(last))
        if recorded is not None:
            return recorded
    return "bf16-mixed" if multiplies_bfloat16(device_type(accelerator)) else "32-true"


def recorded_precision(checkpoint: dict[str, Any]) -> str | None:
    """What a run's checkpoint says that it computes in, where it says so."""
    precision = checkpoint.get("update_state", {}).get("precision")
    return precision if precision in PRECISIONS else None
