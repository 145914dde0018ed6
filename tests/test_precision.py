"""Dtypes: networks, pairs and defaults of any precision, together and saved."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from on_pairs import plain_objective, plain_settings, train_pairs
from reported import TINY, network, some_pairs

from cellgraph import CellGraph, GMLPCell, Lattice, NCACell
from cellgraph.analysis.embeddings import cosine_matrix
from cellgraph.analysis.report import study
from cellgraph.analysis.states import new_network
from cellgraph.automata import AutomatonSettings, SamplePool, train_automaton
from cellgraph.automata.tasks import Growing, Life, Passage
from cellgraph.integrations.estimator import CellGraphRegressor
from cellgraph.integrations.export import export_onnx, export_torch
from cellgraph.nn import AutoencoderAdapter, LinearAdapter, PCAAdapter
from cellgraph.retrieval import EmbeddedPairs, cosine, csls, ranks
from cellgraph.teacher import EmbeddingCache, LSATeacher

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]

#: Half a unit in the last place of one.
EPS = {torch.float64: 1e-15, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@pytest.fixture
def double_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def small(**options) -> CellGraph:
    torch.manual_seed(0)
    cell = GMLPCell(Lattice((3, 3, 3)), 6, hidden=8)
    model = CellGraph(cell, in_features=12, num_steps=3, surface_channels=2, path="none", **options)
    for weight in model.cell.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


def pairs(dtype: torch.dtype = torch.float32) -> EmbeddedPairs:
    generator = torch.Generator().manual_seed(1)
    # Of few bits, so that they are the same in every dtype.
    question, answer = (torch.randint(-8, 9, (20, 12), generator=generator) / 8 for _ in range(2))
    return EmbeddedPairs(question.to(dtype), answer.to(dtype))


def trained(model: CellGraph, given: EmbeddedPairs, folder=None, *, resume: bool = False, **options):
    settings = plain_settings(batch_size=5, warmup_steps=1, val_every=2, accelerator="cpu", **options)
    objective = plain_objective(internal=0.5, turn=0.5, negatives="bank", centred=True).to(model.cell.dtype)
    return train_pairs(model, objective, given, given, settings=settings, folder=folder, resume=resume)


@pytest.mark.parametrize("asked", DTYPES, ids=str)
@pytest.mark.parametrize("weights", DTYPES, ids=str)
def test_a_network_answers_questions_of_any_dtype_in_its_own(weights, asked):
    exact = small().double()
    question = pairs().question[:4]
    wanted = exact(question.double()).embedding
    model = small().to(weights)
    found = model(question.to(asked), states=True)
    assert {found.embedding.dtype, found.surface.dtype, found.states.dtype} == {weights}
    size = float(wanted.detach().abs().max())
    assert float((found.embedding.detach().double() - wanted).abs().max()) <= 30 * EPS[weights] * size
    assert model.target_surface(question.to(asked)).dtype == weights


@pytest.mark.parametrize("asked", DTYPES, ids=str)
@pytest.mark.parametrize("weights", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", [LinearAdapter, PCAAdapter, AutoencoderAdapter])
def test_adapters_fit_embeddings_of_any_dtype(kind, weights, asked):
    options = {"updates": 200, "batch_size": 20, "hidden": 32, "lr": 1e-2} if kind is AutoencoderAdapter else {}
    torch.manual_seed(0)
    adapter = kind(12, 18, **options).to(weights)
    embeddings = pairs().question
    adapter.fit(embeddings.to(asked))
    assert {p.dtype for p in adapter.parameters()} == {weights}
    # A surface wider than the embedding loses what rounding takes, and what the perceptrons leave.
    assert adapter.reconstruction_error(embeddings.to(asked)) <= (1e-2 if options else 30 * EPS[weights] ** 2 + 1e-12)


@pytest.mark.parametrize("start", ["identity", "ridge"])
@pytest.mark.parametrize("weights", DTYPES, ids=str)
def test_both_starts_take_pairs_of_any_dtype(weights, start):
    exact = small().double()
    exact.fit_adapters(pairs().question.double(), pairs().answer.double(), start=start)
    for asked in DTYPES:
        model = small().to(weights)
        errors = model.fit_adapters(pairs(asked).question, pairs(asked).answer, start=start)
        assert errors["answer_reconstruction_error"] <= max(30 * EPS[weights] ** 2, 1e-10)

        # The frame of the surface is drawn, so only what goes there and back again can be compared.
        def back(network: CellGraph) -> torch.Tensor:
            surface = network.question_adapter.encode(pairs().question)
            return network.answer_adapter.decode(surface).detach().double()

        assert float((back(model) - back(exact)).abs().max()) <= 100 * EPS[weights]


@functools.cache
def metrics_of_float32_pairs(precision: str) -> dict[str, float]:
    return trained(small(), pairs(), precision=precision, max_steps=4).metrics


#: The precision and the dtype of the pairs with which the step is compiled; with the others it is among the slow tests.
COMPILED = ("32-true", torch.float64)


@pytest.mark.parametrize(
    ("precision", "dtype", "compiled"),
    [
        pytest.param(
            precision,
            dtype,
            compiled,
            marks=[pytest.mark.slow] if compiled and (precision, dtype) != COMPILED else [],
            id=f"{precision}-{dtype}{'-compiled' if compiled else ''}",
        )
        for precision in ("32-true", "64-true", "bf16-mixed")
        for dtype in DTYPES
        for compiled in (False, True)
    ],
)
def test_pairs_of_any_dtype_train_alike(precision, dtype, compiled):
    wanted = metrics_of_float32_pairs(precision)
    found = trained(small(), pairs(dtype), precision=precision, max_steps=4, compile=compiled)
    kept = torch.float64 if precision == "64-true" else torch.float32
    assert {p.dtype for p in found.model.parameters()} == {kept}
    close = 2e-2 if precision == "bf16-mixed" else 1e-4
    for name in ("train/loss", "train/surface", "train/internal", "train/dialogue", "val/loss", "val/cosine"):
        assert found.metrics[name] == pytest.approx(wanted[name], rel=close, abs=close), name


def test_double_training_is_the_float64_network_trained_as_it_is():
    wanted = trained(small().double(), pairs(torch.float64), max_steps=6)
    found = trained(small(), pairs(torch.float64), precision="64-true", max_steps=6)
    single = trained(small(), pairs(), max_steps=6)
    for name, weight in wanted.model.state_dict().items():
        same = found.model.state_dict()[name]
        torch.testing.assert_close(same, weight, rtol=1e-12, atol=1e-14, msg=name)
        # It is no float32 training with a cast at its end.
        if name.startswith("cell."):
            assert not torch.equal(same.float(), single.model.state_dict()[name]), name


def test_double_training_goes_on_where_it_stopped(tmp_path):
    whole = trained(small(), pairs(), tmp_path / "whole", precision="64-true", max_steps=4, ema=0.5)
    trained(small(), pairs(), tmp_path / "parts", precision="64-true", max_steps=2, ema=0.5, decay="none")
    assert whole.steps == 4
    again = trained(small(), pairs(), tmp_path / "whole", resume=True, precision="64-true", max_steps=4, ema=0.5)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], weight), name


@pytest.mark.parametrize("adapter", ["pca", "autoencoder"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_saved_network_comes_back_in_its_dtype(dtype, adapter, tmp_path):
    model = small(adapter={"name": adapter}).to(dtype)
    model.save_pretrained(tmp_path)
    for default in (torch.float32, torch.float64):
        torch.set_default_dtype(default)
        try:
            loaded = CellGraph.from_pretrained(tmp_path)
        finally:
            torch.set_default_dtype(torch.float32)
        assert {name: x.dtype for name, x in loaded.state_dict().items()} == dict.fromkeys(model.state_dict(), dtype)
        for name, weight in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], weight), name
        question = pairs().question
        assert torch.equal(loaded(question).embedding, model(question).embedding)
        assert {n: p.requires_grad for n, p in loaded.named_parameters()} == {
            n: p.requires_grad for n, p in model.named_parameters()
        }


def test_each_weight_comes_back_in_its_own_dtype(tmp_path):
    model = small()
    model.answer_adapter.double()
    model.save_pretrained(tmp_path)
    loaded = CellGraph.from_pretrained(tmp_path)
    assert {n: x.dtype for n, x in loaded.state_dict().items()} == {n: x.dtype for n, x in model.state_dict().items()}
    assert torch.equal(loaded(pairs().question).embedding, model(pairs().question).embedding)


def test_a_new_network_keeps_the_adapters_to_the_last_bit():
    model = small().double()
    model.fit_adapters(pairs(torch.float64).question, pairs(torch.float64).answer)
    fresh = new_network(model)
    assert fresh.cell.dtype == torch.float64
    for name, weight in model.answer_adapter.state_dict().items():
        assert torch.equal(fresh.answer_adapter.state_dict()[name], weight), name


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_networks_of_any_dtype_are_exported(dtype, tmp_path):
    question = pairs().question[:5]
    wanted = small().double()(question.double()).embedding.detach()
    export_torch(small().to(dtype), tmp_path / "cube.pt2")
    found = torch.export.load(tmp_path / "cube.pt2").module()(question.to(dtype))[0]
    assert found.dtype == dtype
    assert float((found.double() - wanted).abs().max()) <= 30 * EPS[dtype] * float(wanted.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_networks_of_any_dtype_become_onnx_models_in_float32(dtype, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = small().to(dtype)
    assert export_onnx(model, tmp_path / "cube.onnx").difference <= 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "cube.onnx", providers=["CPUExecutionProvider"])
    found = session.run(["embedding"], {"question": pairs().question.numpy()})[0]
    assert found == pytest.approx(model.float()(pairs().question).embedding.detach().numpy(), abs=1e-4)


@pytest.mark.parametrize("first", DTYPES, ids=str)
@pytest.mark.parametrize("second", DTYPES, ids=str)
def test_metrics_compare_dtypes_with_each_other(first, second):
    p, a = pairs().question, pairs().answer
    exact_p, exact_a = p.double().numpy(), a.double().numpy()
    unit_p, unit_a = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (exact_p, exact_a))
    similarity = unit_p @ unit_a.T
    own = np.diag(similarity)[:, None]
    wanted = 1 + (similarity > own + 1e-6).sum(1) + ((abs(similarity - own) <= 1e-6).sum(1) - 1) / 2
    p, a = p.to(first), a.to(second)
    assert cosine(p, a).tolist() == pytest.approx(own[:, 0].tolist(), abs=1e-6)
    assert ranks(p, a, torch.arange(20)).tolist() == wanted.tolist()
    assert csls(p, a, k=20).shape == (20, 20)
    assert cosine_matrix(p, a).values.numpy() == pytest.approx(similarity, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_a_report_of_any_dtype(dtype):
    torch.manual_seed(0)
    model = network(Lattice((2, 3, 3)), surface_channels=2)
    texts, embedded = some_pairs(30)
    effort = copy.replace(TINY, shuffles=1, tangents=4, sources=1) if hasattr(copy, "replace") else TINY
    found = study(model.to(dtype), texts, embedded.question, embedded.answer, {}, effort=effort)
    single = study(model.float(), texts, embedded.question, embedded.answer, {}, effort=effort)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for system, row in single.embeddings.numbers["cosines"].items():
        assert found.embeddings.numbers["cosines"][system]["own"] == pytest.approx(row["own"], abs=1e-5)
    assert found.influence.numbers["largest"] == pytest.approx(single.influence.numbers["largest"], rel=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (Growing("flower", size=8, channels=8, long_run=2), SamplePool(4, damage=1)),
        lambda: (Life((17, 17), channels=4, size=2, horizon=2), None),
        lambda: (Passage(3, channels=4), None),
    ],
    ids=["growing", "life", "passage"],
)
def test_automata_train_in_double(make, tmp_path):
    torch.manual_seed(0)
    task, pool = make()
    context = task.substrate.size(-1) + 1 if isinstance(task, Passage) else 0
    cell = NCACell(task.lattice, task.channels, perception="stencil", context_channels=context)
    before = cell.updating.outer.weight.detach().clone()
    settings = AutomatonSettings(
        max_steps=2,
        batch_size=2,
        num_steps=1 if isinstance(task, Life) else 2,
        accelerator="cpu",
        precision="64-true",
        noise=0.1,
        overflow=0.1,
        drift=0.1,
        drift_steps=1,
        val_every=1,
    )
    result = train_automaton(cell, task, settings, pool=pool, progress=False)
    assert {p.dtype for p in result.model.parameters()} == {torch.float64}
    assert np.isfinite(result.metrics["train/loss"])
    assert not torch.equal(cell.updating.outer.weight, before.double())
    assert all(np.isfinite(value) for value in task.evaluate(cell, num_steps=2).values())
    assert task.draw(cell, tmp_path, num_steps=2)


@pytest.mark.usefixtures("double_by_default")
def test_teachers_give_float32_where_the_default_is_double(tmp_path):
    texts = [f"{a} and {b} of {c}" for a in ["red", "green", "blue"] for b in ["tea", "cup"] for c in ["us", "me"]]
    teacher = LSATeacher(3, min_texts=1)
    teacher.fit(texts)
    direct = teacher.encode(texts)
    assert direct.dtype == torch.float32
    cache = EmbeddingCache(tmp_path)
    for _ in range(2):
        kept = cache.embed(teacher, texts)
        assert kept.dtype == torch.float32
        assert torch.equal(kept, direct)
    assert teacher.encode([]).dtype == cache.embed(teacher, []).dtype == torch.float32


@pytest.mark.usefixtures("double_by_default")
def test_the_estimator_where_the_default_is_double():
    rows = np.random.default_rng(0).normal(size=(40, 3))
    targets = rows[:, :2] @ [[1.0], [2.0]]
    regressor = CellGraphRegressor(max_steps=5, random_state=0).fit(rows, targets)
    assert regressor.score(rows, targets) > 0.9
    assert regressor.predict(rows).dtype == np.float64


@pytest.mark.usefixtures("double_by_default")
def test_a_network_made_and_trained_where_the_default_is_double():
    result = trained(small(), pairs(torch.float64), max_steps=2)
    assert {p.dtype for p in result.model.parameters()} == {torch.float64}
    assert np.isfinite(result.metrics["val/loss"])
