"""What counts as a processor that multiplies bfloat16, on processors that are made up."""

from __future__ import annotations

import pytest
import torch

from cellgraph.ops import processor
from cellgraph.ops.processor import multiplies_bfloat16, processor_flags

FORCED = ("CELLGRAPH_ISA", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")


def stand_in(monkeypatch: pytest.MonkeyPatch, machine: str, flags: str) -> None:
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "processor_flags", lambda: frozenset(flags.split()))
    for name in FORCED:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", "sse2 avx2 fma", False),  # Zen 3
        ("x86_64", "avx2 fma avx512f avx512bw avx512_vnni", False),  # Cascade Lake
        ("x86_64", "avx2 fma avx512f avx512_bf16", True),  # Zen 4
        ("AMD64", "avx2 avx512f amx_bf16 amx_tile", True),  # Sapphire Rapids
        ("x86_64", "avx2 bf16", False),  # a name of ARM's
        ("aarch64", "fp asimd", False),
        ("aarch64", "fp asimd sve svebf16", True),
        ("arm64", "fp asimd bf16", True),
        ("riscv64", "", False),
    ],
)
def test_only_instructions_that_multiply_count(monkeypatch, machine, flags, expected) -> None:
    stand_in(monkeypatch, machine, flags)
    assert multiplies_bfloat16() is expected
    assert not multiplies_bfloat16("mps")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CELLGRAPH_ISA", "avx2", False),
        ("CELLGRAPH_ISA", "avx512", False),
        ("CELLGRAPH_ISA", "avx512_bf16", True),
        ("CELLGRAPH_ISA", "", True),
        ("ATEN_CPU_CAPABILITY", "avx2", False),
        ("ATEN_CPU_CAPABILITY", "default", False),
        ("ATEN_CPU_CAPABILITY", "avx512", True),
        ("ONEDNN_MAX_CPU_ISA", "AVX2", False),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI", False),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", True),
        ("ONEDNN_MAX_CPU_ISA", "DEFAULT", True),
    ],
)
def test_a_forced_narrow_set_multiplies_none(monkeypatch, name, value, expected) -> None:
    stand_in(monkeypatch, "x86_64", "avx2 avx512f avx512_bf16")
    monkeypatch.setenv(name, value)
    assert multiplies_bfloat16() is expected


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_is_asked_whether_it_only_emulates(monkeypatch, native) -> None:
    stand_in(monkeypatch, "x86_64", "avx2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    assert multiplies_bfloat16("cuda") is native


def test_the_flags_are_those_of_all_the_cores(monkeypatch, tmp_path) -> None:
    cores = "processor : 0\nflags\t\t: fpu avx2\nbugs : none_such\n\nprocessor : 1\nFeatures : asimd bf16\n"
    (tmp_path / "cpuinfo").write_text(cores)
    monkeypatch.setattr(processor, "Path", lambda name: tmp_path / name.rpartition("/")[2])
    assert processor_flags() == {"fpu", "avx2", "asimd", "bf16"}
    (tmp_path / "cpuinfo").unlink()
    told = {"avx2": True, "amx_bf16": False, "l2_cache_size": 1048576}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    assert processor_flags() == {"avx2"}
