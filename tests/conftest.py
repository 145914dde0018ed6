"""Fixtures of all tests."""

from __future__ import annotations

import gc
import logging
import os
import tempfile
from collections.abc import Generator
from typing import Any

# Every test process computes on one thread, and so does what it starts: parallel tests do not fight over the cores. The
# libraries that compute read this when they are imported.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)

# How long an example takes says how busy the machine is.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Triton reads this when it is imported, which torch_geometric does: without a GPU its kernels are interpreted.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# PyTorch's cache of what it compiled does not tell apart processors that are narrowed by this variable, and what was
# compiled for wider vectors ends the process.
if narrowed := os.environ.get("ATEN_CPU_CAPABILITY"):
    cache = f"{tempfile.gettempdir()}/torchinductor_{getattr(os, 'getuid', int)()}_{narrowed}"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", cache)


# Processes for compiling in parallel import PyTorch first, each of them; the other cores have tests of their own.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

#: The files that take longest. They begin first: of parallel processes one would be left alone with the last of them.
LONGEST = {
    *("test_examples.py", "test_export.py", "test_stopping.py", "test_code_blocks.py", "test_own_parts.py"),
    *("test_contributing.py", "test_cli.py", "test_runs.py", "test_pair_model.py", "test_experiment.py"),
    *("test_onnx_network.py", "test_command.py", "test_soak.py", "test_numbers_given.py", "test_startup.py"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """What is there before the first test stays to the end: garbage is looked for among what tests make."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test leaves the root logger as it was: Hydra's handlers would write into streams that are closed."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        return (yield)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[Any], list[Any]]:
    """Tests are no source of doctests.

    As one, a test file with a name that cannot be imported is skipped, all its tests with it and without a word.
    """
    found = yield
    return [collector for collector in found if type(collector).__name__ != "DoctestModule"]


@pytest.fixture(scope="session", autouse=True)
def _operators() -> None:
    """Loaded before a test has a cache of its own, in which they would be built anew: 20 seconds each time."""
    from cellgraph.ops.fused import load_operators

    load_operators()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
