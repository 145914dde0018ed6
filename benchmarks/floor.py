"""The floor: the step's matrix products alone, below which no way to compute the step can get."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .measure import Contender, waits
from .setting import DTYPES, Setting
from .workload import light_cone

FLOOR = "floor"


def floor_rows(setting: Setting) -> Iterator[tuple[int, int]]:
    """The rows of each step's two products, into the gated block and out of it.

    Those are the cells before the step and after it, of each sample; in a light cone those that it computes, of which
    the ones that no sample has reached are computed once for all.
    """
    if not setting.cone:
        rows = setting.batch * setting.num_cells
        yield from [(rows, rows)] * setting.num_steps
        return
    cone = light_cone(setting)
    cells = [setting.batch * len(own) + len(lent) for own, lent in zip(cone.own, cone.lent, strict=True)]
    yield from pairwise(cells)


def floor_flops(setting: Setting) -> int:
    """Multiplications and additions of the matrix products in a call.

    Forward, a cell's step is a product into the gated block (channels x 2 hidden) and one out of it (hidden x
    channels); a training step adds for each the products that give the gradients of its two factors.
    """
    products = 3 if setting.mode == "train" else 1
    pairs = sum(2 * into + out for into, out in floor_rows(setting))
    return 2 * pairs * setting.channels * setting.hidden * products


def floor_contender(setting: Setting, device: torch.device) -> Contender:
    """The products of a setting in its dtype, into tensors that are there already."""
    of = "the light cone" if setting.cone else "the step"
    note = f"matrix products of {of} alone{'' if setting.cone else ', best batch'}"
    return Contender(setting, floor_call(setting, device), note=note, divisible=not setting.cone)


def floor_call(setting: Setting, device: torch.device) -> Callable[[int], Any]:
    """Does the products of so many steps once."""
    dtype = DTYPES[setting.dtype]
    rows = list(floor_rows(setting))
    most = max(max(pair) for pair in rows)

    def new(*shape: int) -> Tensor:
        return torch.randn(shape, device=device).to(dtype)

    x, z = new(most, setting.channels), new(most, 2 * setting.hidden)
    gated, y = new(most, setting.hidden), new(most, setting.channels)
    into, out = new(2 * setting.hidden, setting.channels), new(setting.channels, setting.hidden)
    x_grad, gated_grad = torch.empty_like(x), torch.empty_like(gated)
    into_grad, out_grad = torch.empty_like(into), torch.empty_like(out)

    def call(steps: int) -> None:
        for before, after in rows[:steps]:
            torch.mm(x[:before], into.T, out=z[:before])
            torch.mm(gated[:after], out.T, out=y[:after])
        if setting.mode == "forward":
            return
        for before, after in rows[:steps]:
            torch.mm(y[:after], out, out=gated_grad[:after])
            torch.mm(y[:after].T, gated[:after], out=out_grad)
            torch.mm(z[:before], into, out=x_grad[:before])
            torch.mm(z[:before].T, x[:before], out=into_grad)

    return waits(call, device)
