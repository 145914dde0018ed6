"""The compiled library of the fused step: built once for a machine, then loaded."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import torch

from cellgraph.files import cache_folder, write_atomically

SOURCES = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-std=c++20", "-fopenmp", "-fPIC", "-shared", "-Wno-psabi")


def find_compiler() -> str | None:
    """The C++ compiler: the one of ``CXX``, or one that is found."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)


@functools.cache
def load_operators() -> bool:
    """Load the fused step's operators, and build them first where that was not done before; whether they are there.

    The first call on a machine takes about 20 seconds and says so. Where there is no compiler, or it fails, a warning
    tells why, once.
    """
    compiler = find_compiler()
    if compiler is None:
        warnings.warn("the fused step needs a C++ compiler, found none: the step runs without it", stacklevel=3)
        return False
    try:
        torch.ops.load_library(_build(compiler))
    except (OSError, subprocess.CalledProcessError) as error:
        told = getattr(error, "stderr", None) or str(error.__cause__ or error)
        reason = next((line for line in told.splitlines() if "error" in line), told.strip())
        warnings.warn(f"the fused step could not be built, the step runs without it: {reason}", stacklevel=3)
        return False
    return True


def _build(compiler: str) -> Path:
    sources = sorted(path for path in SOURCES.iterdir() if path.suffix in (".cpp", ".h"))
    # What is compiled for one processor or one version of torch does not run with another.
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout
    parts = [torch.__version__, compiler, version, *FLAGS, _processor(), *(path.read_text() for path in sources)]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    library = cache_folder() / "operators" / f"gmlp_steps-{key}.so"
    if library.is_file():
        return library
    print("cellgraph: building the fused step for this machine, once (about 20 seconds)", file=sys.stderr)
    home = Path(torch.__file__).parent
    includes = ("-isystem", home / "include", "-isystem", home / "include" / "torch" / "csrc" / "api" / "include")
    libraries = (f"-L{home / 'lib'}", "-ltorch_cpu", "-lc10")
    scratch = library.with_suffix(f".{os.getpid()}.tmp")
    scratch.parent.mkdir(parents=True, exist_ok=True)
    try:
        command = [compiler, *FLAGS, *includes, SOURCES / "gmlp_steps.cpp", "-o", scratch, *libraries]
        subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
        write_atomically(library, scratch.read_bytes())
    finally:
        scratch.unlink(missing_ok=True)
    return library


def _processor() -> str:
    """What the compiler's ``-march=native`` depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else [platform.processor()]
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
