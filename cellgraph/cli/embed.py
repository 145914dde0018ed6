"""The verb ``embed``: the texts of a file through a teacher, onto the disk."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cellgraph.answering.bank import read_lines
from cellgraph.cli import settling  # noqa: F401 - registers the resolver that the configuration uses
from cellgraph.cli.own_parts import fit_parts, opened
from cellgraph.configuration import make_importable
from cellgraph.runs.building import build
from cellgraph.teacher import EmbeddingCache, EmbeddingJob, Teacher, check_teacher, load_teacher
from cellgraph.teacher.base import BaseTeacher, code_of
from cellgraph.teacher.job import free_bytes, in_words
from cellgraph.teacher.state import STATE_FILE

#: Seconds between two lines of progress where the error stream is no terminal.
INTERVAL = 10.0


def main(arguments: Sequence[str]) -> None:
    """Embed the texts of a file; goes on where it was stopped, and several processes may share the work."""
    parser = argparse.ArgumentParser(prog="cellgraph embed", description=main.__doc__)
    parser.add_argument("file", help="pairs in any format that training reads, or one text a line (.txt)")
    parser.add_argument(
        "overrides", nargs="*", help="settings as of training: teacher.max_length=128 data.source.question=title"
    )
    parser.add_argument("--teacher", default="minilm", help="a name in conf/teacher, or a folder with a saved teacher")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="another folder than the cache that training uses")
    parser.add_argument("--shard-rows", type=int, default=1024, help="texts a file: what a kill loses at most (1024)")
    given = parser.parse_intermixed_args(arguments)
    words = [given.file, *given.overrides]
    # The file may come behind settings.
    file = next((word for word in words if not _is_setting(word)), given.file)
    words.remove(file)
    given.file, given.overrides = Path(file), words
    if given.shard_rows < 1:
        raise ValueError(f"--shard-rows must be at least 1, got {given.shard_rows}")
    notes = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    teacher, node, source = _parts(given.teacher, given.file, given.overrides)
    # The file first: what is wrong with it is told before anything slow.
    texts = _texts(given.file, source)
    cache = EmbeddingCache(given.out)
    if node is not None:
        teacher = _fitted(teacher, node, texts, cache.folder, notes)
    job = EmbeddingJob(teacher, texts, cache, shard_rows=given.shard_rows)
    left = job.num_texts - job.num_known
    notes.print(
        f"{job.num_texts:,} distinct texts, {job.num_known:,} of them embedded before; {left:,} more of width "
        f"{teacher.width:,} take {in_words(job.bytes_left)} in {job.folder}, where {in_words(free_bytes(job.folder))} "
        "are free"
    )
    begin = time.perf_counter()
    with _progress(left, job.folder, notes) as advance:
        done = job.run(advance)
    seconds = time.perf_counter() - begin
    others = f", other processes {left - done:,}" if left > done else ""
    speed = f" in {seconds:.1f} s, {done / seconds:,.1f} texts/s" if done else ""
    print(f"embedded {done:,} texts{speed}{others}; all {job.num_texts:,} are in {job.folder}")


def _is_setting(text: str) -> bool:
    return "=" in text and text.lstrip("+~").startswith(("teacher.", "data.source."))


def _parts(name: str, file: Path, overrides: Sequence[str]) -> tuple[Teacher, Any, Any]:
    """The teacher, the settings that it was made from where it was not saved, and how the file is read."""
    saved = Path(name) / STATE_FILE
    for prefix, idle, why in (
        ("teacher.", saved.is_file(), "a saved teacher has its own settings"),
        ("data.source.", file.suffix.lower() == ".txt", "a text a line is read as it is"),
        ("data.source.path=", True, "the file is named by itself"),
    ):
        if idle and (given := [text for text in overrides if text.lstrip("+~").startswith(prefix)]):
            raise ValueError(f"{why}: leave out {', '.join(given)}")
    chosen = [] if saved.is_file() else [f"teacher={name}"]
    stray = [text for text in overrides if not text.lstrip("+~").startswith(("teacher.", "data.source."))]
    if stray:
        raise ValueError(f"expected settings of teacher. or data.source., got {', '.join(stray)}")
    make_importable(Path.cwd())
    with initialize_config_module("cellgraph.conf", version_base="1.3"):
        config = compose("train", overrides=["data=file", *chosen, *opened(overrides)])
    fit_parts(config, overrides)
    config.data.source.path = str(file)
    source = OmegaConf.to_container(config.data.source, resolve=True)
    if saved.is_file():
        return load_teacher(name), None, source
    node = OmegaConf.to_container(config.teacher, resolve=True)
    return check_teacher(build(node)), node, source


def _texts(file: Path, source: Any) -> list[str]:
    if file.suffix.lower() == ".txt":
        return read_lines(file)
    pairs = build(source)()
    return [pair.question for pair in pairs] + [pair.answer for pair in pairs]


def _fitted(teacher: Teacher, node: Any, texts: list[str], folder: Path, notes: Console) -> Teacher:
    """A teacher that has learned from the texts what it learns from texts: the same one whenever it is asked for."""
    # What code of one's own has learned is not for that code after a change.
    code = code_of(type(teacher)) if isinstance(teacher, BaseTeacher) else []
    digest = hashlib.sha256(json.dumps([node, texts, *code], sort_keys=True).encode()).hexdigest()[:16]
    place = folder / f"teacher-{digest}"
    if not (place / STATE_FILE).is_file():
        before = _fingerprint(teacher)
        teacher.fit(texts)
        if teacher.fingerprint == before:
            return teacher
        folder.mkdir(parents=True, exist_ok=True)
        # Of several processes one keeps what it has learned, and the others take that.
        with FileLock(folder / f".teacher-{digest}.lock"):
            if not (place / STATE_FILE).is_file():
                teacher.save_pretrained(place)
    notes.print(f"the teacher has learned from these texts and is kept in {place}")
    return load_teacher(place)


def _fingerprint(teacher: Teacher) -> str | None:
    try:
        return teacher.fingerprint
    except ValueError:
        # It has not learned yet; where something else is wrong, that is said when it has.
        return None


@contextmanager
def _progress(total: int, folder: Path, notes: Console) -> Iterator[Any]:
    """Texts done, texts per second, time and disk space left: a bar in a terminal, a line now and then elsewhere."""
    done, begin, told = 0, time.monotonic(), time.monotonic()

    def figures() -> str:
        speed = done / max(time.monotonic() - begin, 1e-9)
        return f"{speed:,.1f} texts/s, {in_words(free_bytes(folder))} free"

    if notes.is_terminal:
        columns = (TextColumn("embedding"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("texts,"))
        told_columns = (TextColumn("{task.fields[figures]},", markup=False), TimeRemainingColumn(), TextColumn("left"))
        with Progress(*columns, *told_columns, console=notes) as bar:
            task = bar.add_task("", total=total, figures="")

            def advance(count: int) -> None:
                nonlocal done
                done += count
                bar.update(task, advance=count, figures=figures())

            yield advance
        return

    def tell(count: int) -> None:
        nonlocal done, told
        done += count
        if time.monotonic() - told > INTERVAL:
            told = time.monotonic()
            left = (total - done) * (told - begin) / max(done, 1)
            notes.print(f"{done:,} of {total:,} texts, {figures()}, {left:,.0f} s left")

    yield tell
