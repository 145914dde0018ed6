"""Blocks: what each makes of a sequence, whatever the padding, against parts computed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cellgraph.sequence import Block, StreamCube, TokenCube, built_blocks

KINDS: dict[str, dict[str, Any]] = {
    "perceptron": {"hidden": 12},
    "convolution": {"hidden": 12},
    "cct": {},
    "transformer": {"hidden": 12, "heads": 2},
    "mamba": {"state": 4},
    "gru": {"hidden": 6},
    "window": {"hidden": 12},
    "cube": {"shape": [2, 2, 4], "num_steps": 2, "hidden": 8, "heads": 1},
    "stream": {"shape": [2, 2, 2], "hidden": 8, "heads": 1, "surface_channels": 2},
}


def block(kind: str, **options: Any) -> Block:
    torch.manual_seed(0)
    made = built_blocks(8, [{"kind": kind, **KINDS[kind], **options}])[0]
    assert isinstance(made, Block)
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def sequence(length: int, present: int) -> tuple[Tensor, Tensor]:
    mask = torch.arange(length)[None] < present
    x = torch.randn(1, length, 8, generator=torch.Generator().manual_seed(1)) * mask[..., None]
    return x, mask


def test_all_kinds_are_tried_here() -> None:
    built_blocks(8, [])
    assert Block.kinds.keys() == KINDS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind: str) -> None:
    made = block(kind)
    x, mask = sequence(8, 5)
    with torch.no_grad():
        long, of_long = made(x, mask)
        short, of_short = made(x[:, :5], mask[:, :5])
    assert bool(of_short.all())
    assert of_long.tolist() == mask.tolist()
    torch.testing.assert_close(long[:, :5], short, rtol=1e-4, atol=1e-5)
    assert not long[:, 5:].any()
    assert long[:, :5].abs().sum() > 0


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"perceptron"}))
def test_a_place_hears_its_neighbours(kind: str) -> None:
    x, mask = sequence(6, 6)
    changed = x.clone()
    changed[0, 2, 0] += 1.0
    made = block(kind)
    with torch.no_grad():
        assert (made(x, mask)[0] - made(changed, mask)[0])[0, 3].abs().max() > 1e-6


@pytest.mark.parametrize("kind", ["mamba", "gru", "window", "stream"])
def test_what_goes_along_the_sequence_does_not_hear_what_comes_after(kind: str) -> None:
    x, mask = sequence(6, 6)
    changed = x.clone()
    changed[0, 4, 0] += 1.0
    made = block(kind)
    with torch.no_grad():
        apart = (made(x, mask)[0] - made(changed, mask)[0])[0].abs().amax(1)
    assert float(apart[:4].max()) < 1e-6
    assert float(apart[4:].min()) > 1e-6


def test_mamba_2_is_another_block_of_the_same_form() -> None:
    x, mask = sequence(8, 5)
    made = block("mamba", version=2, head_width=8)
    with torch.no_grad():
        out, _ = made(x, mask)
    assert out.shape == x.shape
    assert not out[:, 5:].any()


@pytest.mark.parametrize("order", ["rows", "snake", "hilbert"])
def test_without_a_gate_the_cube_hands_each_token_on(order: str) -> None:
    cube = TokenCube(8, shape=[3, 4, 4], num_steps=4, hidden=8, heads=1, order=order)
    x, mask = sequence(16, 11)
    # W_out is all that stands between the gate and the state.
    for name, parameter in cube.named_parameters():
        if name.startswith("cell.out_"):
            torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        torch.testing.assert_close(cube(x, mask)[0], x, rtol=1e-4, atol=1e-5)


def test_the_tokeniser_is_convolution_relu_and_pooling() -> None:
    made = block("cct", stride=2)
    x, mask = sequence(7, 7)
    with torch.no_grad():
        out, of = made(x, mask)
    weight = made.convolution.weight.detach().double().numpy()
    bias = made.convolution.bias.detach().double().numpy()
    padded = np.pad(x[0].double().numpy(), ((1, 1), (0, 0)))
    heard = np.array([np.einsum("oik,ki->o", weight, padded[t : t + 3]) + bias for t in range(7)]).clip(min=0)
    around = np.pad(heard, ((1, 1), (0, 0)))
    expected = np.array([around[t : t + 3].max(0) for t in range(0, 7, 2)])
    np.testing.assert_allclose(out[0].numpy(), expected, atol=1e-5)
    assert of.shape == (1, math.ceil(7 / 2))


def test_a_stream_may_be_of_any_length_and_a_surface_not() -> None:
    stream, cube = block("stream"), block("cube")
    assert stream.capacity is None
    assert cube.capacity == 8
    x, mask = sequence(40, 40)
    with torch.no_grad():
        assert stream(x, mask)[0].shape == (1, 40, 8)
        with pytest.raises(ValueError, match="has 8 cells, got 40 tokens"):
            cube(x, mask)


def test_a_stream_reads_on_behind_a_gap() -> None:
    x, _ = sequence(5, 5)
    mask = torch.tensor([[True, True, False, True, True]])
    x = x * mask[..., None]
    made = block("stream")
    with torch.no_grad():
        found, longer = made(x, mask)[0], made(torch.cat([x, x]), torch.cat([mask, ~mask]))[0]
    # Beside a sequence that has something at every place, nothing of this one is different.
    torch.testing.assert_close(found[0], longer[0])
    assert found[0, 4].any()


def test_gradients_reach_the_first_token_of_a_stream() -> None:
    stream = StreamCube(8, shape=[2, 2, 2], hidden=8, heads=1, surface_channels=2)
    x, mask = sequence(12, 12)
    x.requires_grad_()
    stream(x, mask)[0][:, -1].sum().backward()
    assert x.grad is not None
    assert float(x.grad[0, 0].abs().max()) > 0


@pytest.mark.parametrize(
    ("blocks", "told"),
    [
        ([{"kind": "lstm"}], "kind of a block must be one of .*, got 'lstm'"),
        ([{"kind": "cct", "kernel": 2}], "kernel must be odd and positive, got 2"),
        ([{"kind": "cct", "stride": 4}], "stride=4 would leave tokens unheard: kernel=3 and pool=3 hear 2 tokens on"),
        ([{"kind": "cct", "size": 2}], "a block cct takes kernel, pool, stride; got size"),
        ([{"kind": "mamba", "version": 3}], "version must be 1 or 2, got 3"),
        ([{"kind": "transformer", "heads": 3}], "heads must divide the width 8, got 3"),
        ([{"kind": "cube", "shape": [5, 2, 2], "num_steps": 2}], "num_steps=2 cannot carry a signal over the 4 steps"),
        ("cct", "blocks must be a list of mappings"),
        ([{"kind": "transformer", "layers": 0}], "layers of a block transformer must be positive, got 0"),
        ([{"kind": "transformer", "max_length": -1}], "max_length of a block transformer must be positive, got -1"),
        ([{"kind": "perceptron", "hidden": -1}], "hidden of a block perceptron must be positive, got -1"),
        ([{"kind": "convolution", "hidden": 0}], "hidden of a block convolution must be positive, got 0"),
        ([{"kind": "mamba", "layers": 0}], "layers of a block mamba must be positive, got 0"),
        ([{"kind": "mamba", "state": -1}], "state of a block mamba must be positive, got -1"),
        ([{"kind": "cube", "num_steps": 0}], "num_steps of a block cube must be positive, got 0"),
        ([{"kind": "stream", "surface_channels": 9}], "surface_channels must be at most the width 8, got 9"),
    ],
)
def test_what_is_wrong_is_told(blocks: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        built_blocks(8, blocks)
