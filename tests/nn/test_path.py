"""The linear path and the readout: scales, starts, and what they are in closed form."""

from __future__ import annotations

import copy

import pytest
import torch
from sklearn.linear_model import Ridge

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.cone import LightCone
from cellgraph.nn import LinearPath, Readout
from cellgraph.retrieval.controls import Control
from cellgraph.retrieval.twins import alone, with_perceptron
from cellgraph.testing import assert_identity_at_init, randomise

LATTICE = Lattice((3, 4, 4), 26)


@pytest.fixture
def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    """Questions and answers of other means and scales, linearly related but for noise."""
    generator = torch.Generator().manual_seed(0)
    question = 0.05 * torch.randn(60, 10, generator=generator) + 0.3
    answer = 4 * question @ torch.randn(10, 10, generator=generator) + torch.randn(60, 10, generator=generator) - 2
    return question, answer


def network(**options: object) -> CellGraph:
    cell = GMLPCell(LATTICE, 16, hidden=16, heads=2)
    return CellGraph(cell, in_features=10, num_steps=3, surface_channels=2, **{"path": "linear", **options})


def test_embeddings_have_unit_variance_and_come_back(pairs) -> None:
    path = LinearPath(10)
    path.fit(*pairs)
    for scaled in (path.question(pairs[0]), path.answer(pairs[1])):
        torch.testing.assert_close(scaled.mean(0), torch.zeros(10), atol=1e-5, rtol=0)
        assert float(scaled.square().mean()) == pytest.approx(1.0)
    z, y = path.question(pairs[0]), path.answer(pairs[1])
    torch.testing.assert_close(path.embedding(z, y), pairs[1])


def test_a_new_network_moves_the_question_to_the_mean_of_the_answers(pairs) -> None:
    model = network().eval()
    model.fit_adapters(*pairs)
    question, answer = pairs
    wanted = question - question.mean(0) + answer.mean(0)
    torch.testing.assert_close(model(question).embedding, wanted, rtol=1e-4, atol=1e-5)
    assert_identity_at_init(model)


def test_started_by_ridge_it_is_ridge_regression(pairs) -> None:
    model = network().eval()
    model.fit_adapters(*pairs, start="ridge")
    question, answer = (part.double() for part in pairs)
    found = model(pairs[0]).embedding.detach().double()
    # The penalty is one of a grid, in units of the scaled questions.
    scale = float((question - question.mean(0)).square().mean())
    alphas = torch.logspace(-3, 5, 17).tolist()
    wanted = [torch.tensor(Ridge(alpha * scale).fit(question, answer).predict(question)) for alpha in alphas]
    assert min(float((found - one).abs().max()) for one in wanted) < 1e-3 * float(answer.abs().max())


def test_the_readout_is_a_scaled_linear_map_of_the_first_channels() -> None:
    mask = torch.tensor([True, False, True])
    readout = Readout(mask, 4, 5)
    cells = torch.randn(2, 2, 6)
    assert not readout(cells).any()
    torch.nn.init.normal_(readout.weight)
    wanted = torch.einsum("bnc,onc->bo", cells[..., :4], readout.weight.unflatten(1, (2, 4))) / 8**0.5
    torch.testing.assert_close(readout(cells), wanted)


