"""The machine that was measured, in words and numbers."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import psutil
import torch

from cellgraph.ops.processor import processor_name

PACKAGES = ("cellgraph", "torch", "torch_geometric", "torch_scatter", "jax", "cax", "triton")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What a reader needs in order to compare figures: processor, memory, load, device and versions."""
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_bytes": int(psutil.virtual_memory().total),
        "load": round(psutil.getloadavg()[0], 2),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
