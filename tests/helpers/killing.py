"""Runs of the command line that are killed at a chosen moment, and what a run folder ends as.

Imports take longer than the runs, so one process imports and forks a process for each run: the forked one leaves the
loop and is an ordinary Python process from there to its exit.
"""

from __future__ import annotations

import contextlib
import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from checkpoints import differences
from processes import environment

from cellgraph.training import read_checkpoint

# A moment is a time, or a place: before or after the so-many-th file is put where it belongs.
SCRIPT = """
import json, os, pathlib, signal, sys, threading, time
import cellgraph.cli.train, cellgraph.cli.automaton
from cellgraph.cli import main

for line in sys.stdin:
    command = json.loads(line)
    if isinstance(command, int):
        print(os.waitstatus_to_exitcode(os.waitpid(command, 0)[1]), flush=True)
        continue
    pid = os.fork()
    if pid == 0:
        break
    print(pid, flush=True)
else:
    sys.exit()

os.chdir(command["folder"])
for stream, name in ((1, "out"), (2, "err")):
    os.dup2(os.open(name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), stream)

def end():
    os.kill(os.getpid(), signal.SIGKILL)

count, replace, begun = 0, pathlib.Path.replace, time.monotonic()
print("file 0 after 0", flush=True)

def counted(self, target):
    global count
    count += 1
    if count == command.get("before"):
        end()
    found = replace(self, target)
    print(f"file {count} after {time.monotonic() - begun:.3f}: {target}", flush=True)
    if count == command.get("after"):
        end()
    return found

pathlib.Path.replace = counted
if "seconds" in command:
    threading.Timer(command["seconds"], end).start()
sys.argv = ["cellgraph", *command["arguments"]]
main()
"""

#: What is measured with a clock.
TIMES = ("seconds", "seconds_train", "train/samples_per_second", "milliseconds")


class Killer:
    """Starts runs, ends them at a moment and waits for them."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(self, folder: Path, *arguments: str, **moment: float) -> int:
        """The exit code of a run in a folder, which is to be killed at a moment: ``seconds``, ``before``, ``after``."""
        pid = self._ask({"folder": str(folder), "arguments": arguments, **moment})
        return self._ask(pid)

    def _ask(self, command: Any) -> int:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the process that starts runs has died"
        return int(answer)


@contextlib.contextmanager
def killer(folder: Path) -> Iterator[Killer]:
    """One for runs below a folder, with a cache there."""
    command = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(folder)
    ) as process:
        yield Killer(process)
        assert process.stdin
        process.stdin.close()


def files_written(folder: Path) -> list[tuple[float, str]]:
    """When each file was put in its place in the run that was started last in a folder, and which."""
    lines = [line.split(maxsplit=4) for line in (folder / "out").read_text().splitlines() if line.startswith("file ")]
    return [(float(line[3].rstrip(":")), line[4]) for line in lines if len(line) == 5]


def ending(run: Path) -> dict[str, Any]:
    """All that a run came to, clocks aside: the weights' bytes, the checkpoints, the rows and the figures."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.suffix == ".safetensors" or path.suffix == ".jsonl":
            found[name] = path.read_bytes()
        elif path.suffix == ".ckpt":
            found[name] = read_checkpoint(path)
        elif path.name == "metrics.csv":
            with path.open(newline="") as file:
                found[name] = [_untimed(row) for row in csv.DictReader(file)]
        elif path.suffix == ".json":
            found[name] = _untimed(json.loads(path.read_text()))
    return found


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of what differs between two endings in a bit."""
    names = sorted(one.keys() ^ other.keys())
    for name in sorted(one.keys() & other.keys()):
        if name.endswith(".ckpt"):
            names += [f"{name}{place}" for place in differences(one[name], other[name])]
        elif one[name] != other[name]:
            names.append(name)
    return names


def _untimed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _untimed(part) for key, part in value.items() if key not in TIMES}
    return [_untimed(part) for part in value] if isinstance(value, Sequence) and not isinstance(value, str) else value
