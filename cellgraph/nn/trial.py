"""The trial: the ways to take a cell's step, measured against one another where it is used."""

from __future__ import annotations

import contextlib
import copy
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cellgraph.cone import LightCone
from cellgraph.ops import AUTO, Backend, default_backend
from cellgraph.ops.choice import Choice, hopeless, kept_choice, machine_case, race

if TYPE_CHECKING:
    from cellgraph.nn.cell import Cell

#: On lattices with more cells nothing is tried: an uncompiled training step might take more memory than there is.
LARGEST = 100_000
#: Samples and steps that are measured.
_BATCH, _STEPS = 4, 2
#: A compiled step takes at least so many times as long as the same step, uncompiled, without its neighbour sums.
#: Measured were 2.0 (forward) and 2.3 (training) on an AMD EPYC with AVX-512 BF16.
_COMPILED_LEAST = 1.3
#: The step without its neighbour sums, which is measured and never taken.
_BARE = "without neighbour sums"


@dataclass(frozen=True)
class Way:
    """A way to take a cell's step.

    Attributes:
        backend: The backend of its neighbour sums.
        compiled: Whether the step is compiled.
        by_tables: Whether the cells of a light cone gather their neighbours by its tables, whatever the backend.
    """

    backend: Backend
    compiled: bool = False
    by_tables: bool = False

    def take(self, cell: Cell) -> None:
        """Have a cell take its steps so."""
        if cell.neighbour_sum.chosen is not self.backend:
            cell.neighbour_sum.chosen = self.backend
        if not self.compiled:
            cell._compiled_call_impl = None
        elif cell._compiled_call_impl is None:
            cell.compile(dynamic=False)

    def __str__(self) -> str:
        return "tables" if self.by_tables else f"{self.backend.name}, compiled" if self.compiled else self.backend.name


