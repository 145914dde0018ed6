"""The compiled library of the fused step: built once for a machine, then loaded.

``torch.utils.cpp_extension`` does the same for any extension. It takes half a second to import, where this takes
milliseconds to find a library that is there, and neither processor nor compiler are in the name of what it builds: in
a home folder that two machines share, the one would load what was built for the other.
"""

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
from cellgraph.ops.fused.instruction_set import VARIABLE, InstructionSet, chosen_instruction_set

SOURCES = Path(__file__).parent
FLAGS = ("-O3", "-std=c++20", "-fopenmp", "-fPIC", "-shared", "-Wno-psabi")


def find_compiler() -> str | None:
    """The C++ compiler: the one of ``CXX``, or one that is found."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)


@functools.cache
def load_operators() -> bool:
    """Load the fused step's operators, and build them first where that was not done before; whether they are there.

    The first call on a machine takes about 20 seconds and says so. Where there is no compiler or it fails, or where the
    library can be neither read nor written, a warning tells why, once.

    Raises:
        ValueError: If ``$CELLGRAPH_ISA`` names an instruction set that is not known or that the processor lacks.
    """
    target = chosen_instruction_set()
    if _is_loaded():
        return True
    compiler = find_compiler()
    if compiler is None:
        warnings.warn("the fused step needs a C++ compiler, found none: the step runs without it", stacklevel=3)
        return False
    try:
        torch.ops.load_library(_library(compiler, target))
    except subprocess.CalledProcessError as error:
        reason = next((line for line in error.stderr.splitlines() if "error" in line), error.stderr.strip())
        warnings.warn(f"the fused step could not be built, the step runs without it: {reason}", stacklevel=3)
        return False
    except OSError as error:
        reason = str(error.__cause__ or error).strip()
        warnings.warn(f"the fused step could not be loaded, the step runs without it: {reason}", stacklevel=3)
        return False
    return True


def describe_build() -> str:
    """The instruction set that the fused step is built for here, in words; builds and loads nothing.

    Raises:
        ValueError: If ``$CELLGRAPH_ISA`` names an instruction set that is not known or that the processor lacks.
    """
    target = chosen_instruction_set()
    origin = f"forced by {VARIABLE}" if os.environ.get(VARIABLE) else "the widest of this processor"
    return f"{target.name} ({origin})"


def _is_loaded() -> bool:
    """Whether this process has the operators already: to register them again would end it."""
    return hasattr(torch.ops.cellgraph, "gmlp_steps")


def _library(compiler: str, target: InstructionSet) -> Path:
    """The library's path; it is built where there is none or where it is damaged.

    Raises:
        OSError: If it cannot be read or written, or belongs to somebody whose code one should not run.
    """
    sources = sorted(path for path in SOURCES.iterdir() if path.suffix in (".cpp", ".h"))
    # What is compiled for one processor or one version of torch does not run with another.
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True).stdout
    flags = (*FLAGS, *target.flags)
    parts = [torch.__version__, compiler, version, *flags, _processor(), *(path.read_text() for path in sources)]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    library = cache_folder() / "operators" / f"gmlp_steps-{target.name}-{key}.so"
    if not _is_whole(library):
        _build(compiler, flags, library)
    return library


def _is_whole(library: Path) -> bool:
    """Whether it is there as it was built: what is cut short can end the process when it is loaded."""
    try:
        owner, content = library.stat().st_uid, library.read_bytes()
    except FileNotFoundError:
        return False
    if hasattr(os, "getuid") and owner not in (os.getuid(), 0):
        raise PermissionError(f"{library} belongs to another user; CELLGRAPH_CACHE names a folder of one's own")
    return _checksum(content[: -hashlib.sha256().digest_size]) == content[-hashlib.sha256().digest_size :]


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _build(compiler: str, flags: tuple[str, ...], library: Path) -> None:
    """Compile the library and put it in its place, a checksum behind it (loaders read no further than its tables)."""
    home = Path(torch.__file__).parent
    includes = ("-isystem", home / "include", "-isystem", home / "include" / "torch" / "csrc" / "api" / "include")
    libraries = (f"-L{home / 'lib'}", "-ltorch_cpu", "-lc10")
    scratch = library.with_suffix(f".{os.getpid()}.tmp")
    scratch.parent.mkdir(parents=True, exist_ok=True)
    scratch.touch()  # a folder that cannot be written is found out before the work is done
    print("cellgraph: building the fused step for this machine, once (about 20 seconds)", file=sys.stderr)
    try:
        command = [compiler, *flags, *includes, SOURCES / "gmlp_steps.cpp", "-o", scratch, *libraries]
        subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)
        content = scratch.read_bytes()
        write_atomically(library, content + _checksum(content))
    finally:
        scratch.unlink(missing_ok=True)


def _processor() -> str:
    """What the compiler's ``-march=native`` depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else [platform.processor()]
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
