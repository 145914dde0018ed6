"""Documented objects of the installed libraries, read from their source files."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sysconfig
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from .exports import Exports, statements
from .libraries import COLLECTIONS, COMPILED, KNOWN_AS, LIBRARIES, SKIPPED_PARTS, STANDARD_LIBRARY

__all__ = ["DocumentedObject", "documented_objects"]


@dataclass(frozen=True, slots=True)
class DocumentedObject:
    """A public function, class, method or module and its documentation string.

    Args:
        package: Name of the package, ``"python"`` for the standard library.
        name: Name under which users reach the object, e.g. ``"scipy.linalg.eigh"``.
        kind: ``"function"``, ``"class"``, ``"method"``, ``"property"`` or ``"module"``.
        topic: The module that defines the object, or the object itself where a module documents unrelated ones.
        doc: The documentation string, indentation removed.
    """

    package: str
    name: str
    kind: str
    topic: str
    doc: str


def documented_objects(package: str) -> Iterator[list[DocumentedObject]]:
    """Yields the documented public objects of an installed package, those of one module at a time.

    The modules come in an order drawn by their names, the same in every run: whoever stops early has seen a sample of
    the whole package. Source files are parsed, not imported, so that nothing runs and the result depends on the files
    alone; only the small compiled modules of :data:`~cellgraph.data.libraries.COMPILED` are looked at as objects.

    Args:
        package: A key of :data:`~cellgraph.data.libraries.LIBRARIES`. A package that is not installed yields nothing.

    Raises:
        ValueError: If the package is not a key of the table.
    """
    if package not in LIBRARIES:
        raise ValueError(f"package must be one of {sorted(LIBRARIES)}, got {package!r}")
    root = _root(package)
    if root is None:
        return
    exports = Exports(root, "" if package == STANDARD_LIBRARY else package)
    modules = {exports.module_name(file) for file in _files(root, LIBRARIES[package][1])}
    compiled = COMPILED.get(package, ())
    for module in sorted([*modules, *(f"{name} compiled" for name in compiled)], key=_draw):
        name, _, is_compiled = module.partition(" ")
        found = (
            _of_compiled(package, importlib.import_module(name)) if is_compiled else _of_file(package, exports, name)
        )
        objects = list(found)
        own_topics = is_compiled or name.rpartition(".")[2] in COLLECTIONS
        yield sorted(objects, key=lambda thing: _draw(thing.name)) if own_topics else objects


def _draw(name: str) -> tuple[int, str]:
    return zlib.crc32(name.encode()), name


def _root(package: str) -> Path | None:
    if package == STANDARD_LIBRARY:
        return Path(sysconfig.get_path("stdlib"))
    spec = importlib.util.find_spec(package)  # finds a top-level package without importing it
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _files(root: Path, parts: tuple[str, ...]) -> set[Path]:
    found: set[Path] = set()
    for part in parts:
        place = root / part
        found.update([place] if place.is_file() else place.rglob("*.py"))
    return {file for file in found if not SKIPPED_PARTS.intersection(file.relative_to(root).parts)}


def _of_file(package: str, exports: Exports, module: str) -> Iterator[DocumentedObject]:
    tree = exports.tree(module)
    if tree is None:
        return
    private = any(part.startswith("_") for part in module.split("."))
    topic = KNOWN_AS.get(module) or ".".join(part.strip("_") for part in module.split("."))
    doc = ast.get_docstring(tree)
    if doc and not private:
        yield DocumentedObject(package, module, "module", topic, doc)
    for name, kind, doc in _defined(tree):
        public = f"{KNOWN_AS[module]}.{name}" if module in KNOWN_AS else exports.public_name(module, name)
        if public and not any(part.startswith("_") for part in public.split(".")):
            yield DocumentedObject(package, public, kind, topic, doc)
    collection = module.rpartition(".")[2] in COLLECTIONS
    for name, doc in _added(tree, package, module):
        if package == "numpy" and not exports.binds(package, name.partition(".")[2]):
            continue  # documented, but not to be had under this name
        if not any(part.startswith("_") for part in name.split(".")):
            yield DocumentedObject(package, name, "function", name if collection else topic, doc)


def _defined(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Yields name, kind and documentation of the functions, classes and methods a module defines."""
    for node in statements(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            target = node.targets[0]  # Adam.__doc__ = r"""...""" + shared
            doc = _string(node.value) if target.attr == "__doc__" else None
            if doc:
                yield ast.unparse(target.value), "class", inspect.cleandoc(doc)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        doc = ast.get_docstring(node)
        if doc:
            yield node.name, "class" if isinstance(node, ast.ClassDef) else "function", doc
        for inner in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)) and (doc := ast.get_docstring(inner)):
                shown = {ast.unparse(decorator).rpartition(".")[2] for decorator in inner.decorator_list}
                is_method = shown.isdisjoint(("property", "cached_property", "lazyproperty", "abstractproperty"))
                if shown.isdisjoint(("setter", "deleter", "overload", "deprecated")):
                    yield f"{node.name}.{inner.name}", "method" if is_method else "property", doc