@dataclass
class Trial:
    """What is tried: steps of a cell from states like one.

    Of the backends that fit and run here each is tried as it is, until it falls far behind. The default one, and those
    that should be faster, are also tried compiled, which takes a minute or two on a CPU, unless there is no need: where
    an operator of whole steps takes about as little as the same step without its neighbour sums, no compiled step can
    be faster. Others are not compiled: a convolution gains little by it, and scatter is slower than a stencil either
    way. In a light cone an operator of whole steps is tried against the cone's tables.

    Attributes:
        cell: The cell. Its weights stay, and so does the process's random state; in which way it takes its steps is
            left open, until one is taken.
        x: A state: its dtype, device and number of samples count.
        cone: The cells to compute, all of them by default.
        context: Whether cells are given a context.
        compiling: Whether to try ways that have to be compiled.
    """

    cell: Cell
    x: Tensor
    cone: LightCone | None = None
    context: bool = False
    compiling: bool = True

    def ways(self) -> list[Way]:
        """All that can be tried, those first that should be the fastest; one where another was asked for by name."""
        if self.cell.backend != AUTO:
            named = self.cell.neighbour_sum.chosen
            return [Way(named, compiled=self.compiling and named.compiles and self.cone is None)]
        state = self.x.new_empty(0, self.cell.lattice.num_nodes, self.x.size(-1))
        backends = [each for each in self.cell.candidates(state) if not (self.context and each.takes_steps)]
        backends = [each for each in backends if not each.takes_steps or each.load()]
        default = default_backend(self.cell.lattice)
        if self.cone is not None:
            whole = [Way(each) for each in backends if each.takes_steps]
            return [*whole, Way(default, by_tables=True)]
        upto = backends.index(default) + 1 if default in backends else 0
        compiled = [Way(each, compiled=True) for each in backends[:upto] if self.compiling and each.compiles]
        return [*(Way(each) for each in backends), *compiled]

    def fastest(self) -> tuple[Way, Choice | None]:
        """The fastest way, and what was measured: now, or on an earlier occasion of the same kind on this machine."""
        ways = {str(way): way for way in self.ways()}
        timed = self.x.device.type in ("cpu", "cuda") and self.cell.lattice.num_nodes <= LARGEST
        # Without a trial, a compiled step is believed to be faster than any uncompiled one.
        believed = max(ways.values(), key=lambda way: (way.backend.takes_steps, way.compiled))
        if len(ways) == 1 or not timed:
            return believed, None
        case = self.case(ways)
        choice = kept_choice(case)
        if choice is None or choice.fastest not in ways:
            choice = Choice(case, self.measure(ways.values()))
            if not choice.seconds:
                return believed, None
            choice.keep()
        return ways[choice.fastest], choice

    def case(self, ways: Iterable[str]) -> dict[str, str]:
        """What a choice between the ways depends on."""
        cell, lattice, cone = self.cell, self.cell.lattice, self.cone
        widths = [f"{name} {list(parameter.shape)}" for name, parameter in cell.named_parameters()]
        kind = self.x.device.type
        lower = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if lower else self.x.dtype
        return {
            "lattice": f"{lattice}, {lattice.num_edges} edges",
            "cell": type(cell).__name__,
            "widths": ", ".join(widths),
            "dtype": str(dtype).removeprefix("torch.") + (" autocast" if lower else ""),
            "mode": "training" if torch.is_grad_enabled() else "forward",
            "rollout": "full"
            if cone is None
            else f"light cone of {cone.num_steps} steps, {cone.share:.3f} of the cells",
            "samples": str(self._batch),
            "ways": "; ".join(ways),
            **machine_case(self.x.device),
        }

    def measure(self, ways: Iterable[Way]) -> dict[str, float]:
        """Seconds that each of the ways takes, of those that run; roughly where they are far behind the fastest."""
        tried = list(ways)
        compiled = [way for way in tried if way.compiled]
        runs = {str(way): self._run(way) for way in tried if not way.compiled}
        # The yardstick of what is compiled: where nothing is there is no need of one.
        runs |= {_BARE: self._run(None)} if compiled else {}
        with torch.random.fork_rng(devices=[self.x.device] if self.x.is_cuda else []):
            able = _able({name: partial(run, 1, 1) for name, run in runs.items()})
            behind = hopeless({name: run for name, run in able.items() if name != _BARE})
            whole = {name: partial(runs[name], self._batch, _STEPS) for name in able if name not in behind}
            seconds = race(_able(whole), staying=_BARE)
            bare = seconds.pop(_BARE, 0.0)
            times = self._batch * (_STEPS if self.cone is None else 1)
            seconds |= {name: times * value for name, value in behind.items()}
            steppers = [seconds[str(way)] for way in tried if way.backend.takes_steps and str(way) in seconds]
            if compiled and min(steppers, default=math.inf) > _COMPILED_LEAST * bare:
                seconds |= self._measure_compiled(compiled)
        return seconds

    def _measure_compiled(self, ways: Iterable[Way]) -> dict[str, float]:
        """Seconds of ways that are compiled, for as many samples as the others.

        The cell itself is compiled, and for as many samples as there are, so that what is chosen need not be again.
        """
        print("cellgraph: trying the compiled step too, once for its kind: a minute or two on a CPU", file=sys.stderr)
        seconds: dict[str, float] = {}
        samples = max(1, self.x.size(0))
        for way in ways:
            able = _able({str(way): partial(self._run(way), samples, _STEPS)})
            seconds |= {name: value * self._batch / samples for name, value in race(able).items()}
        return seconds

    @cached_property
    def _twin(self) -> Cell:
        """A cell of the same weights, to be left as it pleases."""
        return copy.deepcopy(self.cell)

    def _run(self, way: Way | None) -> Callable[[int, int], None]:
        """Takes so many steps of so many samples, forward or there and back; without a way without neighbour sums."""
        cell = self.cell if way is not None and way.compiled else self._twin
        trains = torch.is_grad_enabled()

        @cache
        def noise(seed: int, samples: int, cells: int, dtype: torch.dtype) -> Tensor:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randn(samples, cells, self.x.size(-1), generator=generator)
            return drawn.to(self.x.device, dtype).requires_grad_(trains and seed == 0)

        def run(samples: int, steps: int) -> None:
            alone = way is None
            if way is not None:
                way.take(cell)
            cells = cell.lattice.num_nodes if self.cone is None else len(self.cone.own[0])
            start = noise(0, samples, cells, self.x.dtype)
            with _alone(cell) if alone else contextlib.nullcontext():
                if self.cone is None:
                    last = self._walk(cell, start, steps)
                else:
                    last = self._walk_in(self.cone, cell, start, by_tables=way is not None and way.by_tables)
                if trains:
                    wanted = [start, *(p for p in cell.parameters() if p.requires_grad)]
                    gradient = noise(1, samples, last.size(1), last.dtype)
                    torch.autograd.grad(last, wanted, gradient, allow_unused=True)
            if self.x.is_cuda:
                torch.cuda.synchronize(self.x.device)

        return run

    def _walk(self, cell: Cell, x: Tensor, steps: int) -> Tensor:
        context = x.new_zeros(1, 1, cell.context_channels) if self.context else None
        if context is None and cell.fuses(x):
            return cell.walk(x, None, num_steps=steps)[0]
        for _ in range(steps):
            x = cell(x, None, context)
        return x

    def _walk_in(self, cone: LightCone, cell: Cell, own: Tensor, *, by_tables: bool) -> Tensor:
        lent = own.new_zeros(len(cone.lent[0]), own.size(-1))
        if not by_tables:
            return cell.walk(own, None, num_steps=cone.num_steps, cone=cone, lent=lent)[0]
        context = own.new_zeros(1, 1, cell.context_channels) if self.context else None
        lent = lent[None]
        for tables in cone.steps_on(own.device):
            own, lent = cell.step_in_cone(own, lent, tables, None, context)
        return own

    @property
    def _batch(self) -> int:
        # One sample is a case of its own, when questions are answered; as to more, few stand for many.
        return 1 if self.x.size(0) <= 1 else _BATCH


