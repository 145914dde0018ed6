"""The workload: the library's own cell, built and called as training and answering call it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from cellgraph.cone import LightCone
from cellgraph.lattice import Lattice
from cellgraph.nn import GMLPCell
from cellgraph.nn.trial import Trial, Way
from cellgraph.ops import AUTO, find_backend
from cellgraph.ops import backend_names as known_names
from cellgraph.unroll import rollout

from .measure import Contender
from .setting import DTYPES, Setting


def backend_names() -> list[str]:
    """The library's backends but ``auto``, the fastest first."""
    return [name for name in known_names() if name != AUTO]


def compiles(name: str) -> bool:
    """Whether the step of a backend's cell is compiled, which takes most of a minute."""
    return find_backend(name).compiles


def auto_way(setting: Setting, device: torch.device, *, compiling: bool = True) -> Way:
    """The way that ``auto`` takes a step, tried here and now unless it is known.

    Args:
        setting: What the step is of; its backend does not matter.
        device: Where.
        compiling: Whether to try what has to be compiled, too.
    """
    cell = build_cell(setting, device, backend=AUTO)
    x = torch.zeros(setting.batch, setting.num_cells, setting.channels, device=device)
    with torch.set_grad_enabled(setting.mode == "train"), lower_precision(setting, device):
        return Trial(cell, x, compiling=compiling).fastest()[0]


def fastest_backend(setting: Setting, device: torch.device) -> str:
    """The backend that ``auto`` takes."""
    return auto_way(setting, device).backend.name


def lower_precision(setting: Setting, device: torch.device) -> torch.autocast:
    """The context of a setting's dtype: mixed precision where it is not float32."""
    dtype = DTYPES[setting.dtype]
    lower = dtype is not torch.float32
    return torch.autocast(device.type, dtype if lower else None, enabled=lower)


def light_cone(setting: Setting) -> LightCone:
    """The cells that can reach the back from the front."""
    lattice = Lattice(setting.shape, setting.neighbourhood)
    return LightCone(lattice, lattice.face("back"), setting.num_steps, source=lattice.face("front"))


def chosen_device(name: str) -> torch.device:
    """The device of a name; ``auto`` takes a GPU where there is one.

    Raises:
        ValueError: If it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, torch sees no GPU")
    return torch.device(name)


def build_cell(setting: Setting, device: torch.device, *, backend: str | None = None) -> GMLPCell:
    """A cell in which every term of the step matters, with the conveyor set and the state bounded."""
    torch.manual_seed(0)
    lattice = Lattice(setting.shape, setting.neighbourhood)
    heads = next(heads for heads in (8, 4, 2, 1) if setting.hidden % heads == 0)
    chosen = setting.backend if backend is None else backend
    cell = GMLPCell(lattice, setting.channels, hidden=setting.hidden, heads=heads, backend=chosen)
    nn.init.normal_(cell.out_weight, std=0.02)
    cell.set_conveyor(0, 0.5)
    return cell.to(device)


def compile_cell(cell: GMLPCell, device: torch.device) -> None:
    """Compile a cell's step, as :meth:`~cellgraph.CellGraph.compile_step` does.

    Raises:
        ValueError: If there is no compiler: timing the uncompiled step under the same name would mislead.
    """
    if not cell.neighbour_sum.chosen.compiles:
        return
    if device.type == "cpu" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        raise ValueError("torch.compile needs a C++ compiler, found none")
    # Each setting is a program of its own. By default torch keeps eight and then quietly runs uncompiled.
    torch._dynamo.config.recompile_limit = 10_000
    torch._dynamo.config.accumulated_recompile_limit = 10_000
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    cell.compile(dynamic=False)


class TorchJob:
    """One call of a setting's mode: a rollout without gradients, or a whole training step around it.

    Args:
        walk: The rollout, from the start state through so many steps.
        parameters: What the optimiser updates.
        setting: The setting.
        device: Where the state lies.
        cone: The cells that the rollout starts from and ends with, all of them without one.
    """

    def __init__(
        self,
        walk: Callable[[Tensor, int], Tensor],
        parameters: Iterable[nn.Parameter],
        setting: Setting,
        device: torch.device,
        *,
        cone: LightCone | None = None,
    ) -> None:
        self.walk, self.parameters, self.device = walk, list(parameters), device
        self.trains, self.setting = setting.mode == "train", setting
        start, gradient = start_and_gradient(setting)
        if cone is not None:
            start, gradient = start[:, cone.own[0]], gradient[:, cone.target]
        self.x, self.gradient = start.to(device), gradient.to(device)
        self.x.requires_grad_(self.trains)
        # The rate is small so that thousands of updates along one gradient leave the cell what it is.
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-7, fused=True)

    def __call__(self, steps: int) -> None:
        if self.trains:
            self.optimizer.zero_grad()
            self.x.grad = None
            self._forward(steps).backward(self.gradient)
            self.optimizer.step()
        else:
            with torch.no_grad():
                self._forward(steps)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _forward(self, steps: int) -> Tensor:
        with torch.profiler.record_function(FORWARD), lower_precision(self.setting, self.device):
            return self.walk(self.x, steps)


def library_job(setting: Setting, device: torch.device) -> TorchJob:
    """The library's rollout, its step compiled.

    Raises:
        ValueError: If the backend cannot run here.
    """
    cell = build_cell(setting, device)
    cone = light_cone(setting) if setting.cone else None
    if cone is None:
        compile_cell(cell, device)

    def walk(x: Tensor, steps: int) -> Tensor:
        return rollout(cell, x, num_steps=steps, remat_every=setting.checkpoint, cone=cone).x

    return TorchJob(walk, cell.parameters(), setting, device, cone=cone)


def library_contender(setting: Setting, device: torch.device) -> Contender:
    """The library's rollout, to be measured against others."""
    # A cone's steps differ, so that one stands for no other.
    return Contender(setting, library_job(setting, device), divisible=not setting.cone)


#: Name of the forward part of a training step in a profile.
FORWARD = "cellgraph: forward"


def start_and_gradient(setting: Setting) -> Sequence[Tensor]:
    """A start state and the gradient that comes back at the end, ``[batch, num_cells, channels]`` each."""
    generator = torch.Generator().manual_seed(0)
    shape = setting.batch, setting.num_cells, setting.channels
    return [torch.randn(shape, generator=generator) for _ in range(2)]
