"""The cell in JAX, with the parts of CAX (Faldor and Cully 2024, https://arxiv.org/abs/2410.02651)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from cellgraph.nn import GMLPCell

from .setting import Setting
from .workload import start_and_gradient

# JAX would take most of a GPU's memory for itself.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import optax
from cax.core import ComplexSystem
from cax.core.perceive import Perceive
from cax.core.update import Update
from flax import nnx


class GMLPPerceive(Perceive):
    """Gather: a cell's gated halves, the second one summed over the neighbourhood, and the transport.

    Args:
        cell: The cell whose parameters are taken.
        dtype: Of the matrix products and what lies between them; norms and sums are in float32.
    """

    def __init__(self, cell: GMLPCell, dtype: Any) -> None:
        self.offsets, self.dtype = cell.lattice.offsets, dtype
        self.position = _parameter(cell.position.reshape(*cell.lattice.shape, -1))
        self.norm_weight, self.norm_bias = _parameter(cell.norm_weight[0]), _parameter(cell.norm_bias[0])
        self.in_weight, self.in_bias = _parameter(cell.in_weight[0].T), _parameter(cell.in_bias[0])
        self.gate_norm_weight = _parameter(cell.gate_norm_weight[0])
        self.gate_norm_bias = _parameter(cell.gate_norm_bias[0])
        self.gate_weight, self.gate_bias = _parameter(cell.gate_weight[:, 0]), _parameter(cell.gate_bias[0])
        self.transport = _parameter(cell.transport[:, 0])

    def __call__(self, state: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        h = _norm(state + self.position[...], self.norm_weight[...], self.norm_bias[...])
        z = jnp.dot(h.astype(self.dtype), self.in_weight[...].astype(self.dtype)) + self.in_bias[...].astype(self.dtype)
        u, v = jnp.split(jax.nn.gelu(z, approximate=False), 2, axis=-1)
        v = _norm(v.astype(jnp.float32), self.gate_norm_weight[...], self.gate_norm_bias[...]).astype(self.dtype)
        heads = self.gate_weight[...].shape[-1]
        gate_weight = jnp.repeat(self.gate_weight[...], v.shape[-1] // heads, axis=-1)
        gate = self.gate_bias[...] + _weighted_sum(v, gate_weight, self.offsets)
        return u, gate, _weighted_sum(state, self.transport[...], self.offsets)


class GMLPUpdate(Update):
    """Update: the gate, the product out of the block, and the residual."""

    def __init__(self, cell: GMLPCell, dtype: Any) -> None:
        self.dtype = dtype
        self.out_weight, self.out_bias = _parameter(cell.out_weight[0].T), _parameter(cell.out_bias[0])

    def __call__(self, state: jax.Array, perception: Any, input: Any = None) -> jax.Array:
        u, gate, moved = perception
        gated = u * gate.astype(self.dtype)
        update = jnp.dot(gated, self.out_weight[...].astype(self.dtype)) + self.out_bias[...].astype(self.dtype)
        return state + moved + update.astype(jnp.float32)


class GMLPSystem(ComplexSystem):
    """The lattice as a complex system of CAX, on states ``[batch, *shape, channels]``."""

    def __init__(self, cell: GMLPCell, dtype: Any) -> None:
        self.perceive, self.update = GMLPPerceive(cell, dtype), GMLPUpdate(cell, dtype)

    def _step(self, state: jax.Array, input: Any = None, *, sow: bool = False) -> jax.Array:
        return self.update(state, self.perceive(state), input)


def cax_call(cell: GMLPCell, setting: Setting, device: torch.device) -> Callable[[], Any]:
    """One call of a setting's mode in JAX, jitted.

    Raises:
        ValueError: If a GPU is asked for and JAX has none.
    """
    with _as_many_threads_as_torch():
        backend = jax.default_backend()
    if (backend == "gpu") != (device.type == "cuda"):
        raise ValueError(f"JAX runs on {backend} here, torch on {device.type}")
    dtype = jnp.bfloat16 if setting.dtype == "bfloat16" else jnp.float32
    system = GMLPSystem(cell, dtype)
    shape = setting.batch, *setting.shape, setting.channels
    x, gradient = (jnp.asarray(noise.numpy().reshape(shape)) for noise in start_and_gradient(setting))
    if setting.mode == "forward":
        return lambda: system(x, num_steps=setting.num_steps).block_until_ready()

    @nnx.jit
    def train(system: GMLPSystem, optimizer: nnx.Optimizer, x: jax.Array) -> jax.Array:
        def loss(system: GMLPSystem, x: jax.Array) -> jax.Array:
            return jnp.vdot(system(x, num_steps=setting.num_steps), gradient)

        _, (gradients, x_gradient) = nnx.value_and_grad(loss, argnums=(0, 1))(system, x)
        optimizer.update(system, gradients)
        return x_gradient

    optimizer = nnx.Optimizer(system, optax.adamw(1e-7), wrt=nnx.Param)

    def call() -> None:
        train(system, optimizer, x).block_until_ready()
        jax.block_until_ready(nnx.state(system))

    return call


def _parameter(value: torch.Tensor) -> Any:
    return nnx.Param(jnp.asarray(value.detach().float().numpy()))


def _norm(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * weight + bias


def _weighted_sum(x: jax.Array, weight: jax.Array, offsets: tuple[tuple[int, ...], ...]) -> jax.Array:
    """Shifted slices of the padded grid, weighted, the centre last."""
    shape = x.shape[1:-1]
    padded = jnp.pad(x, [(0, 0), *[(1, 1)] * len(shape), (0, 0)])
    total = weight[-1] * x
    for w, offset in zip(weight, offsets, strict=False):
        window = tuple(slice(1 + move, 1 + move + size) for move, size in zip(offset, shape, strict=True))
        total = total + w * padded[(slice(None), *window)]
    return total


@contextmanager
def _as_many_threads_as_torch() -> Iterator[None]:
    """JAX has no setting for its threads: when it starts, it takes the processors that the process may run on."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[: torch.get_num_threads()])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
