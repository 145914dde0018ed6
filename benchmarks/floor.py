"""The floor: the step's matrix products alone, below which no way to compute the step can get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .measure import Contender, waits
from .setting import DTYPES, Setting

FLOOR = "floor"


def floor_flops(setting: Setting) -> int:
    """Multiplications and additions of the matrix products in a call.

    Forward, a cell's step is a product into the gated block (channels x 2 hidden) and one out of it (hidden x
    channels); a training step adds for each the products that give the gradients of its two factors.
    """
    products = 3 if setting.mode == "train" else 1
    return 2 * setting.cell_steps * 3 * setting.channels * setting.hidden * products


def floor_contender(setting: Setting, device: torch.device) -> Contender:
    """The products of a setting in its dtype, into tensors that are there already."""
    return Contender(setting, floor_call(setting, device), note="matrix products of the step alone, best batch")


def floor_call(setting: Setting, device: torch.device) -> Callable[[], Any]:
    """Does the products of all steps once."""
    dtype = DTYPES[setting.dtype]
    rows = setting.batch * setting.num_cells

    def new(*shape: int) -> Tensor:
        return torch.randn(shape, device=device).to(dtype)

    x, z = new(rows, setting.channels), new(rows, 2 * setting.hidden)
    gated, y = new(rows, setting.hidden), new(rows, setting.channels)
    into, out = new(2 * setting.hidden, setting.channels), new(setting.channels, setting.hidden)
    x_grad, gated_grad = torch.empty_like(x), torch.empty_like(gated)
    into_grad, out_grad = torch.empty_like(into), torch.empty_like(out)

    def call() -> None:
        for _ in range(setting.num_steps):
            torch.mm(x, into.T, out=z)
            torch.mm(gated, out.T, out=y)
        if setting.mode == "forward":
            return
        for _ in range(setting.num_steps):
            torch.mm(y, out, out=gated_grad)
            torch.mm(y.T, gated, out=out_grad)
            torch.mm(z, into, out=x_grad)
            torch.mm(z.T, x, out=into_grad)

    return waits(call, device)