@pytest.mark.parametrize("readout", ["surface", "all", ["back", "top"]])
@pytest.mark.parametrize("memory", [0, 2])
def test_the_answer_is_the_path_and_what_is_read_off_the_cells(pairs, readout, memory: int) -> None:
    cell = GMLPCell(LATTICE, 16, hidden=16, heads=2, memory_channels=memory)
    model = CellGraph(cell, in_features=10, path="linear", readout=readout, num_steps=3, surface_channels=2).eval()
    model.fit_adapters(*pairs)
    randomise(model)
    question = pairs[0][:3]
    out = model(question, states=True)
    mask = {"surface": LATTICE.face("back"), "all": torch.ones(48, dtype=torch.bool)}
    read = mask.get(str(readout), LATTICE.face("back") | LATTICE.face("top"))
    z = (question - model.path.question_mean) / model.path.question_scale
    cells = out.states[:, read, : 16 - memory].flatten(1)
    y = z @ model.path.linear.weight.T + model.path.linear.bias + cells @ model.readout.weight.T / cells.size(1) ** 0.5
    torch.testing.assert_close(out.query, y, rtol=1e-4, atol=1e-4)
    calibration = model.path.calibration
    scaled = torch.cat([z, y], dim=1) @ calibration.weight.T + calibration.bias
    wanted = model.path.answer_mean + model.path.answer_scale * scaled
    torch.testing.assert_close(out.embedding, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(out.surface, model.answer_adapter.encode(y), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("key", ["linear", "none"])
def test_answers_have_keys_at_unit_variance(pairs, key: str) -> None:
    model = network(key=key).eval()
    model.fit_adapters(*pairs)
    scaled = (pairs[1] - pairs[1].mean(0)) / (pairs[1] - pairs[1].mean(0)).square().mean().sqrt()
    torch.testing.assert_close(model.key(pairs[1]), scaled, rtol=1e-4, atol=1e-5)
    randomise(model)
    turned = scaled if key == "none" else scaled @ model.path.keys.weight.T
    torch.testing.assert_close(model.key(pairs[1]), turned, rtol=1e-4, atol=1e-4)
    bare = network(key=key, path="none")
    assert torch.equal(bare.key(pairs[1]), pairs[1])
    assert torch.equal(bare(pairs[0]).query, bare(pairs[0]).embedding)


def test_the_embedding_is_calibrated_by_ridge_regression(pairs) -> None:
    model = network().eval()
    model.fit_adapters(*pairs)
    randomise(model)
    with torch.no_grad():
        query = model(pairs[0]).query
        z, scaled = model.path.question(pairs[0]), model.path.answer(pairs[1])
        model.path.calibrate(z, query, pairs[1])
        found = model(pairs[0]).embedding
    both = torch.cat([z, query], dim=1).double().numpy()
    alphas = torch.logspace(-3, 5, 17).tolist()
    wanted = [torch.tensor(Ridge(alpha).fit(both, scaled.double()).predict(both)) for alpha in alphas]
    found = model.path.answer(found).double()
    assert min(float((found - one).abs().max()) for one in wanted) < 1e-3 * float(scaled.abs().max())
    # As any ridge regression with a penalty found by leaving one out, it is nearer than the mean answer.
    assert float((found - scaled).square().mean()) < float(scaled.square().mean())


def test_as_many_channels_are_read_as_asked_for(pairs) -> None:
    model = network(readout_channels=3).eval()
    assert model.readout.weight.shape == (10, 16 * 3)
    assert CellGraph.from_config(model.config()).readout.weight.shape == (10, 16 * 3)
    for wrong in (0, 17):
        with pytest.raises(ValueError, match=f"readout_channels must be between 1 and the 16 .* got {wrong}"):
            network(readout_channels=wrong)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValueError, match=r"key must be one of \('linear', 'none'\), got 'mlp'"):
        network(key="mlp")


def test_the_light_cone_of_a_read_face_gives_the_same_answer_and_gradients(pairs) -> None:
    lattice = Lattice((5, 4, 4))
    model = CellGraph(GMLPCell(lattice, 8, hidden=8), in_features=10, path="linear", num_steps=4).double()
    model.fit_adapters(*(part.double() for part in pairs))
    randomise(model)
    assert isinstance(model.cone(4), LightCone)
    results = []
    for states in (False, True):
        model.zero_grad()
        embedding = model(pairs[0][:4].double(), states=states).embedding
        embedding.square().sum().backward()
        results.append([embedding.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    assert len(results[0]) == len(results[1])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_it_is_saved_and_read_back(pairs, tmp_path) -> None:
    model = network(readout=LATTICE.face("back") | LATTICE.face("left")).eval()
    model.fit_adapters(*pairs)
    randomise(model)
    model.save_pretrained(tmp_path)
    again = CellGraph.from_pretrained(tmp_path)
    assert torch.equal(again(pairs[0]).embedding, model(pairs[0]).embedding)
    assert again.config() == model.config()


def test_the_controls_have_the_path_and_a_perceptron_of_as_many_parameters(pairs, tmp_path) -> None:
    model = network().eval()
    model.fit_adapters(*pairs)
    bare, perceptron = alone(model), with_perceptron(model)
    assert bare.path is model.path
    bare = copy.deepcopy(bare)
    for control in (bare, perceptron):
        torch.testing.assert_close(control(pairs[0]).embedding, model(pairs[0]).embedding)
        torch.testing.assert_close(control(pairs[0]).surface, model(pairs[0]).surface)
        randomise(control)
        control.save_pretrained(tmp_path)
        again = Control.from_pretrained(tmp_path)
        assert type(again) is type(control)
        assert torch.equal(again(pairs[0]).embedding, control(pairs[0]).embedding)
    wanted, found = (sum(part.parameter_counts().values()) for part in (model, perceptron))
    assert abs(wanted - found) <= 11


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"path must be one of .*'linear'.*got 'curved'"):
        CellGraph(GMLPCell(LATTICE, 8, hidden=8), in_features=4, path="curved")
    with pytest.raises(ValueError, match="inside"):
        network(readout="inside")


def test_a_network_or_embeddings_that_have_left_the_cpu_are_refused_by_name(pairs) -> None:
    question, answer = pairs
    for path in ("linear", "none"):
        with pytest.raises(ValueError, match="fitted on the CPU, before the network moves: expected cpu, got meta"):
            network(path=path).to("meta").fit_adapters(question, answer)
        with pytest.raises(ValueError, match="expected cpu, got meta"):
            network(path=path).fit_adapters(question, answer.to("meta"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_cells_may_be_of_another_dtype_than_their_ends(dtype: torch.dtype) -> None:
    model = CellGraph(GMLPCell(LATTICE, 8, hidden=8), in_features=6, surface_channels=1, num_steps=3)
    randomise(model, std=0.2)
    question = torch.randn(4, 6)
    wanted = model(question).embedding
    model.cell.to(dtype)
    torch.testing.assert_close(model(question).embedding, wanted, rtol=0.05, atol=0.05)
