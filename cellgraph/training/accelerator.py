"""The accelerator: Lightning's names of the devices that are trained on, and what they stand for here."""

from __future__ import annotations

import torch

#: The kinds that everything here is made for; Lightning has more.
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


def device_type(accelerator: str) -> str:
    """The type of device that an accelerator stands for."""
    if accelerator not in ("auto", "gpu"):
        return accelerator
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() or accelerator == "gpu" else "cpu"


def check_accelerator(accelerator: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        ValueError: If the name is unknown or there is no such device.
    """
    if accelerator not in ACCELERATORS:
        raise ValueError(f"accelerator must be one of {ACCELERATORS}, got {accelerator!r}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device_type(accelerator), True):
        found = [name for name, is_there in there.items() if is_there]
        raise ValueError(
            f"accelerator must be a device of this machine, which has {' and '.join(['cpu', *found])}; "
            f"got {accelerator!r}"
        )
