"""The processor: what it is called, and whether it multiplies bfloat16 or only stores it."""

from __future__ import annotations

import functools
import os
import platform
import re
from pathlib import Path

import torch

#: Instructions that multiply bfloat16, as Linux and PyTorch name them, by family of processors.
_MULTIPLY = {
    "x86": frozenset({"avx512_bf16", "amx_bf16"}),
    "arm": frozenset({"bf16", "svebf16", "arm_bf16", "sve_bf16"}),
}
#: Variables that force the instruction set of the fused step, of ATen's kernels and of oneDNN's products, each with the
#: values that leave products in bfloat16 where they are. ATen hands them to oneDNN from its avx512 kernels on.
_LEAVE = {
    "CELLGRAPH_ISA": r"|native|\w*bf16\w*",
    "ATEN_CPU_CAPABILITY": r"|avx512\w*|sve\w*",
    "ONEDNN_MAX_CPU_ISA": r"|all|default|\w*bf16\w*|\w*fp16\w*|\w*amx\w*|avx10\w*",
}


def multiplies_bfloat16(device: str = "cpu") -> bool:
    """Whether the devices of a type, as PyTorch names it, have instructions that multiply bfloat16.

    Where it has none such products are emulated: a processor with AVX2 alone takes twenty times as long for them as for
    float32's. An instruction set forced by ``CELLGRAPH_ISA``, ``ATEN_CPU_CAPABILITY`` or ``ONEDNN_MAX_CPU_ISA`` counts
    as all that the processor has.
    """
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if device != "cpu":
        return False
    forced = ((os.environ.get(name, "").strip().lower(), values) for name, values in _LEAVE.items())
    if not all(re.fullmatch(values, value) for value, values in forced):
        return False
    machine = platform.machine().lower()
    family = "arm" if machine.startswith(("arm", "aarch64")) else "x86"
    return bool(_MULTIPLY[family] & processor_flags())


@functools.cache
def processor_name() -> str:
    """What the processor is called."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def processor_flags() -> frozenset[str]:
    """The names of the processor's instruction sets: from Linux, elsewhere from PyTorch where it tells them."""
    information = Path("/proc/cpuinfo")
    if not information.is_file():
        told: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return frozenset(name for name, there in told.items() if there is True)
    lines = (line.partition(":") for line in information.read_text().splitlines())
    listed = (values for name, _, values in lines if name.strip() in ("flags", "Features"))
    return frozenset(name for values in listed for name in values.split())
