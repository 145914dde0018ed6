"""The choice: which of several ways was the fastest here, kept so that it is measured once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from cellgraph.files import cache_folder, write_atomically
from cellgraph.ops.fused.instruction_set import chosen_instruction_set
from cellgraph.ops.processor import processor_name

#: Rounds of a race, fewer where they take longer than so many seconds together; two at least.
_ROUNDS, _SECONDS = 9, 0.6
#: What takes so many times as long as the fastest is out: before the race, by short calls, and after a round of it.
_HOPELESS, _BEATEN = 4.0, 1.5


@dataclass(frozen=True)
class Choice:
    """What was measured of several ways to do the same.

    Attributes:
        case: What was done where, in words by name; it must be the same for the choice to hold.
        seconds: Seconds that each of the ways took.
    """

    case: Mapping[str, str]
    seconds: Mapping[str, float]

    @property
    def fastest(self) -> str:
        """Name of the fastest way."""
        return min(self.seconds, key=lambda name: self.seconds[name])

    def keep(self) -> None:
        """Write it down for the next time, where that can be."""
        content = json.dumps({"case": dict(self.case), "seconds": dict(self.seconds)}, indent=2) + "\n"
        with contextlib.suppress(OSError):
            write_atomically(_path(self.case), content.encode())

    def __str__(self) -> str:
        best = self.seconds[self.fastest]
        others = sorted((seconds / best, name) for name, seconds in self.seconds.items() if name != self.fastest)
        return self.fastest + "".join(f", {ratio:.2g} x as fast as {name}" for ratio, name in others)


def kept_choice(case: Mapping[str, str]) -> Choice | None:
    """What was written down of a case; ``None`` where that is nothing, or nothing that can be read."""
    found = _read(_path(case))
    return found if found is not None and dict(found.case) == dict(case) else None


def kept_choices() -> Iterator[Choice]:
    """All that was written down, in the order of their cases."""
    found = (_read(path) for path in _folder().glob("choice-*.json"))
    yield from sorted(filter(None, found), key=lambda choice: list(choice.case.values()))


def machine_case(device: torch.device) -> dict[str, str]:
    """The part of a case that the machine and the library are."""
    on_cpu = device.type == "cpu"
    processor = processor_name() if on_cpu else torch.cuda.get_device_name(device)
    instructions = f"{chosen_instruction_set().name}, ATen {torch.backends.cpu.get_cpu_capability()}" if on_cpu else ""
    return {
        "processor": processor,
        "instructions": instructions,
        "threads": str(torch.get_num_threads()) if on_cpu else "",
        "torch": torch.__version__,
        "operators": _operators(),
    }


def hopeless(runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The runs that will not turn out the fastest, by two calls of each, and the seconds of the faster one.

    Args:
        runs: Short ones, by name.
    """
    seconds = {name: min(_seconds(run), _seconds(run)) for name, run in runs.items()}
    return {name: value for name, value in seconds.items() if value > _HOPELESS * min(seconds.values())}


def race(runs: Mapping[str, Callable[[], object]], *, staying: str = "") -> dict[str, float]:
    """The least seconds that each of several runs takes, of rounds in which they take turns.

    The least, as noise of the machine only ever adds to a time. What cannot win any more drops out.

    Args:
        runs: The runs by name.
        staying: Name of one that does not drop out.
    """
    least = dict.fromkeys(runs, math.inf)
    racing = list(runs)
    start = time.perf_counter()
    for number in range(_ROUNDS):
        if number > 1 and time.perf_counter() - start > _SECONDS:
            break
        for name in racing:
            least[name] = min(least[name], _seconds(runs[name]))
        best = min(least.values(), default=math.inf)
        racing = [name for name in racing if name == staying or least[name] <= _BEATEN * best]
    return least


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _read(path: Path) -> Choice | None:
    try:
        content = json.loads(path.read_bytes())
        case, seconds = content["case"], content["seconds"]
        told = all(isinstance(text, str) for pair in case.items() for text in pair)
        timed = all(isinstance(value, float) and 0 < value < math.inf for value in seconds.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Choice(case, seconds) if told and timed and seconds else None


def _path(case: Mapping[str, str]) -> Path:
    key = hashlib.sha256(json.dumps(dict(case), sort_keys=True).encode()).hexdigest()[:16]
    return _folder() / f"choice-{key}.json"


def _folder() -> Path:
    return cache_folder() / "operators"


@functools.cache
def _operators() -> str:
    """What changes with the operators' sources: a choice between others says nothing of these."""
    sources = sorted(path for path in Path(__file__).parent.rglob("*") if path.suffix in (".py", ".cpp", ".h"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:8]
