"""The verb ``info``: what is here, and what a run holds."""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

import torch

from cellgraph.ops import backend_needs
from cellgraph.ops.choice import kept_choices, machine_case
from cellgraph.ops.fused.build import describe_build
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
    print(f"instructions of the fused step: {describe_build()}")
    print(f"precision: auto takes {used_precision('auto')}")
    _tell_choices()
    print(f"embedding cache: {default_cache_folder()}")


def describe_device() -> str:
    """The device that ``accelerator="auto"`` takes, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if torch.backends.mps.is_available():
        return "Apple GPU (mps)"
    return f"CPU, {torch.get_num_threads()} threads"


def _tell_choices() -> None:
    """What the backend ``auto`` was measured to be, by this library on this machine."""
    devices = [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]
    # Another number of threads is another case on the same machine.
    here = [{name: text for name, text in machine_case(device).items() if name != "threads"} for device in devices]
    choices = [choice for choice in kept_choices() if any(place.items() <= choice.case.items() for place in here)]
    print(f"backend: auto was measured for {len(choices)} cases here")
    for choice in choices:
        parts = ("lattice", "cell", "dtype", "mode", "rollout", "samples", "threads")
        *case, samples, threads = (choice.case.get(part, "") for part in parts)
        print(f"  {', '.join(case)}, {samples} samples, {threads} threads: {choice}")
