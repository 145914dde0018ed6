"""The instruction sets that the fused step is built for, and which one it is built for here."""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import dataclass, replace

import torch

#: The environment variable that forces an instruction set.
VARIABLE = "CELLGRAPH_ISA"

_X86 = platform.machine().lower() in ("x86_64", "amd64")
_ARM = platform.machine().lower() in ("aarch64", "arm64")


@dataclass(frozen=True)
class InstructionSet:
    """What a build is made for.

    Args:
        name: As it is written in the environment variable.
        vector_bytes: The width that ``vector.h`` takes with it.
        target: What the compiler is told of the processor.
        needs: What the processor must have, in the words of :func:`torch.cpu.get_capabilities`.
    """

    name: str
    vector_bytes: int
    target: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def flags(self) -> tuple[str, ...]:
        """What the compiler is told: ``vector.h`` goes by the name, not by what else the target has."""
        return (f"-DCELLGRAPH_{self.name.upper()}", *self.target)

    @property
    def lacking(self) -> list[str]:
        """What it needs and this processor lacks."""
        capabilities = torch.cpu.get_capabilities()
        return [need for need in self.needs if not capabilities.get(need)]


_V3 = ("avx2", "fma3", "f16c", "bmi", "bmi2", "lzcnt")
_V4 = (*_V3, "avx512_f", "avx512_bw", "avx512_cd", "avx512_dq", "avx512_vl")

#: From the widest to the plainest; the last one runs everywhere.
INSTRUCTION_SETS = (
    InstructionSet("avx512_bf16", 64, ("-march=x86-64-v4", "-mavx512bf16"), (*_V4, "avx512_bf16")),
    InstructionSet("avx512", 64, ("-march=x86-64-v4",), _V4),
    InstructionSet("avx2", 32, ("-march=x86-64-v3",), _V3),
    InstructionSet("neon", 16, ("-march=armv8-a",), ("neon",)),
    InstructionSet("default", 16, ("-march=x86-64",) if _X86 else ()),
)


@functools.cache
def chosen_instruction_set() -> InstructionSet:
    """The one that ``$CELLGRAPH_ISA`` names; where it is not set, the widest that the processor has, and the compiler
    is told to use all else that is there as well.

    Raises:
        ValueError: If the name is not known, or the processor lacks what it needs.
    """
    usable = [one for one in INSTRUCTION_SETS if not one.lacking]
    name = os.environ.get(VARIABLE)
    if not name:
        # Compilers agree on no word for it on other processors.
        native = "-march=native" if _X86 else "-mcpu=native" if _ARM else None
        return replace(usable[0], target=(native,)) if native else usable[0]
    known = {one.name: one for one in INSTRUCTION_SETS}
    if name not in known:
        raise ValueError(f"{VARIABLE} must be one of {list(known)}, got {name!r}")
    chosen = known[name]
    if chosen.lacking:
        raise ValueError(
            f"{VARIABLE}={name} needs a processor with {', '.join(chosen.needs)}, this one lacks "
            f"{', '.join(chosen.lacking)} and can run {', '.join(one.name for one in usable)}"
        )
    return chosen
