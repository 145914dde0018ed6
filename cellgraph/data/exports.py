"""The public names of a package, found in its source files without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Exports", "statements"]

#: Module of a SciPy package that gathers what the private modules list as theirs, and wraps it for other array types.
_GATHERER = "._support_alternative_backends"


class Exports:
    """Parses the modules of one package and follows their imports to tell under which name an object is reached.

    Args:
        root: Folder of the package.
        prefix: Name of the package, empty for a folder of top-level modules such as the standard library.
    """

    def __init__(self, root: Path, prefix: str) -> None:
        self.root = root
        self.prefix = prefix
        self._last: tuple[str, ast.Module | None] = ("", None)
        self._bindings: dict[str, tuple[dict[str, tuple[str, str]], list[str], frozenset[str] | None]] = {}

    def module_name(self, file: Path) -> str:
        """Returns the dotted name of a file's module."""
        parts = file.relative_to(self.root).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        return ".".join((self.prefix, *parts) if self.prefix else parts)

    def tree(self, module: str) -> ast.Module | None:
        """Returns the syntax tree of a module, None if it has no Python source."""
        if self._last[0] != module:
            # One tree at a time: a thousand of them kept makes the garbage collector take most of the time.
            try:
                self._last = module, ast.parse(self._file(module).read_bytes())
            except (OSError, SyntaxError, ValueError):
                self._last = module, None  # an extension module, or a template that is no Python
        return self._last[1]

    def public_name(self, module: str, name: str) -> str | None:
        """Returns the shortest public name of an object that a module defines, None if it has only private ones.

        Args:
            module: The module.
            name: Name of the object in it, ``"Class.method"`` for a method.
        """
        if any(part.startswith("_") for part in name.split(".")):
            return None
        head = name.split(".")[0]
        parts = module.split(".")
        public = next((i for i, part in enumerate(parts) if part.startswith("_")), len(parts))
        exported = self._bound(module)[2]
        listed = exported is None or head in exported
        above = [".".join(parts[:length]) for length in range(1, min(public + 1, len(parts)))]
        for package in above:
            if self._leads_to(package, head, module):
                return f"{package}.{name}"
        if public == len(parts):
            return f"{module}.{name}" if listed else None
        for package in above:
            if self._imports_roundabout(package, head):
                return f"{package}.{name}"
        if above and exported is not None and listed:
            stars = self._bound(above[-1])[1]
            return f"{above[-1]}.{name}" if any(star.endswith(_GATHERER) for star in stars) else None
        return None

    def binds(self, module: str, name: str) -> bool:
        """Tells whether a module defines a name or imports it by name."""
        return name in self._bound(module)[0]

    def _leads_to(self, package: str, name: str, module: str) -> bool:
        """Tells whether a package imports a name, maybe through others, from the module that defines it."""
        if package == module:
            return True
        names, stars, _ = self._bound(package)
        if name in names:
            source, original = names[name]
            return original == name and _is_between(package, source, module) and self._leads_to(source, name, module)
        return any(
            _is_between(package, star, module) and self._exports(star, name) and self._leads_to(star, name, module)
            for star in stars
        )

    def _imports_roundabout(self, package: str, name: str) -> bool:
        """Tells whether a package imports a name from within itself, by whatever way."""
        source, original = self._bound(package)[0].get(name, ("", ""))
        return original == name and source.startswith(f"{package}.")

    def _exports(self, module: str, name: str) -> bool:
        exported = self._bound(module)[2]
        return exported is None or name in exported

    def _file(self, module: str) -> Path:
        parts = module.split(".")
        folder = self.root.joinpath(*(parts[1:] if self.prefix else parts))
        return folder / "__init__.py" if (folder / "__init__.py").is_file() else folder.with_suffix(".py")

    def _bound(self, module: str) -> tuple[dict[str, tuple[str, str]], list[str], frozenset[str] | None]:
        """Returns the names a module binds, each with its source, what it imports everything from, its ``__all__``."""
        if module in self._bindings:
            return self._bindings[module]
        names: dict[str, tuple[str, str]] = {}
        stars: list[str] = []
        exported: frozenset[str] | None = None
        package = module.split(".") if self._file(module).name == "__init__.py" else module.split(".")[:-1]
        for node in statements(self.tree(module)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names[node.name] = (module, node.name)
            elif isinstance(node, ast.Assign):
                targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
                names.update((target, (module, target)) for target in targets)
                exported = _literal_names(node.value) if "__all__" in targets else exported
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                source = ".".join([*base, *([node.module] if node.module else [])])
                for alias in node.names:
                    if alias.name == "*":
                        stars.append(source)
                    else:
                        names[alias.asname or alias.name] = (source, alias.name)
        self._bindings[module] = names, stars, exported
        return self._bindings[module]


def _literal_names(node: ast.expr) -> frozenset[str] | None:
    try:
        return frozenset(ast.literal_eval(node))
    except (ValueError, TypeError):
        return None  # put together at import time


def _is_between(above: str, source: str, module: str) -> bool:
    """Tells whether a source of imports lies on the way down from a package to a module.

    Only those are followed: others hardly ever re-export the module, and to parse all that a large package imports
    takes a minute.
    """
    return source.startswith(f"{above}.") and f"{module}.".startswith(f"{source}.")


def statements(tree: ast.AST | None) -> Iterator[ast.stmt]:
    """Yields the statements of a module, those under ``if``, ``try`` and ``with`` included, those of functions not."""
    for node in ast.iter_child_nodes(tree) if tree is not None else ():
        if isinstance(node, ast.stmt):
            yield node
        if isinstance(node, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
            yield from statements(node)
