"""The configuration of a run: how it is read, what it names, and whether that may be built.

A configuration names parts as dotted names. On one's own command line and in one's own files these may be anything that
can be imported. A run folder may have come from somebody else: from its configuration nothing is built but what is
:data:`REGISTERED`, unless the user has started that run, has imported the part, or trusts its module by name.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import inspect
import json
import os
import sys
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from cellgraph.files import cache_folder, write_json
from cellgraph.folder import RunFolder
from cellgraph.older import upgraded
from cellgraph.reading import read_yaml

#: Key of the part that a node builds.
TARGET = "_target_"
#: Environment variable with the modules that are trusted, separated by commas.
TRUST = "CELLGRAPH_TRUST"

#: What the library builds from any configuration, wherever it came from. That a name begins with ``cellgraph.`` is not
#: enough: whatever its modules import could be named so.
REGISTERED = frozenset(
    f"cellgraph.{name}"
    for name in (
        *("CellGraph", "sequence.SequenceGraph", "GMLPCell", "NCACell", "Lattice", "nn.GMLPCell", "nn.NCACell"),
        *("data.docstring_pairs", "data.follow_up_pairs", "data.read_pairs", "data.starter_pairs"),
        *("retrieval.TrainSettings", "retrieval.Objective", "retrieval.standard_objective"),
        *("teacher.LSATeacher", "teacher.TransformersTeacher", "teacher.minilm_teacher"),
        *("teacher.StaticTeacher", "teacher.TfidfTeacher"),
        *("automata.AutomatonSettings", "automata.Curriculum", "automata.SamplePool"),
        *(
            f"automata.tasks.{task}"
            for task in ("Arc1D", "Arc1DDemonstrations", "Arc2D", "Growing", "Life", "Majority", "Passage")
        ),
        *("automata.tasks.SelfClassification", "automata.tasks.Voronoi"),
        *("automata.tasks.arc1d.adapting.Adaptation", "automata.tasks.arc2d.fitting.Fitting"),
    )
)


def read_config(folder: RunFolder) -> dict[str, Any]:
    """The configuration of a run folder, whichever version wrote it.

    Raises:
        ValueError: If it cannot be read.
    """
    config = read_yaml(folder.config)
    if not isinstance(config, dict) or "seed" not in config:
        raise ValueError(f"{folder.config} must hold the settings of a run")
    return dict(upgraded(config))


def targets(node: Any) -> list[str]:
    """All parts that nested plain types name.

    Example:
        >>> targets({"cell": {"_target_": "mine.Cell", "inner": [{"_target_": "cellgraph.GMLPCell"}]}})
        ['mine.Cell', 'cellgraph.GMLPCell']
    """
    if isinstance(node, Mapping):
        own = [str(node[TARGET])] if TARGET in node else []
        return own + [target for value in node.values() for target in targets(value)]
    return [target for value in node for target in targets(value)] if isinstance(node, (list, tuple)) else []


def own_parts(node: Any) -> list[str]:
    """The parts among them that are not the library's, each once."""
    return [target for target in dict.fromkeys(targets(node)) if target not in REGISTERED]


def admit(node: Any, folder: RunFolder) -> None:
    """Import the parts that a run's configuration, or some of it, names; refuse those that nobody vouches for.

    Args:
        node: Plain types.
        folder: The run folder.

    Raises:
        ValueError: If there is such a part, or it cannot be imported.
    """
    parts = own_parts(node)
    if not parts:
        return
    started_in = _started_in(folder)
    doubtful = [] if started_in else [part for part in parts if not (_is_trusted(part) or _is_here(part))]
    if doubtful:
        modules = dict.fromkeys(part.partition(".")[0] for part in doubtful)
        # What comes with Python is no part of anything, and may do anything.
        advice = f"; if you know that code and trust it, set {TRUST}={','.join(modules)}"
        raise ValueError(
            f"{folder.config} may only build parts of cellgraph, as you have not started this run here, got {TARGET}: "
            f"{', '.join(doubtful)}{'' if sys.stdlib_module_names & modules.keys() else advice}"
        )
    make_importable(started_in or Path.cwd())
    for part in parts:
        locate(part)


def remember(folder: RunFolder) -> None:
    """Note, outside of the run folder, that this user has started the run, and from where.

    What is noted is a digest of the configuration: nobody else's has it. Where nothing can be noted, parts of one's own
    have to be trusted by name.
    """
    with contextlib.suppress(OSError):
        write_json(_note(folder), {"folder": str(Path.cwd())})


def make_importable(folder: Path) -> None:
    """Let the modules of a folder be imported, after all others: it cannot replace what is installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def locate(target: str) -> Any:
    """What a dotted name names: a module's attribute, or an attribute's.

    Raises:
        ValueError: If there is nothing of that name, or its module cannot be imported.

    Example:
        >>> locate("cellgraph.Lattice").__name__
        'Lattice'
    """
    names = target.split(".")
    for count in range(len(names) - 1, 0, -1) if all(name.isidentifier() for name in names) else ():
        module = ".".join(names[:count])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):
                raise ValueError(f"cannot import {module} for {target}: {error}") from error
            continue
        try:
            return functools.reduce(getattr, names[count:], found)
        except AttributeError:
            break
    raise ValueError(f"there is nothing called {target}: modules are looked for in {Path.cwd()} and where Python does")


def arguments(part: Any) -> Set[str] | None:
    """Names of the arguments that a class or function takes; ``None`` where it takes any.

    What a class hands on to the one that it derives from, as ``**options``, counts.

    Example:
        >>> class Narrow(dict):
        ...     def __init__(self, width, **options): ...
        >>> sorted(arguments(locate("cellgraph.data.read_pairs")))[:2], arguments(Narrow)
        (['answer', 'category'], None)
    """
    makers, names = [part], set[str]()
    if _is_class(part):
        makers = [vars(kind)["__init__"] for kind in part.__mro__ if "__init__" in vars(kind)]
    for maker in makers:
        try:
            parameters = [*inspect.signature(maker).parameters.values()][int(_is_class(part)) :]
        except ValueError:
            return None
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names
    return None


def _is_class(part: Any) -> bool:
    return inspect.isclass(part)


def _is_trusted(part: str) -> bool:
    """Whether the user has named the part's module."""
    trusted = [name.strip() for name in os.environ.get(TRUST, "").split(",")]
    return any(name and part.startswith(f"{name}.") for name in trusted)


def _is_here(part: str) -> bool:
    """Whether the part is a class of the user's that was made from one of the library's and is imported already."""
    names = part.split(".")
    if names[0] == "cellgraph":
        return False
    for count in range(len(names) - 1, 0, -1):
        module = sys.modules.get(".".join(names[:count]))
        if module is not None:
            try:
                found = functools.reduce(getattr, names[count:], module)
            except AttributeError:
                return False
            return _is_class(found) and any(kind.__module__.startswith("cellgraph.") for kind in found.__mro__[1:])
    return False


def _note(folder: RunFolder) -> Path:
    return cache_folder() / "started" / f"{hashlib.sha256(folder.config.read_bytes()).hexdigest()}.json"


def _started_in(folder: RunFolder) -> Path | None:
    """The folder in which this user has started a run of this very configuration, if so."""
    try:
        note = _note(folder)
        # A cache may be shared, a note is its writer's.
        if hasattr(os, "getuid") and note.stat().st_uid != os.getuid():
            return None
        return Path(json.loads(note.read_text(encoding="utf-8"))["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
