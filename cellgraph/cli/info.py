"""The verb ``info``: what is here, and what a run holds."""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path

from cellgraph.experiment import describe_device
from cellgraph.model import CellGraph
from cellgraph.nn import BACKENDS
from cellgraph.ops.segment import has_torch_scatter
from cellgraph.ops.triton.stencil import triton_obstacle
from cellgraph.teacher import default_cache_folder


def main(arguments: Sequence[str]) -> None:
    """Tell versions, device, backends and folders, or what a run's network consists of."""
    parser = argparse.ArgumentParser(prog="cellgraph info", description=main.__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="run folder of `cellgraph train`")
    folder = parser.parse_args(arguments).run
    if folder is not None:
        model = CellGraph.from_pretrained(folder / "model")
        print(model)
        for part, count in model.parameter_counts().items():
            print(f"{part}: {count:,} parameters")
        return
    for package in ("cellgraph", "torch", "torch_geometric", "transformers", "lightning", "hydra-core"):
        print(f"{package} {importlib.metadata.version(package)}")
    print(f"device: {describe_device()}")
    missing = {"segment": not has_torch_scatter(), "triton": triton_obstacle() is not None}
    print(f"backends: {', '.join(name for name in BACKENDS if not missing.get(name))}")
    print(f"embedding cache: {default_cache_folder()}")