def _added(tree: ast.Module, package: str, module: str) -> Iterator[tuple[str, str]]:
    """Yields name and documentation from calls such as ``add_docstr(torch.abs, "...")``, for objects made in C."""
    for node in statements(tree):
        if not isinstance(node, (ast.Expr, ast.Assign)) or not isinstance(node.value, ast.Call):
            continue
        arguments = node.value.args
        function = ast.unparse(node.value.func).lstrip("_")
        doc = _string(arguments[-1]) if len(arguments) > 1 else None
        if doc is None:
            continue  # no text, or a method of a NumPy type: most of those only say "see the function of this name"
        doc = inspect.cleandoc(doc)
        if function == "add_docstr" and isinstance(node, ast.Assign):
            yield f"{module}.{ast.unparse(node.targets[0])}", doc
        elif function == "add_docstr":
            yield ast.unparse(arguments[0]), doc
        elif function == "add_docstr_all":
            yield f"torch.Tensor.{_string(arguments[0])}", doc
        elif function == "add_newdoc" and len(arguments) == 3 and package == "numpy":
            yield f"numpy.{_string(arguments[1])}", doc
        elif function == "add_newdoc" and len(arguments) == 2 and package == "scipy":
            yield f"scipy.special.{_string(arguments[0])}", doc


def _string(node: ast.expr) -> str | None:
    """Returns the text of a string expression, with fields that are filled in at run time left as ``{name}``."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _string(node.left), _string(node.right)
        return None if left is None or right is None else left + right
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return _string(node.func.value)
    if isinstance(node, ast.JoinedStr):
        return "".join((_string(part) or "") if isinstance(part, ast.Constant) else "{field}" for part in node.values)
    if isinstance(node, ast.Name):
        return "{field}"
    return None


def _of_compiled(package: str, module: ModuleType) -> Iterator[DocumentedObject]:
    shown = "" if module.__name__ == "builtins" else f"{module.__name__}."
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or not _is_compiled(value, module):
            continue
        is_class = isinstance(value, type)
        if is_class and issubclass(value, BaseException):
            continue
        own = f"{shown}{name}"
        topic = own if module.__name__ in ("builtins", "numpy") else module.__name__
        members = sorted(vars(value).items()) if is_class else []
        for suffix, kind, thing in [
            ("", "class" if is_class else "function", value),
            *((f".{key}", "method", member) for key, member in members if not key.startswith("_") and callable(member)),
        ]:
            doc = getattr(thing, "__doc__", None)
            if isinstance(doc, str):
                yield DocumentedObject(package, own + suffix, kind, topic, inspect.cleandoc(doc))


def _is_compiled(value: object, module: ModuleType) -> bool:
    if module.__name__ == "numpy":
        return type(value).__name__ == "ufunc"  # the rest of NumPy is documented in its Python files
    return inspect.isbuiltin(value) or isinstance(value, type)
