"""Starting up: what the package and the command must not import before it is needed, and what lazy names resolve to."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import cellgraph

#: The libraries that take long to import, or bring one along that does.
HEAVY = (
    *("torch", "torch_geometric", "transformers", "lightning", "sklearn", "scipy", "pandas", "matplotlib", "plotly"),
    *("hydra", "omegaconf", "huggingface_hub", "networkx", "sympy", "triton", "numpy", "rich", "pyarrow"),
)

#: Packages whose names are imported when they are first used.
ROOT = Path(cellgraph.__path__[0])
LAZY = sorted(".".join(stub.relative_to(ROOT.parent).parent.parts) for stub in ROOT.rglob("__init__.pyi"))


def imported(code: str) -> set[str]:
    """Names of all modules that a new process has imported once it has run the code, which may exit."""
    watched = f"""
import atexit, json, sys
sys.stdout.flush()
atexit.register(lambda: print("\\n" + json.dumps(sorted(sys.modules))))
{code}
"""
    done = subprocess.run([sys.executable, "-c", watched], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["no-such-verb"], []])
def test_the_command_without_a_verb_imports_no_library(arguments: list[str]) -> None:
    found = imported(f"sys.argv = ['cellgraph', *{arguments}]\nfrom cellgraph.cli import main; main()")
    assert "cellgraph.cli" in found
    assert not found & set(HEAVY)


def test_the_package_imports_no_library() -> None:
    found = imported("import cellgraph; assert 'Lattice' in dir(cellgraph)")
    assert not found & set(HEAVY)


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


def test_a_function_is_not_hidden_by_the_module_of_its_name() -> None:
    found = imported("import cellgraph.unroll, cellgraph\nassert callable(cellgraph.rollout), cellgraph.rollout")
    assert "cellgraph.unroll" in found