@contextlib.contextmanager
def _alone(cell: Cell) -> Iterator[None]:
    """With a neighbour sum of no neighbours: what every way to sum over them has to do, and less."""
    default = default_backend(cell.lattice)
    Way(default).take(cell)
    cell.neighbour_sum.forward = lambda x, weight: weight[-1] * x  # type: ignore[method-assign]
    try:
        yield
    finally:
        del cell.neighbour_sum.forward


def _able(runs: Mapping[str, Callable[[], None]]) -> dict[str, Callable[[], None]]:
    """Those of several runs that run."""
    return {name: run for name, run in runs.items() if _runs(run)}


def _runs(run: Callable[[], None]) -> bool:
    try:
        run()
    except (ValueError, RuntimeError, NotImplementedError, ImportError):
        return False
    except Exception as error:
        # Triton's own, where a kernel does not fit a device, cannot be named without importing it.
        if not type(error).__module__.startswith("triton."):
            raise
        return False
    return True


class Ways:
    """The ways in which a cell that was asked to be fast takes its steps, each chosen when there is first use of one.

    Args:
        compiling: Whether a step may be compiled.
    """

    def __init__(self, *, compiling: bool) -> None:
        self.compiling = compiling
        self._chosen: dict[tuple[object, ...], tuple[Way, str]] = {}
        self._compiled_on: dict[torch.device, bool] = {}

    def take(self, cell: Cell, x: Tensor, *, cone: LightCone | None, context: bool) -> str:
        """Have the cell take steps from such a state as is the fastest; that way, and what else was tried, in words.

        Args:
            cell: The cell.
            x: The state.
            cone: The cells to compute, all of them by default.
            context: Whether the cells are given a context.
        """
        kind = x.device.type
        lower = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        part = None if cone is None else (cone.num_steps, cone.share)
        occasion = (x.device, x.dtype, lower, torch.is_grad_enabled(), x.size(0) > 1, context, part)
        if occasion not in self._chosen:
            trial = Trial(cell, x, cone=cone, context=context, compiling=self.compiling)
            way, choice = trial.fastest()
            self._chosen[occasion] = way, str(way if choice is None else choice)
        way, told = self._chosen[occasion]
        way.take(cell)
        return told

    def will_compile(self, cell: Cell) -> bool:
        """Whether full rollouts will be: as a backend asked for by name is, or as no operator of whole steps fits."""
        if cell.backend != AUTO:
            return self.compiling and cell.neighbour_sum.chosen.compiles
        if cell.device not in self._compiled_on:
            state = torch.empty(0, cell.lattice.num_nodes, cell.channels, dtype=cell.dtype, device=cell.device)
            steppers = any(backend.takes_steps for backend in cell.candidates(state))
            self._compiled_on[cell.device] = self.compiling and not steppers
        return self._compiled_on[cell.device]
