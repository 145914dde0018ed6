"""The report's numbers against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reported import Made, make
from sklearn.metrics.pairwise import cosine_similarity

from cellgraph.analysis.report.patterns import ALL_BUT_TRANSPORT, EVERYTHING, claims
from cellgraph.analysis.report.subject import evenly
from cellgraph.analysis.states import advance, initial_state, new_network, walk


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("report"))


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
    assert found["pca_explained"] == pytest.approx((variance / variance.sum())[:2].tolist(), rel=1e-3)


def test_figures_of_the_specialisation(made):
    found = made.figures["specialisation"]
    assert found["questions"] == 60
    assert sorted(found["labels"]["topic"]["classes"]) == ["a", "b"]
    assert sorted(found["labels"]["question type"]["classes"]) == ["how", "what", "why"]
    for name, chance in (("topic", 1 / 2), ("question type", 1 / 3)):
        label = found["labels"][name]
        layers = np.array(label["layers"])
        assert label["chance"] == pytest.approx(chance)
        assert label["questions"] == 60
        assert label["best"]["accuracy"] == layers.max() == layers[label["best"]["step"], label["best"]["layer"]]
        # What is asked stands in the embeddings, and ahead of the front there is nothing.
        assert label["embedding"] > 0.95
        assert layers[0, 1:].tolist() == pytest.approx([chance] * 2, abs=0.05)
        assert label["control_mean"] == pytest.approx(chance, abs=0.15)
        probe = made.study.specialisation.found.cells[name]
        assert label["cells_selectivity"]["mean"] == pytest.approx(label["cells_mean"] - label["cells_control_mean"])
        assert label["cells_best"] == pytest.approx(float(probe.accuracy.max()))
    states = torch.stack(list(walk(made.model, made.embedded.question)))
    for step, layer in ((0, 0), (2, 1), (3, 2)):
        flat = states[step][:, made.model.lattice.layer == layer].flatten(1).double().numpy()
        values = np.linalg.svd(flat - flat.mean(0), compute_uv=False) ** 2
        wanted = values.sum() ** 2 / (values**2).sum()
        assert found["layer_dimensions"][step][layer] == pytest.approx(wanted, rel=1e-3)


def test_figures_of_the_ablation(made):
    found = made.figures["ablation"]
    assert (found["questions"], found["candidates"]) == (6, 60)
    asked = evenly(60, 6)
    question, answer = made.embedded.question[asked], made.embedded.answer[asked].double().numpy()
    bank = made.embedded.answer.double().numpy()

    def scores(prediction: torch.Tensor) -> tuple[float, float]:
        p = prediction.double().numpy()
        distance = 1 - np.diag(cosine_similarity(p - bank.mean(0), answer - bank.mean(0))).mean()
        similarity = cosine_similarity(p, bank)
        own = similarity[np.arange(6), asked.numpy()][:, None]
        return distance, float((1 / (similarity >= own).sum(1)).mean())

    @torch.no_grad()
    def without_layer(layer: int) -> torch.Tensor:
        gone = made.model.lattice.layer == layer
        x = initial_state(made.model, question)
        x[:, gone] = 0
        for _ in range(3):
            x = advance(made.model, x)
            x[:, gone] = 0
        surface = made.model.output_surface.extract(x) / made.model.conveyor.gain(3)
        return made.model.answer_adapter.decode(surface)

    with torch.no_grad():
        whole = scores(made.model(question).embedding)
    silent = {cost["name"]: cost for cost in found["costs"] if cost["kind"] == "silent"}
    assert len(found["costs"]) == 2 * (3 + 9)
    for layer in range(2):
        wanted = scores(without_layer(layer))
        assert silent[f"layer {layer}"]["loss"] == pytest.approx(wanted[0] - whole[0], abs=1e-4)
        assert silent[f"layer {layer}"]["mrr"] == pytest.approx(whole[1] - wanted[1], abs=1e-4)


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
    assert np.shape(found["directions"]) == (3, 7)


def test_figures_of_the_patterns(made):
    found = made.figures["patterns"]
    states = torch.stack([x[0] for x in walk(made.model, made.embedded.question[30:31], num_steps=19)]).double()
    for step in (0, 2, 18):
        change = float((states[step + 1] - states[step]).norm() / states[step].norm())
        assert found["relative_change"]["trained"][step] == pytest.approx(change, rel=1e-3, abs=1e-6)
    curves = states[:4].square().mean(-1).sqrt()
    changes = np.abs(np.diff(curves.numpy(), axis=0)).argmax(0)
    layer = made.model.lattice.layer.numpy()
    assert found["wave"]["correlation"] == pytest.approx(np.corrcoef(changes, layer)[0, 1], abs=1e-6)
    assert found["observed"]["wave"] == found["wave"]["correlation"]
    assert found["wave"]["cells_per_step"] == pytest.approx(np.polyfit(changes, layer, 1)[0], abs=1e-6)
    assert sum(found["clusters"]["cells"]) == 54
    for kind, rows in found["against"].items():
        comparison = made.study.patterns.comparisons[kind]
        for name, row in rows.items():
            null = comparison.null[name].numpy()
            assert len(null) == found["shuffles"] == 9
            as_much = sum(not value < found["observed"][name] for value in null)
            assert row["p"] == pytest.approx((1 + as_much) / 10)
            assert row["mean"] == pytest.approx(null[np.isfinite(null)].mean())
            assert row["std"] == pytest.approx(null[np.isfinite(null)].std(ddof=1))
        # Benjamini and Hochberg: each p times their number over its rank, no larger than that of the next.
        p = np.array([row["p"] for row in rows.values()])
        q, least = np.empty(5), 1.0
        for rank, index in sorted(enumerate(np.argsort(p), start=1), reverse=True):
            least = q[index] = min(least, p[index] * 5 / rank)
        assert [row["q"] for row in rows.values()] == pytest.approx(q.tolist())


def test_figures_of_the_training(made):
    found = made.figures
    assert found["training"]["curves"]["train/loss"] == {
        "first": 2.5, "last": 1.25, "least": 1.25, "least_at": 20, "most": 2.5, "most_at": 10,
    }  # fmt: skip
    assert found["training"]["curves"]["train/grad_norm"]["most"] == 4.5
    cell, stencil = made.model.cell, found["training"]["stencil"]
    assert stencil["transport"] == pytest.approx(cell.transport.detach().mean((1, 2)).tolist())
    assert np.array(stencil["gate"]) == pytest.approx(cell.gate_weight[:, 0].T.detach().numpy())
    assert found["network"]["cells"] == 54
    assert found["network"]["edges"] == 2 * (2 * 18 + 3 * 2 * 6 + 3 * 3 * 5)


def test_a_new_network_keeps_the_adapters_alone(made):
    fresh = new_network(made.model)
    assert torch.equal(fresh.question_adapter.encoder.weight, made.model.question_adapter.encoder.weight)
    assert float(fresh.cell.out_weight.abs().max()) == 0
    question = made.embedded.question[:2]
    with torch.no_grad():
        plain = fresh.answer_adapter.decode(fresh.question_adapter.encode(question))
        torch.testing.assert_close(fresh(question).embedding, plain, atol=1e-5, rtol=1e-4)


def test_claims_need_all_three_controls(made):
    def claim(all_shuffled: float, kept: float, new: float) -> str:
        q = {EVERYTHING: all_shuffled, ALL_BUT_TRANSPORT: kept}
        comparisons = {
            kind: type(old)(dict.fromkeys(old.observed, 1.0), old.null, old.p, dict.fromkeys(old.q, q[kind]))
            for kind, old in made.study.patterns.comparisons.items()
        }
        return claims(comparisons, dict.fromkeys(made.study.patterns.new, new))["wave"].split(":")[0]

    assert claim(0.01, 0.01, 0.5) == "learned"
    assert claim(0.01, 0.01, 1.0) == "built in"
    assert claim(0.01, 0.60, 0.5) == "made by the transport"
    assert claim(0.60, 0.01, 0.5) == "no claim"
    found = made.figures["patterns"]
    for name, words in found["claims"].items():
        beyond = [found["against"][kind][name]["q"] <= 0.05 for kind in (EVERYTHING, ALL_BUT_TRANSPORT)]
        more = found["observed"][name] > found["new"][name]
        assert words.startswith("learned") == (all(beyond) and more)
