from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.analysis.ablation import ablated, ablation_costs, block_regions, layer_regions

CELL = {"sharing": "shared", "fire_rate": 1.0, "step_size": 1.0, "always_random": False}


def network(**options) -> CellGraph:
    cell_options = {name: options.pop(name, value) for name, value in CELL.items()}
    cell = GMLPCell(Lattice((3, 3, 3)), channels=4, hidden=8, heads=2, **cell_options)
    model = CellGraph(cell, in_features=12, num_steps=4, **{"surface_channels": 1, "path": "none", **options}).eval()
    with torch.no_grad():
        for weight in cell.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


QUESTION = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["silent", "passive"])
@pytest.mark.parametrize("options", [{}, {"injection": "clamped"}, {"sharing": "layer"}])
def test_nothing_taken_out_is_the_network(kind, options):
    model = network(**options)
    nowhere = torch.zeros(27, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(ablated(model, QUESTION, nowhere, kind).embedding, model(QUESTION).embedding)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"injection": "clamped"},
        {"sharing": "layer"},
        {"sharing": "cell"},
        {"fire_rate": 0.5},
        {"step_size": 0.5},
        {"fire_rate": 0.8, "step_size": 0.25},
    ],
)
def test_a_passive_lattice_is_one_without_the_gated_update(options):
    model = network(**options)
    linear = copy.deepcopy(model)
    torch.nn.init.zeros_(linear.cell.out_weight)
    torch.nn.init.zeros_(linear.cell.out_bias)
    everywhere = torch.ones(27, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(
            ablated(model, QUESTION, everywhere, "passive").embedding, linear(QUESTION).embedding
        )


def test_a_network_and_the_same_without_a_part_draw_alike():
    model = network(fire_rate=0.5, always_random=True)
    nowhere, everywhere = torch.zeros(27, dtype=torch.bool), torch.ones(27, dtype=torch.bool)
    whole = ablated(model, QUESTION, nowhere, "passive").embedding
    assert torch.equal(ablated(model, QUESTION, nowhere, "passive").embedding, whole)
    assert not torch.equal(ablated(model, QUESTION, everywhere, "passive").embedding, whole)
    assert not torch.allclose(network(fire_rate=0.5)(QUESTION).embedding, whole)
    # Where the update adds nothing it is worth nothing: who transports is drawn alike.
    torch.nn.init.zeros_(model.cell.out_weight)
    torch.nn.init.zeros_(model.cell.out_bias)
    whole, without = (ablated(model, QUESTION, region, "passive").embedding for region in (nowhere, everywhere))
    torch.testing.assert_close(without, whole)


def test_nothing_passes_a_silent_layer():
    model = network()
    silent = ablated(model, QUESTION, layer_regions(model.lattice)["layer 1"]).embedding
    torch.testing.assert_close(silent, silent[:1].expand_as(silent))
    # A silent block leaves the ways around it.
    around = ablated(model, QUESTION, block_regions(model.lattice)["block 1, 1"]).embedding
    assert float((around - around[:1]).abs().amax(1)[1:].min()) > 1e-3


def test_a_clamped_question_is_there_again_after_a_silent_step():
    model = network(injection="clamped")
    assert model.input_surface.mask.nonzero().flatten().tolist() == list(range(9))
    front = layer_regions(model.lattice)["layer 0"]
    with torch.no_grad():
        x = model.input_surface.inject(model.encode(QUESTION), num_channels=4)
        question = x[:, :9, 0].clone()
        for step in (1, 2, 3, 4):
            x = model.cell(x).clone()
            x[:, :9, 0] = question
            if step == 2:
                x[:, :9] = 0
        wanted = model.decode(x[:, model.read_index], QUESTION, num_steps=4)[0]
    found = ablated(model, QUESTION, front, steps=(2,)).embedding
    torch.testing.assert_close(found, wanted)
    # Silent at all steps, it never enters.
    gone = ablated(model, QUESTION, front).embedding
    torch.testing.assert_close(gone, gone[:1].expand_as(gone))


def test_costs_are_differences_of_the_scores():
    model = network()
    answer, others = torch.randn(5, 12), torch.randn(3, 12)
    bank = torch.cat([answer, others])
    regions = layer_regions(model.lattice)
    costs = ablation_costs(model, QUESTION, answer, regions, candidates=bank)
    assert [(cost.kind, cost.name) for cost in costs] == [(k, n) for k in ("silent", "passive") for n in regions]
    assert [cost.num_cells for cost in costs] == [9] * 6

    def scores(prediction: torch.Tensor) -> tuple[float, float]:
        p, a, b = (x.double().numpy() for x in (prediction, answer, bank))
        mean = b.mean(0)
        cos = np.sum((p - mean) * (a - mean), 1) / np.linalg.norm(p - mean, axis=1) / np.linalg.norm(a - mean, axis=1)
        similarity = p @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
        own = similarity[np.arange(5), np.arange(5)][:, None]
        # A silent output layer answers with zeros, to which all answers are equally near.
        rank = (similarity > own + 1e-6).sum(1) + (np.abs(similarity - own) <= 1e-6).sum(1) / 2 + 0.5
        return 1 - cos.mean(), (1 / rank).mean()

    with torch.no_grad():
        whole = scores(model(QUESTION).embedding)
    for cost in costs:
        without = scores(ablated(model, QUESTION, regions[cost.name], cost.kind).embedding)
        assert cost.loss == pytest.approx(without[0] - whole[0], abs=1e-5)
        assert cost.mrr == pytest.approx(whole[1] - without[1], abs=1e-5)


def test_regions_part_the_lattice():
    for lattice, count in ((Lattice((2, 5, 7)), 9), (Lattice((4, 6), 8), 3)):
        for regions in (layer_regions(lattice), block_regions(lattice)):
            assert torch.equal(torch.stack([*regions.values()]).sum(0), torch.ones(lattice.num_nodes, dtype=torch.long))
        assert len(block_regions(lattice)) == count
    with pytest.raises(ValueError, match="into 3 parts"):
        block_regions(Lattice((4, 2, 8)))


def test_bad_input_is_named():
    model = network()
    with pytest.raises(ValueError, match="kind must be one of"):
        ablated(model, QUESTION, torch.ones(27, dtype=torch.bool), "dead")
    with pytest.raises(ValueError, match=r"boolean mask \[27\]"):
        ablated(model, QUESTION, torch.ones(3, dtype=torch.bool))
