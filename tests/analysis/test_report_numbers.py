"""The report's numbers against independent computations."""

from __future__ import annotations

import functools
import json
import re

import numpy as np
import pytest
import torch
from reference import ReferenceCell, rms, trajectory
from reported import WORDS
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import StratifiedGroupKFold

from cellgraph.analysis.report.subject import evenly
from cellgraph.analysis.states import advance, new_network


def mrr(similarity: np.ndarray) -> float:
    own = np.diag(similarity)[:, None]
    return float((1 / (similarity >= own).sum(1)).mean())


def test_figures_of_the_embeddings(made):
    found, some = made.figures["embeddings"], evenly(60, 40)
    question, answer = made.embedded.question[some], made.embedded.answer[some]
    with torch.no_grad():
        adapters = made.model.answer_adapter.decode(made.model.question_adapter.encode(question))
        lattice = made.model(question).embedding
    for name, x in (("question", question), ("adapters", adapters), ("lattice", lattice)):
        similarity = cosine_similarity(x.double(), answer.double())
        others = similarity[~np.eye(40, dtype=bool)]
        values = np.linalg.eigvalsh(np.cov(x.double().numpy(), rowvar=False))
        wanted = {
            "own": np.diag(similarity).mean(),
            "other": others.mean(),
            "contrast": (np.diag(similarity).mean() - others.mean()) / others.std(ddof=1),
            "mrr": mrr(similarity),
            "dimensions": values.sum() ** 2 / (values**2).sum(),
        }
        assert found["cosines"][name] == pytest.approx(wanted, rel=1e-4), name
    assert found["adapters_to_lattice"] == pytest.approx(
        np.diag(cosine_similarity(adapters.double(), lattice.double())).mean(), abs=1e-5
    )
    everything = torch.cat([question, lattice, answer]).double().numpy()
    variance = np.linalg.svd(everything - everything.mean(0), compute_uv=False) ** 2
    assert found["pairs"] == 40
    assert found["answer_dimensions"] == pytest.approx(participation(answer.double().numpy()), rel=1e-4)
    assert found["pca_explained"] == pytest.approx((variance / variance.sum())[:2].tolist(), rel=1e-3)


def test_what_the_network_is(made):
    # Norm, into the gated block, its norm, weights and bias of the gate, out again.
    gmlp = sum([4 + 4, 16 * 4 + 16, 8 + 8, 7 * 2, 8, 4 * 8 + 4])
    assert made.figures["network"] == {
        "shape": [3, 3, 6],
        "neighbourhood": 6,
        "cells": 54,
        "edges": 2 * (2 * 18 + 3 * 2 * 6 + 3 * 3 * 5),
        "channels": 4,
        "surface_channels": 1,
        "path": "none",
        "cells_read": 18,
        "num_steps": 3,
        "remembers": False,
        "parameters": {"gmlp": gmlp, "transport": 7 * 4, "positions": 54 * 4, "adapters": 2 * (18 * 18 + 18)},
        "held_out_pairs": 60,
    }


