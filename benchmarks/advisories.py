"""Advisories: known weaknesses of released packages, out of a copy of a database in the format of OSV.

``git clone --depth 1 https://github.com/pypa/advisory-database`` makes such a copy; the service that ``pip-audit`` asks
has the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

from .dependencies import canonical


@dataclass(frozen=True)
class Advisory:
    """What is known of one weakness of one package.

    Attributes:
        name: Its number, such as ``PYSEC-2021-66``.
        published: The day, as ``YYYY-MM-DD``.
        package: The package's name, as indices compare it.
        versions: Versions that have it, one by one.
        events: Of each range of versions, where it begins and ends.
    """

    name: str
    published: str
    package: str
    versions: tuple[str, ...]
    events: tuple[tuple[tuple[str, str], ...], ...]

    def affects(self, version: str) -> bool:
        """Whether a version has the weakness.

        Example:
            >>> found = Advisory("X-1", "2026-01-31", "a", (), ((("introduced", "1.2"), ("fixed", "1.10")),))
            >>> [version for version in ("1.0", "1.2", "1.9", "1.10") if found.affects(version)]
            ['1.2', '1.9']
        """
        return version in self.versions or any(_within(version, events) for events in self.events)


def read_advisories(folder: Path) -> dict[str, list[Advisory]]:
    """All that a folder and those in it say of packages of PyPI, by the package; what was withdrawn is left out.

    Args:
        folder: Folder of a database's copy, of YAML or JSON files.

    Raises:
        ValueError: If there are none in it.
    """
    found: dict[str, list[Advisory]] = {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in sorted(p for end in ("yaml", "json") for p in folder.rglob(f"*.{end}")):
        told = yaml.load(path.read_text(encoding="utf-8"), loader)
        if not isinstance(told, dict) or "affected" not in told or told.get("withdrawn"):
            continue
        for affected in told["affected"]:
            if affected.get("package", {}).get("ecosystem") == "PyPI":
                one = _advisory(told, affected)
                found.setdefault(one.package, []).append(one)
    if not found:
        raise ValueError(f"expected a folder with advisories of PyPI's packages, got {folder}")
    return found


def weaknesses(name: str, version: str, advisories: dict[str, list[Advisory]]) -> list[str]:
    """Numbers of what is known of a version of a package."""
    return [one.name for one in advisories.get(canonical(name), ()) if one.affects(version.partition("+")[0])]


def newest(advisories: dict[str, list[Advisory]]) -> str:
    """The day of the newest of them: the database knows nothing of what was found later."""
    return max(one.published for many in advisories.values() for one in many)


def _advisory(told: dict[str, Any], affected: dict[str, Any]) -> Advisory:
    ranges = [one for one in affected.get("ranges", ()) if one.get("type") == "ECOSYSTEM"]
    return Advisory(
        name=told["id"],
        published=str(told.get("published", ""))[:10],
        package=canonical(affected["package"]["name"]),
        versions=tuple(map(str, affected.get("versions", ()))),
        events=tuple(tuple((kind, str(at)) for event in one["events"] for kind, at in event.items()) for one in ranges),
    )


def _within(version: str, events: Iterable[tuple[str, str]]) -> bool:
    try:
        given, inside = Version(version), False
        # In the order of the versions; of one that is both, the beginning comes first.
        for kind, at in sorted(events, key=lambda event: (Version(event[1]), event[0] != "introduced")):
            if kind == "introduced" and given >= Version(at):
                inside = True
            elif (kind == "fixed" and given >= Version(at)) or (kind == "last_affected" and given > Version(at)):
                inside = False
        return inside
    except InvalidVersion:
        # Not a version that can be compared: the list of versions says it.
        return False
