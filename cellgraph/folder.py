"""The run folder: what lies where in it, who may write into it, and how to go on with it."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from cellgraph import texts
from cellgraph.files import PART, write_atomically

LAST, BEST = "last.ckpt", "best.ckpt"
#: The last one before the last.
PREVIOUS = "previous.ckpt"
#: What keeps a folder to one process, and who that is.
LOCK, HOLDER = ".lock", ".holder"

#: Bytes of a file's name that the usual file systems take (NAME_MAX).
LONGEST_NAME = 255

#: Values that Hydra reads as the strings they are without quotes: a slash keeps numbers and words like null apart.
_PLAIN = re.compile(r"[\w.-]*/[\w./-]*", re.ASCII)


class RunFolder:
    """The folder of a run, and the only place that knows the paths in it.

    A run claims its folder by its configuration, which is put there in one step and never replaced: of two runs that
    want one folder, one gets it, and a folder that holds a run is left as it is.

    Args:
        path: The folder; it need not exist.

    Example:
        >>> folder = RunFolder("runs/today")
        >>> folder.last.as_posix(), folder.stage("adapters first").last.as_posix()
        ('runs/today/checkpoints/last.ckpt', 'runs/today/stages/adapters first/checkpoints/last.ckpt')
        >>> folder.command("train", resume=folder)
        'cellgraph train resume=runs/today'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.teacher = self.path / "teacher"
        self.model = self.path / "model"
        self.automaton = self.path / "automaton.safetensors"
        self.checkpoints = self.path / "checkpoints"
        self.last, self.best = self.checkpoints / LAST, self.checkpoints / BEST
        self.previous = self.checkpoints / PREVIOUS
        self.metrics = self.path / "metrics.csv"
        self.tensorboard = self.path / "tensorboard"
        self.training = self.path / "training.json"
        self.evaluation, self.table = self.path / "evaluation.json", self.path / "evaluation.md"
        self.answering = self.path / "answering"
        self.decoder = self.answering / "decoder"
        self.report = self.path / "report"

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    @classmethod
    def claim(cls, path: str | os.PathLike[str], config: str, *, spare: bool = False) -> RunFolder:
        """Take a folder for a new run, made where absent, by writing the run's configuration.

        Args:
            path: The folder.
            config: The configuration, as text.
            spare: Whether another name will do where the folder is taken: the same with a number at the end.

        Raises:
            ValueError: If it holds a run already; nothing in it is changed.
            OSError: If it cannot be written.
        """
        path = Path(path)
        for number in itertools.count(2):
            folder = cls(path)
            if folder._claim(config.encode()):
                return folder
            if not spare:
                go_on = folder.command("train", resume=folder)
                raise ValueError(f"{folder} holds a run already: go on with it ({go_on}) or choose another folder")
            path = path.with_name(f"{path.name.removesuffix(f'-{number - 1}')}-{number}")
        raise AssertionError("a count does not end")

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """The folder of a run that is there.

        Raises:
            ValueError: If it is none.
        """
        folder = cls(path)
        if not folder.config.is_file():
            raise ValueError(f"{folder} is no run folder of cellgraph: {folder.config.name} is missing")
        folder.check_links()
        return folder

    def check_links(self) -> None:
        """See to it that all that is read from the folder, and written into it, is in it.

        Raises:
            ValueError: If a link in it leads elsewhere: what has come from somebody else could be made to read or to
                write anything by its name.
        """
        home = self.path.resolve()
        for place, folders, files in os.walk(home):
            for name in (*folders, *files):
                path = Path(place, name)
                if path.is_symlink() and not path.resolve().is_relative_to(home):
                    where = self.path / path.relative_to(home)
                    raise ValueError(f"{where} leads out of the run folder, to {path.readlink()}: put a copy there")

    def release(self, *, split: bool = False) -> None:
        """Give the folder back where nothing but the claim is in it.

        Args:
            split: Whether the pairs, as they were split, go as well where they are all that is there.
        """
        claim, pairs = {self.config.name, LOCK, HOLDER}, self.pairs("test").parent
        with contextlib.suppress(OSError):
            there = {file.name for file in self.path.iterdir()}
            if self.config.name in there and there <= claim | ({pairs.name} if split else set()):
                shutil.rmtree(pairs, ignore_errors=True)
                for name in there & claim:
                    (self.path / name).unlink()
                self.path.rmdir()

    @contextlib.contextmanager
    def locked(self) -> Iterator[RunFolder]:
        """Keep the folder, made where absent, to this process while it trains in it; what locks it may lock it again.

        The system gives the lock back when the process ends, however that comes.

        Raises:
            ValueError: If another process has it.
            OSError: If the folder cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock, holder = FileLock(self.path.resolve() / LOCK, is_singleton=True), self.path / HOLDER
        # With it comes torch, which the paths do without.
        from cellgraph import processes

        if processes.rank():
            # It trains together with the process that has the lock.
            yield self
            return
        outermost = not lock.is_locked
        try:
            lock.acquire(timeout=0)
        except Timeout:
            who = texts.one_line(holder.read_text(errors="replace")[:200]) if holder.exists() else "another process"
            raise ValueError(f"{self} is in use by {who}: wait for it, or stop it") from None
        try:
            if outermost:
                self._clear()
                # What is there may be a link to anywhere, which writing would follow.
                holder.unlink(missing_ok=True)
                with holder.open("x") as file:
                    file.write(f"process {os.getpid()} on {socket.gethostname()}")
            yield self
        finally:
            if outermost:
                holder.unlink(missing_ok=True)
            lock.release()

    @property
    def has_run(self) -> bool:
        """Whether a run lies here, begun or finished."""
        return self.config.exists() or self.checkpoints.exists()

    @property
    def has_teacher(self) -> bool:
        """Whether the teacher is here, whole: what says which one it is, is written last."""
        return (self.teacher / "teacher.json").is_file()

    def pairs(self, part: str) -> Path:
        """The pairs of a part of the split: ``"train"``, ``"validation"`` or ``"test"``."""
        return self.path / "pairs" / f"{part}.jsonl"

    def stage(self, name: str) -> RunFolder:
        """The folder of something that is trained beside the run's network: a first stage, a baseline.

        Raises:
            ValueError: If the name is none of a folder within the run's: a configuration may have come from anybody.
        """
        if not isinstance(name, str) or not name.strip(". ") or {*name} & {*"/\\\0"}:
            raise ValueError(f"the name of a baseline must be that of a folder, without / and \\, got {name!r}")
        if (length := len(os.fsencode(name))) > LONGEST_NAME:
            shown = texts.one_line(name, 60)
            raise ValueError(f"the name of a baseline must have at most {LONGEST_NAME} bytes, got {length}: {shown!r}")
        return RunFolder(self.path / "stages" / name)

    def stages(self) -> list[RunFolder]:
        """The folders of :meth:`stage` that are there."""
        place = self.path / "stages"
        return [self.stage(path.name) for path in sorted(place.iterdir())] if place.is_dir() else []

    def confidence(self, key: str) -> Path:
        """The confidence in answers from a bank, by a key of all that it depends on."""
        return self.answering / f"confidence-{key}.json"

    def lexical(self, key: str) -> Path:
        """How much the words of a bank's answers count, by such a key."""
        return self.answering / f"lexical-{key}.json"

    def nonfinite(self, update: int, process: int = 0) -> Path:
        """The batch of an update whose loss or gradient was not finite; of several processes, one's share of it."""
        own = f"_process_{process}" if process else ""
        return self.path / f"nonfinite_update_{update}{own}.safetensors"

    @staticmethod
    def command(verb: str, *words: object, **overrides: object) -> str:
        """A command line of ``cellgraph`` that can be pasted into a shell.

        Args:
            verb: The verb.
            words: What follows it, as it is.
            overrides: Settings that Hydra reads, ``name=value``.

        Example:
            >>> print(RunFolder.command("train", resume="my runs/lr=1"))
            cellgraph train 'resume="my runs/lr=1"'
        """
        given = [str(word) for word in words] + [f"{key}={for_hydra(str(value))}" for key, value in overrides.items()]
        started = ["cellgraph"]
        together = int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1
        if verb == "train" and together > 1:
            started = ["torchrun", "--nproc-per-node", str(together), "-m", "cellgraph"]
        return " ".join([*started, verb, *map(shlex.quote, given)])

    def _clear(self) -> None:
        """Remove what killed processes have left half written: there is no other one now."""
        for part in self.path.rglob(f".*{PART}"):
            with contextlib.suppress(OSError):
                part.unlink()

    def _claim(self, config: bytes) -> bool:
        self.path.mkdir(parents=True, exist_ok=True)
        if self.has_run:
            return False
        with tempfile.TemporaryDirectory(dir=self.path, prefix=".claim") as place:
            whole = Path(place) / self.config.name
            write_atomically(whole, config)
            try:
                # A link appears with all its content, and only where there is nothing: a claim in one step.
                os.link(whole, self.config)
            except FileExistsError:
                return False
            except OSError:
                return self._claim_without_links(config)
        return True

    def _claim_without_links(self, config: bytes) -> bool:
        try:
            with self.config.open("xb") as file:
                file.write(config)
        except FileExistsError:
            return False
        return True


def for_hydra(value: str) -> str:
    """A string as Hydra's grammar of overrides takes it."""
    if _PLAIN.fullmatch(value):
        return value
    # Backslashes count only before an interpolation, which is none after an odd number of them,
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    # and before a quote, which the one that ends the value is too.
    value = re.sub(r'(\\*)(?="|$)', r"\1\1", value).replace('"', r"\"")
    return f'"{value}"'
