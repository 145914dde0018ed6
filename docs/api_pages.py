"""The pages of the API: one a package, made from the package itself, so that nothing public is forgotten.

What a package exports is documented under the name that it is imported by; what its modules have beside that, under
theirs. A reference may use either.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.inspect import signature as inspect_signature
from sphinx.util.inspect import stringify_signature
from sphinx.util.nodes import make_refnode

from cellgraph import Cell

PACKAGE = "cellgraph"
NAME = re.compile(rf"{PACKAGE}(\.\w+)+")

#: What is no library: the command line and the configurations, which have pages of their own, and the benchmarks.
LEFT_OUT = tuple(f"{PACKAGE}.{name}" for name in ("benchmarks", "cli", "conf"))


def write(folder: Path) -> list[Path]:
    """Write a page for each package into a folder, and none again that is as it was."""
    folder.mkdir(exist_ok=True)
    pages = {folder / f"{name}.rst": page(name) for name in packages()}
    contents = "\n   ".join(path.stem for path in pages)
    told = "\n".join(
        f"- :py:mod:`{name}`: {importlib.import_module(name).__doc__.splitlines()[0]}" for name in packages()
    )
    pages[folder / "index.rst"] = (
        f"API reference\n=============\n\n{told}\n\n.. toctree::\n   :hidden:\n\n   {contents}\n"
    )
    for path in set(folder.glob("*.rst")) - pages.keys():
        path.unlink()
    for path, text in pages.items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    return list(pages)


def page(package: str) -> str:
    """The page of a package: what it exports, then its modules."""
    module = importlib.import_module(package)
    lines = [package, "=" * len(package), "", f".. automodule:: {package}", ""]
    elsewhere = [name for name in exported(module) if home(getattr(module, name)) != f"{package}.{name}"]
    if elsewhere:
        told = ", ".join(f":py:obj:`~{package}.{name}`" for name in elsewhere)
        lines += [f"Also to be had from here: {told}.", ""]
    lines += directives(package, [name for name in exported(module) if name not in elsewhere])
    for name in modules(package):
        found = public(importlib.import_module(name))
        if found:
            # A function that its package exports may be called as its module is.
            twice = [] if inspect.ismodule(located(name)) else ["   :no-index:"]
            lines += [name, "-" * len(name), "", f".. automodule:: {name}", *twice, "", *directives(name, found)]
    return "\n".join(lines)


def directives(module: str, names: list[str]) -> list[str]:
    """What documents these names of a module."""
    lines = []
    for name in names:
        found = getattr(importlib.import_module(module), name)
        kind = "class" if inspect.isclass(found) else "function" if inspect.isroutine(found) else "data"
        members = ["   :members:", "   :show-inheritance:"] if kind == "class" else []
        lines += [f".. auto{kind}:: {module}.{name}", *members, ""]
    return lines


def packages() -> list[str]:
    """The packages that have a page, those within others left to these."""
    inner = pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__, f"{PACKAGE}.")
    return [PACKAGE, *(found.name for found in inner if found.ispkg and found.name not in LEFT_OUT)]


def modules(package: str) -> Iterator[str]:
    """The modules on the page of a package, those of the packages within it too."""
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        if found.name in LEFT_OUT or (package == PACKAGE and found.ispkg):
            continue
        yield found.name
        if found.ispkg:
            yield from modules(found.name)


def exported(module: ModuleType) -> list[str]:
    """What a package exports and is no package itself."""
    names = (name for name in getattr(module, "__all__", ()) if not name.startswith("_"))
    return [name for name in names if not inspect.ismodule(getattr(module, name))]


def public(module: ModuleType) -> list[str]:
    """The public names of a module that have their home in it, in the order of the source."""
    comments = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
    described = {name for scope, name in comments if not scope}
    names = [name for name in vars(module) if not name.startswith("_")]
    here = [name for name in names if home(vars(module)[name]) == f"{module.__name__}.{name}" or name in described]
    own = [name for name in exported(module) if home(getattr(module, name)) == f"{module.__name__}.{name}"]
    return list(dict.fromkeys(here + own))


def home(found: Any) -> str | None:
    """The name that a class, function or method is documented under: of the nearest package that exports it."""
    module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or not module.startswith(PACKAGE):
        return None
    parts = module.split(".")
    for count in range(len(parts) - 1, 0, -1):
        place = ".".join(parts[:count])
        if name.split(".")[0] in getattr(importlib.import_module(place), "__all__", ()):
            return f"{place}.{name}"
    return f"{module}.{name}"


@functools.cache
def documented(name: str) -> str:
    """The name that something is documented under which is called so somewhere."""
    found = located(name)
    if found is None or inspect.ismodule(found):
        return name
    # Data do not know where they are from; those of a class are the nearest base's that has them.
    owner, _, last = name.rpartition(".")
    bases = (base for base in getattr(located(owner), "__mro__", ()) if last in vars(base))
    return home(found) or next((f"{home(base)}.{last}" for base in bases), last)


def located(name: str) -> Any:
    """What a dotted name leads to, as an attribute sooner than as a module; ``None`` where to nothing."""
    package, _, last = name.rpartition(".")
    if package:
        outer = located(package)
        if hasattr(outer, last):
            return getattr(outer, last)
    try:
        return importlib.import_module(name)
    except (ImportError, ValueError):
        return None


def resolve(app: Sphinx, env: BuildEnvironment, node: Any, content: nodes.Element) -> nodes.Element | None:
    """Where a reference leads that uses another name than the one documented."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].lstrip("~.")
    there = located(target)
    if isinstance(there, TypeVar):
        return content
    if inspect.ismodule(there) and target.startswith(PACKAGE):
        # One without a section of its own is told of on the page of its package.
        package = next((name for name in packages()[1:] if f"{target}.".startswith(f"{name}.")), PACKAGE)
        return make_refnode(app.builder, node["refdoc"], f"api/{package}", None, content)
    name = documented(target)
    domain = env.domains.python_domain
    found = domain.find_obj(env, node.get("py:module"), node.get("py:class"), name, None, 1)
    near = [match for match in found if match[0].startswith(f"{node.get('py:module')}.")] or found
    if len(near) != 1:
        return None
    full, place = near[0]
    return make_refnode(app.builder, node["refdoc"], place.docname, place.node_id, content, full)


def signature(
    app: Sphinx, what: str, name: str, found: Any, options: Any, arguments: str, returns: str
) -> tuple[str, str | None] | None:
    """The arguments of cells, which they also note in a ``__new__`` that takes any."""
    if what != "class" or not issubclass(found, Cell):
        return None
    told = inspect_signature(found.__init__, bound_method=True)
    return stringify_signature(told, show_return_annotation=False, unqualified_typehints=True), None


def link_names(app: Sphinx, document: nodes.document) -> None:
    """Make a link of each ```cellgraph.name``` in a page, which so can be read without this site too."""
    if app.env.docname == "changelog":
        # It tells of names that are gone.
        return
    for literal in list(document.findall(nodes.literal)):
        name = literal.astext()
        linked = isinstance(literal.parent, (nodes.reference, pending_xref))
        if (
            NAME.fullmatch(name)
            and not f"{name}.".startswith(tuple(f"{package}." for package in LEFT_OUT))
            and not linked
        ):
            target = pending_xref("", refdomain="py", reftype="obj", reftarget=name, refexplicit=False, refwarn=True)
            target["refdoc"] = app.env.docname
            literal.replace_self(target)
            target += literal
