"""Sets of Hugging Face's library ``datasets``: folders that it saved, mapped into memory, and names on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cellgraph.reading import read_json

__all__ = ["arrow_records", "is_arrow"]

#: What the library writes beside its tables: the description of a set, and the list of several.
_ONE, _SEVERAL = "state.json", "dataset_dict.json"
#: A name on the hub, and perhaps one of its splits. A dot may stand in it before a number, as others begin a suffix.
_HUB = re.compile(r"[\w.-]+/(?:[\w-]|\.(?=\d))+(?::\w+)?", re.ASCII)
_BATCH = 4096


def is_arrow(path: Path) -> bool:
    """Whether a path is read by that library: a folder that it saved, or a name that is no path here."""
    if path.is_dir():
        return (path / _ONE).is_file() or (path / _SEVERAL).is_file()
    return not path.exists() and _HUB.fullmatch(path.as_posix()) is not None


def arrow_records(
    path: Path, columns: Mapping[str, str | None]
) -> Iterator[tuple[str, Mapping[str, Any], frozenset[str]]]:
    """Yields the records of a set, of which at least these columns are read; none of it is in memory at once.

    Raises:
        ValueError: If the library is not installed, the set is damaged or cannot be had, or the folder holds several.
    """
    try:
        import datasets
    except ImportError:
        raise ValueError(f"{path}: reading it needs the package datasets (pip install cellgraph[datasets])") from None
    if (path / _SEVERAL).is_file():
        names = read_json(path / _SEVERAL).get("splits")
        folders = ", ".join(str(path / str(name)) for name in names) if isinstance(names, list) else "them"
        raise ValueError(f"{path} holds several sets, expected one of {folders}")
    # The library, the hub's client and Arrow raise errors of their own and of the system's.
    try:
        if path.is_dir():
            _check_files(path)
            found = datasets.load_from_disk(str(path))
        else:
            name, _, split = path.as_posix().partition(":")
            found = datasets.load_dataset(name, split=split or "train", streaming=True)
        there = list(found.column_names or next(iter(found)))
        wanted = {field if name is None else name for field, name in columns.items()}
        chosen = found.select_columns([name for name in there if name in wanted])
        if there and not wanted.intersection(there):
            # Of no columns there would be no rows, and the set would be called empty: a record of its columns' names
            # makes the reader tell them.
            yield "row 1", dict.fromkeys(there), frozenset()
            return
        number = 0
        for batch in chosen.iter(batch_size=_BATCH):
            for cells in zip(*batch.values(), strict=True):
                number += 1
                # Columns that are not read still stand in the record: messages name them.
                yield f"row {number}", {**dict.fromkeys(there), **dict(zip(batch, cells, strict=True))}, frozenset()
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if path.is_dir():
            raise ValueError(f"{path}: damaged or no set of datasets: {reason}") from None
        raise ValueError(
            f"{path} is no file or folder here, and the hub did not give a set of that name: {reason}"
        ) from None


def _check_files(path: Path) -> None:
    """See to it that a set is of the files in its folder, and that these are whole: it may have come from anybody."""
    import pyarrow as arrow

    for part in read_json(path / _ONE).get("_data_files", []):
        name = str(part["filename"])
        if Path(name).name != name or (path / name).is_symlink():
            raise ValueError(f"it names {name!r}, expected files in the folder")
        # Arrow believes a file that is mapped into memory: where a text begins beyond its end, the process would end.
        with arrow.memory_map(str(path / name)) as mapped, arrow.ipc.open_stream(mapped) as batches:
            for batch in batches:
                batch.validate(full=True)
