"""What does the library stand on: versions, licences, and when each was last released?

``python -m cellgraph.benchmarks.dependencies`` prints what is installed. A lock file of uv has the days of release::

    uv lock && python -m cellgraph.benchmarks.dependencies --lock uv.lock

which ends with 1 where the installed version of one has been the newest locked for two years. A copy of a database of
weaknesses, see :mod:`cellgraph.benchmarks.advisories`, says which are known, of everything that is installed (needs
``pip install cellgraph[audit]``)::

    git clone --depth 1 https://github.com/pypa/advisory-database
    python -m cellgraph.benchmarks.dependencies --advisories advisory-database/vulns

which ends with 1 where something that the library needs has one.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .entry import enter

#: Days without a release after which something counts as abandoned.
ABANDONED = 730
#: A package of a lock file: its name, its version, and the rest.
_PACKAGE = re.compile(
    r'\[\[package\]\]\nname = "([^"]+)"\nversion = "([^"]+)"\n(.*?)(?=\n\[\[package\]\]|\Z)', re.DOTALL
)
_DAY = re.compile(r'upload-time = "(\d{4}-\d{2}-\d{2})')


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table of what the library needs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", type=Path, help="uv.lock, for the days of release")
    parser.add_argument("--extra", nargs="*", default=[], help="extras whose dependencies are wanted, too")
    parser.add_argument("--advisories", type=Path, help="a folder of advisories, for what is known of each version")
    given = parser.parse_args(arguments)
    if given.advisories is not None:
        audit(given.advisories, given.extra)
        return
    days = {} if given.lock is None else released(given.lock.read_text(encoding="utf-8"))
    today = datetime.datetime.now(datetime.timezone.utc).date()
    faults = []
    print("| package | version | licence | released | days ago |\n| --- | --- | --- | --- | ---: |")
    for name in needed(given.extra):
        try:
            found = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            print(f"| {name} | not installed | | | |")
            continue
        version, known = found["Version"], days.get(canonical(name), {})
        # Where another version is installed than is locked, that one tells as well whether it is looked after.
        day = known.get(version.partition("+")[0]) or max(known.values(), default=None)
        age = None if day is None else (today - day).days
        print(f"| {name} | {version} | {licence(found)} | {day or '-'} | {'-' if age is None else age} |")
        if age is not None and age > ABANDONED:
            faults.append(f"{name} {version} is {age} days old")
    if faults:
        raise SystemExit("; ".join(faults))


def audit(folder: Path, extras: Sequence[str] = ()) -> None:
    """Print what is known of all that is installed.

    Args:
        folder: A folder of advisories.
        extras: Extras whose dependencies are wanted, too.

    Raises:
        SystemExit: If the library needs something that has a weakness.
    """
    from .advisories import newest, read_advisories, weaknesses

    advisories = read_advisories(folder)
    required = {canonical(name) for name in needed(extras)}
    installed = {canonical(d.metadata["Name"]): d.version for d in importlib.metadata.distributions()}
    faults = []
    print("| package | version | advisories ever | of this version |\n| --- | --- | ---: | --- |")
    for name, version in sorted(installed.items()):
        known = weaknesses(name, version, advisories)
        if known or (name in required and name in advisories):
            print(f"| {name} | {version} | {len(advisories[name])} | {', '.join(known) or 'none'} |")
        faults += [f"{name} {version} has {', '.join(known)}"] if known and name in required else []
    count = sum(map(len, advisories.values()))
    print(f"\n{len(installed)} packages are installed, {len(required & installed.keys())} of them asked for")
    print(f"by {count:,} advisories of {len(advisories):,} packages, the newest of {newest(advisories)}")
    if faults:
        raise SystemExit("; ".join(faults))


def needed(extras: Sequence[str] = ()) -> list[str]:
    """Names of what the library requires, and with some of its extras."""
    found = []
    for line in importlib.metadata.requires("cellgraph") or ():
        requirement, _, marker = line.partition(";")
        of = re.search(r"extra == ['\"]([^'\"]+)", marker)
        if of is None or of[1] in extras:
            found.append(re.split(r"[^\w.-]", requirement.strip())[0])
    return sorted(dict.fromkeys(found), key=str.lower)


def released(lock: str) -> dict[str, dict[str, datetime.date]]:
    """The day of the newest file of each version of each package in a lock file of uv.

    Example:
        >>> sdist = 'sdist = { upload-time = "2026-01-31T10:00:00Z" }'
        >>> lines = ['[[package]]', 'name = "a-b"', 'version = "1.0"', sdist]
        >>> released(chr(10).join(lines))
        {'a-b': {'1.0': datetime.date(2026, 1, 31)}}
    """
    found: dict[str, dict[str, datetime.date]] = {}
    for name, version, rest in _PACKAGE.findall(lock):
        days = [datetime.date.fromisoformat(day) for day in _DAY.findall(rest)]
        if days:
            found.setdefault(canonical(name), {})[version] = max(days)
    return found


def canonical(name: str) -> str:
    """A package's name as indices compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(metadata: Any) -> str:
    """What a package says of its licence, in a few words."""
    told = metadata.get("License-Expression") or metadata.get("License") or ""
    classifiers = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or () if "License ::" in line]
    line = told.strip().partition("\n")[0]
    return line if 0 < len(line) <= 60 else ", ".join(classifiers) or line[:60] or "not said"


if __name__ == "__main__":
    enter(main)
