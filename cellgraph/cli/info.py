"""The verb ``info``: what is here, and what a run holds."""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import torch

from cellgraph.ops import backend_needs
from cellgraph.runs import load
from cellgraph.teacher import default_cache_folder
from cellgraph.training import used_precision


def main(arguments: Sequence[str]) -> None:
    """Tell versions, device, backends and folders, or what a run's network consists of."""
    parser = argparse.ArgumentParser(prog="cellgraph info", description=main.__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="run folder of `cellgraph train`")
    folder = parser.parse_args(arguments).run
    if folder is not None:
        model = load(folder)
        print(model)
        for part, count in model.parameter_counts().items():
            print(f"{part}: {count:,} parameters")
        return
    for package in ("cellgraph", "torch", "torch_geometric", "transformers", "lightning", "hydra-core"):
        print(f"{package} {importlib.metadata.version(package)}")
    print(f"device: {describe_device()}")
    needs = backend_needs()
    print(f"backends: {', '.join(name for name, lacking in needs.items() if lacking is None)}")
    for name, lacking in needs.items():
        if lacking is not None:
            print(f"  {name} {lacking}")
    print(f"precision: auto takes {used_precision('auto')}")
    print(f"embedding cache: {default_cache_folder()}")


def describe_device() -> str:
    """The device that ``accelerator="auto"`` takes, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if torch.backends.mps.is_available():
        return "Apple GPU (mps)"
    return f"CPU, {torch.get_num_threads()} threads"