def test_figures_of_the_cube(made):
    found = made.figures["cube"]
    states = trajectory(made.model, made.embedded.question, 3)
    active = rms(states[:, 30])
    assert (found["pair"], found["question"]) == (30, "What <b>is</b> thing 30?")
    assert found["activity"] == pytest.approx(active.mean(1).tolist(), rel=1e-4)
    assert found["largest_activity"] == pytest.approx(active.max(), rel=1e-4)
    assert found["layer_of_the_most_active_cell"] == (active.argmax(1) // 18).tolist()
    # What the slider shows, to the four digits of the page.
    views = {
        view["name"]: view for view in json.loads(re.search("const DATA = (.*);\n", made.page)[1])["cube"]["views"]
    }
    assert np.array(views["activity"]["frames"]) == pytest.approx(active, rel=1e-3, abs=1e-6)
    some = evenly(60, 32).numpy()
    assert found["compared"] == 32
    varying = rms(states[:, some].std(1, ddof=1))
    assert np.array(views["difference between questions"]["frames"]) == pytest.approx(varying, rel=1e-3, abs=1e-6)
    for name, chance in (("topic", 1 / 2), ("question type", 1 / 3)):
        assert views[f"probe for {name}"]["low"] == chance
        own = views[f"probe for {name}"]["frames"][0]
        assert np.mean(own) == pytest.approx(made.figures["specialisation"]["labels"][name]["cells_mean"], abs=1e-3)


def balanced_accuracies(x: np.ndarray, labels: np.ndarray, groups: list[str], width: int) -> np.ndarray:
    """Of scikit-learn's ridge regression to one-hot labels, for the labels and for two shuffles of them."""
    generator = torch.Generator().manual_seed(0)
    every = [labels, *(labels[torch.randperm(len(labels), generator=generator).numpy()] for _ in range(2))]
    targets = np.concatenate([np.eye(labels.max() + 1)[own] for own in every], axis=1)
    predicted = np.zeros((len(labels), 3), int)
    for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(x, labels, groups):
        spread = ((x[train] - x[train].mean(0)) ** 2).sum() / width
        scores = Ridge(max(0.1 * spread, 1e-12)).fit(x[train], targets[train]).predict(x[test])
        predicted[test] = scores.reshape(len(test), 3, -1).argmax(-1)
    return np.array([balanced_accuracy_score(own, predicted[:, k]) for k, own in enumerate(every)])


def participation(x: np.ndarray) -> float:
    values = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
    return values.sum() ** 2 / (values**2).sum()


def test_figures_of_the_specialisation(made):
    found = made.figures["specialisation"]
    assert found["questions"] == 60
    states = trajectory(made.model, made.embedded.question, 3)
    step_of = states.var(1).sum(-1).argmax(0)
    own_step = np.stack([states[step, :, node] for node, step in enumerate(step_of)])
    active = rms(own_step)
    words = {"topic": ["ab"[i % 2] for i in range(60)], "question type": [WORDS[i % 3].lower() for i in range(60)]}
    # In the order of their first pairs, as nothing but its topic joins a pair with others.
    topics = [pair.topic for pair in made.pairs]
    groups = [str(list(dict.fromkeys(topics)).index(topic)) for topic in topics]
    for name, own in words.items():
        label = found["labels"][name]
        assert sorted(label["classes"]) == sorted(set(own))
        assert label["questions"] == 60
        assert label["chance"] == pytest.approx(1 / len(set(own)))
        labels = np.array([label["classes"].index(word) for word in own])
        read = functools.partial(balanced_accuracies, labels=labels, groups=groups)
        assert label["embedding"] == pytest.approx(read(made.embedded.question.double().numpy(), width=18)[0])
        layers = np.stack([[read(layer.reshape(60, -1), width=60) for layer in np.split(x, 3, axis=1)] for x in states])
        # A question on the border of two classes may fall to either side in float32.
        assert np.array(label["layers"]) == pytest.approx(layers[..., 0], abs=0.04)
        best = label["best"]
        assert best["accuracy"] == label["layers"][best["step"]][best["layer"]] == np.max(label["layers"])
        assert label["control_mean"] == pytest.approx(layers[..., 1:].mean(), abs=0.01)
        assert label["control_largest"] == pytest.approx(layers[..., 1:].max(), abs=0.04)
        cells = np.stack([read(x, width=4) for x in own_step])
        assert label["cells_mean"] == pytest.approx(cells[:, 0].mean(), abs=0.005)
        assert label["cells_best"] == pytest.approx(cells[:, 0].max(), abs=0.04)
        assert label["cells_control_mean"] == pytest.approx(cells[:, 1:].mean(), abs=0.005)
        selectivity = cells[:, 0] - cells[:, 1:].mean(1)
        assert label["cells_selectivity"] == pytest.approx(spans(selectivity), abs=0.04)
        means = np.stack([active[:, labels == c].mean(1) for c in range(len(set(own)))])
        others = (means.sum(0) - means.max(0)) / (len(means) - 1)
        assert label["class_selectivity"] == pytest.approx(
            spans((means.max(0) - others) / (means.max(0) + others)), rel=1e-3
        )
    for step, layer in ((0, 0), (2, 1), (3, 2)):
        wanted = participation(np.split(states[step], 3, axis=1)[layer].reshape(60, -1))
        assert found["layer_dimensions"][step][layer] == pytest.approx(wanted, rel=1e-3)
    assert found["cell_dimensions"] == pytest.approx(spans(np.array([*map(participation, own_step)])), rel=1e-3)


def spans(values: np.ndarray) -> dict[str, float]:
    return {"mean": values.mean(), "least": values.min(), "most": values.max()}


def test_figures_of_the_ablation(made):
    found, model, cell = made.figures["ablation"], made.model, ReferenceCell(made.model.cell)
    assert (found["questions"], found["candidates"]) == (6, 60)
    asked = evenly(60, 6)
    answer, bank = (made.embedded.answer[rows].double().numpy() for rows in (asked, slice(None)))
    place = np.indices((3, 3, 6)).reshape(3, 54)
    regions = {f"layer {layer}": place[0] == layer for layer in range(3)}
    regions |= {f"block {h}, {w}": (place[1] == h) & (place[2] // 2 == w) for h in range(3) for w in range(3)}

    def scores(gone: np.ndarray) -> tuple[float, float]:
        x = np.where(gone[:, None], 0, trajectory(model, made.embedded.question[asked], 0)[0])
        for _ in range(3):
            x = np.where(gone[:, None], 0, cell(x))
        # Three steps for two hops, 2/3 of the state handed on at each: 3 ways of (2/3)^2 (1/3).
        surface = torch.tensor(x[:, 36:, 0] / (4 / 9), dtype=torch.float32)
        p = model.answer_adapter.decode(surface).detach().double().numpy()
        distance = 1 - np.diag(cosine_similarity(p - bank.mean(0), answer - bank.mean(0))).mean()
        similarity = cosine_similarity(p, bank)
        own = similarity[np.arange(6), asked.numpy()][:, None]
        return distance, float((1 / (similarity >= own).sum(1)).mean())

    whole = scores(np.zeros(54, bool))
    assert [(cost["kind"], cost["name"]) for cost in found["costs"]] == [("silent", name) for name in regions]
    for cost in found["costs"]:
        # All answers are equally near to what a silent output layer says, which is nothing.
        if cost["name"] != "layer 2":
            without = scores(regions[cost["name"]])
            assert cost["loss"] == pytest.approx(without[0] - whole[0], abs=1e-4)
            assert cost["mrr"] == pytest.approx(whole[1] - without[1], abs=1e-4)
        assert cost["num_cells"] == regions[cost["name"]].sum()
    layers = [c for c in found["costs"] if c["name"].startswith("layer")]
    assert found["most"] == max(layers, key=lambda c: c["loss"])
    assert found["least"] == min(layers, key=lambda c: c["loss"])


def test_figures_of_the_influence(made):
    found, model = made.figures["influence"], made.model
    shown = made.embedded.question[30:31]
    surface = model.question_adapter.encode(shown)[0].detach()

    def answer(surface: torch.Tensor) -> torch.Tensor:
        x = model.input_surface.inject(surface[None], num_channels=4)
        for _ in range(3):
            x = advance(model, x)
        return model.output_surface.extract(x)[0] / model.conveyor.gain(3)

    # One channel a surface cell: the blocks are single numbers.
    jacobian = torch.autograd.functional.jacobian(answer, surface).T.abs().double()
    positions = model.lattice.positions
    apart = (positions[model.input_surface.index][:, None] - positions[model.output_surface.index])[..., 1:].abs()
    reached = 2 + apart.sum(-1) <= 3
    assert found["pairs_in_reach"] == int(reached.sum())
    assert found["pairs"] == 18 * 18
    assert found["input_cells_looked_at"] == 18
    assert float(jacobian[~reached].max()) == 0
    assert found["influence_in_reach"] == pytest.approx(float(jacobian[reached].mean()), rel=1e-4)
    assert found["largest"] == pytest.approx(float(jacobian.max()), rel=1e-4)
    weight, square = jacobian.square(), apart.double().square().sum(-1)
    radius = ((weight * square).sum(0) / weight.sum(0)).sqrt().mean()
    assert found["receptive_radius"] == pytest.approx(float(radius), rel=1e-4)
    hears = reached.sum(0).double()
    assert found["inputs_heard_by_an_output"] == {
        "mean": pytest.approx(float(hears.mean())),
        "least": float(hears.min()),
        "most": float(hears.max()),
    }
    hops = [model.lattice.hops(torch.arange(54) == node) for node in made.study.influence.spread.sources]
    in_time = sum(int((far <= 3).sum()) for far in hops)
    assert found["cells_in_time"] == found["arrivals"] == found["arrivals_at_graph_distance"] == in_time
    assert found["arrivals_out_of_reach"] == 0
    assert found["cells_followed"] == 2
    assert (found["input_cells"], found["output_cells"]) == (18, 18)
    aside = apart.double().square().sum(-1).sqrt()
    within = found["receptive_field"]["within"]
    assert within == [0, 1]
    for column, values in (("share", weight), ("cells", reached.double())):
        wanted = [float(values[aside <= span].sum() / values.sum()) for span in within]
        assert found["receptive_field"][column] == pytest.approx(wanted, rel=1e-4)


def test_figures_of_the_directions(made):
    lattice = made.model.lattice
    x = torch.tensor(trajectory(made.model, made.embedded.question[30:31], 3)[:, 0], dtype=torch.float32)
    assert len(made.figures["influence"]["directions"]) == 3
    for step, row in enumerate(made.figures["influence"]["directions"]):
        jacobian = torch.autograd.functional.jacobian(lambda state: advance(made.model, state[None])[0], x[step])
        size = jacobian.square().sum((1, 3))
        own = float((size.diagonal().mean() / 4).sqrt())
        edges = [lattice.edge_index[:, lattice.edge_direction == k] for k in range(6)]
        wanted = [float((size[target, source].mean() / 4).sqrt()) for source, target in edges]
        # One random sign vector a cell: an estimate.
        assert row == pytest.approx([*wanted, own], rel=0.3)


def test_figures_of_the_training(made):
    found = made.figures["training"]
    # The log, column by column: first, last, smallest and largest value, each with its update.
    assert {name: [*course.values()] for name, course in found["curves"].items()} == {
        "seconds": [1.5, 3.0, 1.5, 10, 3.0, 20],
        "train/loss": [2.5, 1.25, 1.25, 20, 2.5, 10],
        "train/grad_norm": [3.25, 4.5, 3.25, 10, 4.5, 20],
        "train/lr": [0.001, 0.0005, 0.0005, 20, 0.001, 10],
        "train/temperature": [0.05, 0.04, 0.04, 20, 0.05, 10],
        "val/cosine": [0.625, 0.625, 0.625, 20, 0.625, 20],
    }
    assert [*found["curves"]["seconds"]] == ["first", "last", "least", "least_at", "most", "most_at"]
    cell, stencil = made.model.cell, found["stencil"]
    transport = cell.transport.detach().double().numpy().mean((1, 2))
    gate = cell.gate_weight.detach().double().numpy()[:, 0].T
    # A new network hears the cell before it: two hops in three steps.
    before = np.array([2 / 3, 0, 0, 0, 0, 0, -2 / 3])
    assert stencil["offsets"][0] == [-1, 0, 0]
    assert stencil["offsets"][-1] == [0, 0, 0]
    assert stencil["transport"] == pytest.approx(transport.tolist())
    assert stencil["transport_before"] == pytest.approx(before.tolist())
    assert np.array(stencil["gate"]) == pytest.approx(gate)
    assert stencil["largest_change"] == pytest.approx(np.abs(transport - before).max())
    assert stencil["largest_gate"] == pytest.approx(np.abs(gate).max())


def test_a_new_network_keeps_the_adapters_alone(made):
    fresh = new_network(made.model)
    assert torch.equal(fresh.question_adapter.encoder.weight, made.model.question_adapter.encoder.weight)
    assert float(fresh.cell.out_weight.abs().max()) == 0
    question = made.embedded.question[:2]
    with torch.no_grad():
        plain = fresh.answer_adapter.decode(fresh.question_adapter.encode(question))
        torch.testing.assert_close(fresh(question).embedding, plain, atol=1e-5, rtol=1e-4)
