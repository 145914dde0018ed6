"""The fused step for every instruction set: its kernels alone, the whole step, and which one is chosen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cellgraph.ops.fused import build
from cellgraph.ops.fused.instruction_set import INSTRUCTION_SETS, VARIABLE, InstructionSet, chosen_instruction_set

HERE = Path(__file__).parent
KNOWN = {one.name: one for one in INSTRUCTION_SETS}


@pytest.fixture
def fresh_choice():
    chosen_instruction_set.cache_clear()
    yield
    chosen_instruction_set.cache_clear()


def compiler_and_runner(one: InstructionSet) -> tuple[str, list[str]]:
    """How a program for an instruction set is built and run here; by an emulator where the processor is another."""
    if not one.lacking:
        compiler = shutil.which(os.environ.get("CXX", "c++"))
        if compiler is None:
            pytest.skip("the kernels need a C++ compiler")
        return compiler, []
    if one.name != "neon":
        pytest.skip(f"this processor lacks {', '.join(one.lacking)}")
    compiler, emulator = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
    if compiler is None or emulator is None:
        pytest.skip("NEON elsewhere needs aarch64-linux-gnu-g++ and qemu-aarch64 (Debian: qemu-user)")
    return compiler, [emulator]


@pytest.mark.parametrize("name", KNOWN)
def test_the_kernels_are_right(name: str, tmp_path: Path) -> None:
    """`fused_kernels.cpp` compares them with plain loops over doubles and whole numbers."""
    one, program = KNOWN[name], tmp_path / "kernels"
    compiler, runner = compiler_and_runner(one)
    flags = [flag for flag in build.FLAGS if flag not in ("-shared", "-fPIC", "-fopenmp")]
    includes = ["-isystem", str(Path(torch.__file__).parent / "include"), "-I", str(build.SOURCES)]
    source = [str(HERE / "fused_kernels.cpp"), *(["-static"] if runner else [])]
    subprocess.run([compiler, *flags, *one.flags, *includes, *source, "-o", str(program)], check=True)
    done = subprocess.run([*runner, str(program)], capture_output=True, text=True, check=False)
    told = done.stdout.splitlines()
    narrow = 2 if name == "avx512_bf16" else 4
    assert (done.returncode, told) == (0, [f"{one.vector_bytes} bytes, narrow {narrow}"])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "avx2" else pytest.mark.slow) for name in KNOWN]
)
def test_the_whole_step_is_right(name: str) -> None:
    """The comparisons of the fused step with float64 and the reference, in a process that is forced to the set."""
    if KNOWN[name].lacking:
        pytest.skip(f"this processor lacks {', '.join(KNOWN[name].lacking)}")
    if name == chosen_instruction_set().name:
        pytest.skip("that is the build of the other tests")
    chosen = "float32 or bfloat16 or gradcheck or reference and (masked or ring or plane)"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", str(HERE / "test_fused.py"), "-k", chosen],
        env=os.environ | {VARIABLE: name},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


@pytest.mark.usefixtures("fresh_choice")
def test_an_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "sse9")
    with pytest.raises(ValueError, match=r"CELLGRAPH_ISA must be one of \['avx512_bf16', .*\], got 'sse9'"):
        build.load_operators.__wrapped__()


@pytest.mark.usefixtures("fresh_choice")
@pytest.mark.parametrize("name", [name for name in KNOWN if name != "default"])
def test_what_the_processor_lacks_is_refused_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = KNOWN[name].needs[-1]
    capabilities = dict.fromkeys(("avx2", "fma3", "neon"), True) | {lacking: False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setenv(VARIABLE, name)
    with pytest.raises(
        ValueError, match=f"CELLGRAPH_ISA={name} needs .* this one lacks .*{lacking} and can run .*default"
    ):
        build.load_operators.__wrapped__()


@pytest.mark.usefixtures("fresh_choice")
def test_the_widest_is_chosen_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for name, one in KNOWN.items():
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda needs=one.needs: dict.fromkeys(needs, True))
        chosen_instruction_set.cache_clear()
        assert chosen_instruction_set().name == name
        assert build.describe_build() == f"{name} (the widest of this processor)"
    monkeypatch.setenv(VARIABLE, "default")
    chosen_instruction_set.cache_clear()
    assert build.describe_build() == "default (forced by CELLGRAPH_ISA)"
