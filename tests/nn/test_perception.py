"""Perceptions against scipy's filters, closed forms and an attention written out."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.ndimage
import torch

from cellgraph import Graph, Lattice
from cellgraph.nn import AttentionPerception, FilterPerception, NCACell, PooledPerception, StencilPerception
from cellgraph.nn.transported import Transported
from cellgraph.ops import NeighbourSum

MOORE = {1: 2, 2: 8, 3: 26}


def perceive(perception, lattice, x):
    return perception.double()(x, NeighbourSum(lattice))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_gradient_of_all_neighbours_is_scipy_s_sobel(dim):
    shape = (5, 6, 7)[:dim]
    lattice = Lattice(shape, MOORE[dim])
    x = torch.randn(1, lattice.num_nodes, 1, dtype=torch.float64)
    seen = perceive(FilterPerception(lattice, 1, filters=["gradient"]), lattice, x)
    assert torch.equal(seen[..., :1], x)
    for axis in range(dim):
        # Scipy's kernel [-1, 0, 1] x [1, 2, 1] x ... is not divided by its sum over a linear state.
        sobel = scipy.ndimage.sobel(x[0, :, 0].reshape(shape).numpy(), axis=axis, mode="constant") / (
            2 * 4 ** (dim - 1)
        )
        np.testing.assert_allclose(seen[0, :, 1 + axis].reshape(shape).numpy(), sobel, atol=1e-6)


@pytest.mark.parametrize(("dim", "count"), [(1, 2), (2, 4), (2, 8), (3, 6), (3, 18), (3, 26)])
def test_filters_are_exact_on_linear_and_quadratic_states(dim, count):
    lattice = Lattice((5, 5, 5)[:dim], count)
    inner = (lattice.positions - 2).abs().max(1).values < 2
    slope, bend = torch.randn(dim, dtype=torch.float64), torch.randn(dim, dtype=torch.float64)
    place = lattice.positions.double()
    state = torch.stack([place @ slope, 0.5 * place.square() @ bend], dim=-1)[None]
    seen = perceive(FilterPerception(lattice, 2), lattice, state)[0, inner]
    linear, quadratic = seen[:, 2::2], seen[:, 3::2]  # by filter, then by channel
    torch.testing.assert_close(linear[:, :dim], slope.expand(len(seen), dim), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(linear[:, dim], torch.zeros(len(seen), dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(quadratic[:, dim], bend.sum().expand(len(seen)), atol=1e-5, rtol=1e-6)


def test_five_point_laplacian_is_scipy_s():
    lattice = Lattice((6, 5), 4, boundary="periodic")
    x = torch.randn(1, 30, 1, dtype=torch.float64)
    seen = perceive(FilterPerception(lattice, 1, filters=["laplacian"]), lattice, x)[0, :, 1]
    np.testing.assert_allclose(
        seen.reshape(6, 5).numpy(), scipy.ndimage.laplace(x.reshape(6, 5).numpy(), mode="wrap"), atol=1e-6
    )


def test_a_learned_stencil_is_a_convolution_and_starts_at_unit_variance():
    lattice = Lattice((40, 40), [(-4, 0), (4, 0), (0, -1), (2, 3)], boundary="periodic")
    perception = StencilPerception(lattice, 4, num_filters=8)
    x = torch.randn(2, 1600, 4, dtype=torch.float64)
    seen = perceive(perception, lattice, x)
    assert float(seen[..., 4:].var()) == pytest.approx(1, abs=0.35)
    assert perception.weight.requires_grad
    grid = x[1, :, 3].reshape(40, 40).numpy()
    kernel = np.zeros((9, 9))
    for weight, (a, b) in zip(perception.weight[:, 0, 5 * 4 + 3].tolist(), [*lattice.offsets, (0, 0)], strict=True):
        kernel[4 + a, 4 + b] = weight
    expected = scipy.ndimage.correlate(grid, kernel, mode="wrap")
    np.testing.assert_allclose(seen[1, :, 4 + 5 * 4 + 3].detach().reshape(40, 40).numpy(), expected, atol=1e-9)


def test_maxima_are_of_all_cells_beside_a_learned_stencil():
    lattice = Lattice((6, 5), 4)
    perception = PooledPerception(lattice, 3, pooled=2)
    x = torch.randn(4, 30, 3, dtype=torch.float64)
    seen = perceive(perception, lattice, x)
    assert seen.shape == (4, 30, perception.out_channels)
    alone = StencilPerception(lattice, 3, num_filters=1)
    alone.load_state_dict(perception.state_dict())
    torch.testing.assert_close(seen[..., :6], perceive(alone, lattice, x))
    expected = x.numpy()[:, :, :2].max(axis=1)
    for node in range(30):
        np.testing.assert_array_equal(seen[:, node, 6:].detach().numpy(), expected)


def test_a_cell_that_pools_hears_the_farthest_in_one_step():
    def heard(perception):
        cell = NCACell(Lattice((40,)), 4, perception=perception, update={"name": "mlp", "zero_init": False})
        x = torch.rand(1, 40, 4)
        other = x.clone()
        other[0, 39] += 1
        assert Transported(cell).hears_all == cell.hears_all
        return cell.hears_all, not torch.equal(cell(x)[0, :38], cell(other)[0, :38])

    assert heard("stencil") == (False, False)
    assert heard({"name": "pooled", "pooled": 2}) == (True, True)


def test_attention_is_softmax_over_each_neighbourhood():
    lattice = Lattice((3, 4), 8, mask=torch.rand(3, 4) > 0.2)
    perception = AttentionPerception(lattice, 3, heads=2, width=4).double()
    torch.nn.init.normal_(perception.bias)
    x = torch.randn(2, lattice.num_nodes, 3, dtype=torch.float64)
    seen = perceive(perception, lattice, x)
    query, key, value = (part.unflatten(-1, (2, 2)) for part in perception.query_key_value(x).chunk(3, dim=-1))
    into = list(zip(*lattice.edge_index.tolist(), lattice.edge_direction.tolist(), strict=True))
    for node in range(lattice.num_nodes):
        around = [(s, k) for s, t, k in into if t == node] + [(node, lattice.num_directions)]
        heads = []
        for head in range(2):
            alike = [
                (query[:, node, head] * key[:, s, head]).sum(-1) / math.sqrt(2) + perception.bias[k, head]
                for s, k in around
            ]
            share = torch.stack(alike, dim=-1).softmax(-1)
            heads.append(sum(share[:, n, None] * value[:, s, head] for n, (s, _) in enumerate(around)))
        torch.testing.assert_close(seen[:, node, 3:], perception.out(torch.cat(heads, dim=-1)))
    assert torch.equal(seen[..., :3], x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FilterPerception(Lattice((5,)), 1, filters=["curl"]), r"got \['curl'\]"),
        (lambda: FilterPerception(Lattice((5,), [(-2,), (2,)]), 1), "radius one"),
        (lambda: FilterPerception(Lattice((5, 5), [(0, -1), (0, 1)]), 1), "both sides of each axis"),
        (lambda: FilterPerception(Lattice((5, 5), [(0, 1), (1, 0)]), 1), "both sides of each axis"),
        (lambda: FilterPerception(Lattice((5, 5), [(0, -1), (0, 1), (-1, 1), (1, -1)]), 1), "alike along all axes"),
        (lambda: StencilPerception(Lattice((5,)), 1, num_filters=0), "num_filters must be positive, got 0"),
        (lambda: StencilPerception(Lattice((5,)), 1, weight=torch.zeros(2, 2)), r"\[3, 2\], got \[2, 2\]"),
        (lambda: PooledPerception(Lattice((5,)), 4, pooled=5), "pooled must be 1 to 4, the number of channels, got 5"),
        (lambda: AttentionPerception(Lattice((5,)), 1, heads=3, width=4), "divide the width, got 3 and 4"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_attention_carries_what_the_weight_of_an_edge_lets_through():
    edges, weight = torch.tensor([[0, 1, 2, 0], [1, 2, 0, 2]]), torch.tensor([0.0, 0.5, 2.0, -1.0])
    graph = Graph(edges, 3, edge_weight=weight)
    perceive = AttentionPerception(graph, 4, heads=2, width=6)
    x = torch.randn(5, 3, 4)
    found = perceive(x, NeighbourSum(graph))[..., 4:]
    # Densely, by hand: the centre has the weight one and a bias of its own.
    query, key, value = perceive.query_key_value(x).unflatten(-1, (3, 2, -1)).unbind(2)
    factor, hears = torch.eye(3), torch.eye(3, dtype=torch.bool)
    factor[edges[1], edges[0]], hears[edges[1], edges[0]] = weight, True
    alike = torch.einsum("bihd,bjhd->bhij", query, key) / math.sqrt(3)
    share = alike.masked_fill(~hears, -math.inf).softmax(-1) * factor
    wanted = perceive.out(torch.einsum("bhij,bjhd->bihd", share, value).flatten(2))
    torch.testing.assert_close(found, wanted)


def test_a_stencil_given_by_its_weights_is_described_in_plain_types():
    weight = torch.randn(5, 1)
    cell = NCACell(Lattice((3, 4)), 2, perception={"name": "stencil", "num_filters": 1, "weight": weight})
    again = NCACell(Lattice((3, 4)), **json.loads(json.dumps(cell.config())))
    assert torch.equal(again.perception.weight, cell.perception.weight)
    with pytest.raises(ValueError, match="perception must be a name or a mapping with one, got None"):
        NCACell(Lattice((3, 4)), 2, perception=None)
