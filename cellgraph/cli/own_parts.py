"""Parts of one's own on the command line: keys that no file has, and keys of a file that a part has no use for."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from cellgraph.configuration import TARGET, arguments, locate, own_parts

#: Settings by names that are not known beforehand.
OPEN = (
    *("objective.terms.", "training.lr_multipliers.", "adapters_first.", "control_trials.", "curriculum.shapes."),
    "front.controls.",
)
#: An override of a value: the signs before it, its key, and what it is.
_OVERRIDE = re.compile(r"(\+{0,2})([A-Za-z_][\w.\-]*)=(.*)", re.DOTALL)


def opened(given: Sequence[str]) -> list[str]:
    """The overrides of a command line, so that Hydra takes new keys where there may be such.

    That is beside a part that is chosen on the command line, and where settings go by names of the user's.

    Example:
        >>> opened(["cell._target_=mine.Cell", "cell.width=3", "seed=1"])
        ['++cell._target_=mine.Cell', '++cell.width=3', 'seed=1']
    """
    found = [(override, _OVERRIDE.fullmatch(override)) for override in given]
    chosen = [match[2].removesuffix(TARGET) for _, match in found if match and match[2].endswith(f".{TARGET}")]
    places = (*OPEN, *chosen)
    return [f"++{match[2]}={match[3]}" if match and match[2].startswith(places) else text for text, match in found]


def check_choices(given: Iterable[str]) -> None:
    """Refuse a list where one file of a group is chosen: Hydra would end in an error of its own.

    Raises:
        ValueError: If there is one.

    Example:
        >>> check_choices(["cell=nca", "lattice.shape=[3,3,3]"])
    """
    for override in given:
        match = _OVERRIDE.fullmatch(override)
        if (
            match
            and match[3].lstrip().startswith("[")
            and importlib.resources.files("cellgraph.conf").joinpath(match[2]).is_dir()
        ):
            raise ValueError(f"{match[2]} is one of a group's files, got a list: {override}")


def fit_parts(config: DictConfig, overrides: Iterable[str]) -> None:
    """Take out of a configuration, in place, what the library's files say to a part in whose place there is another.

    A part of one's own takes of a file's keys those that it has arguments for. What was given on the command line
    stays: the part refuses what it does not know.

    Args:
        config: The configuration, not resolved.
        overrides: The command line.

    Raises:
        ValueError: If there is no such part.
    """
    matches = [_OVERRIDE.fullmatch(override) for override in overrides]
    given = {match[2] for match in matches if match}
    if own_parts(OmegaConf.to_container(config, resolve=False)) or any(key.endswith(f".{TARGET}") for key in given):
        for group, node in list(config.items_ex(resolve=False)):
            if OmegaConf.is_dict(node) and not node._is_interpolation() and not node._is_none():
                _fit(node, str(group), set(_library_keys(str(group))), given)


def _fit(node: Any, place: str, known: set[str], given: set[str]) -> None:
    for key in list(node):
        if not OmegaConf.is_interpolation(node, key) and OmegaConf.is_dict(node._get_node(key)):
            _fit(node[key], f"{place}.{key}", known, given)
    taken = arguments(locate(str(node[TARGET]))) if TARGET in node else None
    for key in list(node):
        name = f"{place}.{key}"
        unused = taken is not None and key not in taken and not str(key).startswith("_")
        if unused and name in known and name not in given:
            OmegaConf.set_struct(node, False)
            del node[key]


def _library_keys(group: str) -> Iterator[str]:
    """All the keys that the library's files of a group have, from the group on."""
    folder = importlib.resources.files("cellgraph.conf").joinpath(group)
    for file in folder.iterdir() if folder.is_dir() else ():
        if file.name.endswith(".yaml"):
            yield from _keys(yaml.safe_load(file.read_text(encoding="utf-8")) or {}, group)


def _keys(node: Mapping[str, Any], place: str) -> Iterator[str]:
    for key, value in node.items():
        yield f"{place}.{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{place}.{key}")
