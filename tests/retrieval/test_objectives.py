"""The objective's terms against loops and formulas written out in float64."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from on_pairs import plain_objective, plain_settings, train_pairs

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.retrieval import Objective, Predicted
from cellgraph.retrieval.embedded import Batch, EmbeddedPairs
from cellgraph.retrieval.objectives import FIGURES

ROWS, WIDTH = 7, 5


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    prediction, answer = (torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64) for _ in range(2))
    answer[4] = answer[1]
    return prediction, answer


def cosine(a, b):
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def info_nce(predictions, answers, targets, scale, *, left_out=lambda i, j: False):
    """Row by row: -log of the right answer's share of the exponentials."""
    losses = []
    for i, target in enumerate(targets):
        terms = {
            j: math.exp(scale * cosine(predictions[i], answers[j])) for j in range(len(answers)) if not left_out(i, j)
        }
        losses.append(-math.log(terms[target] / sum(terms.values())))
    return sum(losses) / len(losses)


def twin(i, j):
    return {i, j} == {1, 4}


def only(name, **options):
    weights = {**dict.fromkeys(("surface", "internal", "dialogue", "turn"), 0.0), name: 1.0}
    return plain_objective(**weights, **options)


def judged(
    objective,
    embedding,
    surface,
    states=None,
    *,
    answer,
    target_surface=None,
    group=None,
    dialogue=None,
    query=None,
    key=lambda answer: answer,
):
    """What an objective makes of a prediction that is given as tensors; every row is a dialogue unless told."""
    if group is None:
        group = torch.unique(answer, dim=0, return_inverse=True)[1]
    if dialogue is None:
        dialogue = torch.arange(len(answer))
    return objective(
        SimpleNamespace(
            embedding=embedding,
            query=embedding if query is None else query,
            key=key,
            surface=surface,
            states=states,
            answer=answer,
            target_surface=target_surface,
            group=group,
            dialogue=dialogue,
        )
    )


def test_dialogue_is_info_nce_without_equal_answers(rows):
    prediction, answer = rows
    forward = info_nce(prediction, answer, range(ROWS), 1 / 0.07, left_out=twin)
    backward = info_nce(answer, prediction, range(ROWS), 1 / 0.07, left_out=twin)
    one_way, _ = judged(only("dialogue", direction="forward"), prediction, prediction, answer=answer)
    both_ways, terms = judged(only("dialogue"), prediction, prediction, answer=answer)
    assert one_way.item() == pytest.approx(forward, rel=1e-6)
    assert float(both_ways) == pytest.approx((forward + backward) / 2, rel=1e-6)
    assert list(terms) == ["dialogue"]


def test_equal_answers_would_have_counted_otherwise(rows):
    prediction, answer = rows
    with_twins = info_nce(prediction, answer, range(ROWS), 1 / 0.07)
    assert with_twins != pytest.approx(info_nce(prediction, answer, range(ROWS), 1 / 0.07, left_out=twin), rel=1e-3)


def test_bank_holds_every_distinct_training_answer(rows):
    prediction, answer = rows
    training = torch.randn(30, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    training[20] = training[3]
    distinct, group = torch.unique(training, dim=0, return_inverse=True)
    objective = only("dialogue", negatives="bank", direction="forward", centred=True)
    objective.fit(training, group)
    index = torch.tensor([3, 20, 0, 1, 2, 7, 29])
    total, _ = judged(objective, prediction, prediction, answer=training[index], group=group[index])
    mean = training.mean(0)
    expected = info_nce(prediction - mean, distinct - mean, group[index].tolist(), 1 / 0.07)
    assert len(distinct) == 29
    assert float(total) == pytest.approx(expected, rel=1e-6)
    # The validation set's answers are not in the bank, so there the batch is what there is.
    total, _ = judged(objective.eval(), prediction, prediction, answer=answer)
    assert float(total) == pytest.approx(
        info_nce(prediction - mean, answer - mean, range(ROWS), 1 / 0.07, left_out=twin), rel=1e-6
    )


def test_a_bank_fitted_again_on_fewer_answers_holds_these_alone(rows):
    prediction, _ = rows
    training = torch.randn(30, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    objective = only("dialogue", negatives="bank", direction="forward", centred=False, bank_answers=10)
    objective.fit(training, torch.arange(30))
    assert len(objective.terms["dialogue"].bank.numbers) == 10
    objective.fit(training[20:28], torch.arange(8))
    index = torch.tensor([3, 0, 1, 2, 7, 5, 6])
    total, _ = judged(objective, prediction, prediction, answer=training[20:28][index], group=index)
    expected = info_nce(prediction, training[20:28], index.tolist(), 1 / 0.07)
    assert float(total) == pytest.approx(expected, rel=1e-6)


def test_queries_find_the_keys_of_the_training_answers(rows):
    query = rows[0]
    training = torch.randn(30, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    turn = torch.randn(WIDTH, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    objective = only("dialogue", negatives="bank", direction="forward", centred=True)
    group = torch.arange(30)
    objective.fit(training, group)
    index = torch.tensor([3, 20, 0, 1, 2, 7, 29])
    asked = {"answer": training[index], "group": index, "query": query, "key": lambda answer: answer @ turn}
    total, _ = judged(objective, torch.zeros_like(query), query, **asked)
    keys, centre = training @ turn, training.mean(0) @ turn
    expected = info_nce(query - centre, keys - centre, index.tolist(), 1 / 0.07)
    assert float(total) == pytest.approx(expected, rel=1e-6)


def test_turn_compares_within_dialogues_only(rows):
    prediction, answer = rows
    dialogue = torch.tensor([0, 0, 1, 1, 1, 2, 0])
    losses = []
    for i in range(ROWS):
        others = [j for j in range(ROWS) if dialogue[j] == dialogue[i] and j != i and not twin(i, j)]
        if others:
            own = math.exp(cosine(prediction[i], answer[i]) / 0.07)
            rest = sum(math.exp(cosine(prediction[i], answer[j]) / 0.07) for j in others)
            losses.append(-math.log(own / (own + rest)))
    total, _ = judged(only("turn"), prediction, prediction, answer=answer, dialogue=dialogue)
    assert len(losses) == 6
    assert float(total) == pytest.approx(sum(losses) / len(losses), rel=1e-6)


def test_turn_of_single_pairs_is_zero(rows):
    prediction, answer = rows
    assert float(judged(only("turn"), prediction, prediction, answer=answer)[0]) == 0.0


def test_surface_is_cosine_and_squared_error(rows):
    prediction, answer = rows
    total, terms = judged(only("surface", mse_weight=0.5), prediction, prediction, answer=answer, target_surface=answer)
    expected = sum(1 - cosine(p, a) for p, a in zip(prediction, answer, strict=True)) / ROWS
    squared = float(np.mean((prediction.numpy() - answer.numpy()) ** 2))
    assert float(terms["surface_angle"]) == pytest.approx(expected, rel=1e-9)
    assert float(terms["surface_mse"]) == pytest.approx(squared, rel=1e-9)
    assert float(total) == pytest.approx(expected + 0.5 * squared, rel=1e-9)


def test_internal_is_overflow_and_vicreg():
    states = np.random.default_rng(0).normal(size=(6, 4, 3)) * np.array([0.02, 1.0, 3.0])
    objective = only("internal", bound=1.5, floor=0.3, overflow=2.0, variance=3.0, covariance=0.5)
    total, terms = judged(
        objective, torch.zeros(6, 2), torch.zeros(6, 2), torch.from_numpy(states), answer=torch.zeros(6, 2)
    )
    rms = np.sqrt((states**2).mean(-1))
    overflow = (np.maximum(rms - 1.5, 0) ** 2).mean()
    variance = np.maximum(0.3 - np.sqrt(states.var(0, ddof=1) + 1e-4), 0).mean()
    covariance = np.mean([np.cov(states[:, cell], rowvar=False) for cell in range(4)], axis=0)
    covariance_term = ((covariance**2).sum() - (np.diag(covariance) ** 2).sum()) / 3
    assert overflow > 0
    assert variance > 0
    assert float(terms["internal_overflow"]) == pytest.approx(overflow, rel=1e-6)
    assert float(terms["internal_variance"]) == pytest.approx(variance, rel=1e-9)
    assert float(terms["internal_covariance"]) == pytest.approx(covariance_term, rel=1e-9)
    assert float(total) == pytest.approx(2 * overflow + 3 * variance + 0.5 * covariance_term, rel=1e-6)


def test_internal_has_finite_gradients_at_zero_and_for_one_row():
    states = torch.zeros(1, 4, 3, requires_grad=True)
    total, terms = judged(only("internal"), torch.zeros(1, 2), torch.zeros(1, 2), states, answer=torch.zeros(1, 2))
    total.backward()
    assert list(terms) == ["internal", "internal_overflow"]
    assert torch.isfinite(states.grad).all()


def test_total_is_the_weighted_sum_of_the_named_terms(rows):
    prediction, answer = rows
    objective = plain_objective(surface=0.5, internal=0.25, dialogue=2.0, turn=3.0)
    states = torch.randn(ROWS, 4, 3, dtype=torch.float64)
    total, terms = judged(
        objective, prediction, prediction, states, answer=answer, target_surface=answer, dialogue=torch.zeros(ROWS)
    )
    expected = 0.5 * terms["surface"] + 0.25 * terms["internal"] + 2 * terms["dialogue"] + 3 * terms["turn"]
    assert float(total) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("zero", ["surface", "internal", "dialogue", "turn"])
def test_a_term_of_weight_zero_is_never_computed(rows, zero, monkeypatch):
    prediction, answer = rows
    states = torch.randn(ROWS, 4, 3)
    weights = {"surface": 1.0, "internal": 1.0, "dialogue": 1.0, "turn": 1.0, zero: 0.0}

    def poison(*args, **kwargs):
        raise AssertionError(f"{zero} was computed")

    monkeypatch.setattr(f"cellgraph.retrieval.terms.{zero.title()}Term.forward", poison)
    total, terms = judged(
        plain_objective(**weights), prediction, prediction, states, answer=answer, target_surface=answer
    )
    assert zero not in terms
    assert torch.isfinite(total)
    with pytest.raises(AssertionError, match="was computed"):
        judged(
            plain_objective(**{**weights, zero: 1.0}),
            prediction,
            prediction,
            states,
            answer=answer,
            target_surface=answer,
        )


def test_without_contrast_no_similarities_are_computed(rows, monkeypatch):
    prediction, answer = rows

    def poison(*args, **kwargs):
        raise AssertionError("similarities were computed")

    monkeypatch.setattr("cellgraph.retrieval.memory_bank.MemoryBank.logits", poison)
    objective = only("surface")
    judged(objective, prediction, prediction, answer=answer, target_surface=answer)
    assert not list(objective.parameters())


def test_temperature_is_learned_and_bounded(rows):
    prediction, answer = rows
    objective = only("dialogue", temperature=0.0101)
    bank = objective.terms["dialogue"].bank
    assert [parameter is bank.log_scale for parameter in objective.parameters()] == [True]
    judged(objective, prediction, answer, answer=answer)[0].backward()
    assert bank.log_scale.grad != 0
    with torch.no_grad():
        bank.log_scale += 1.0
    over, _ = judged(objective, prediction, prediction, answer=answer)
    assert float(over) == pytest.approx(
        float(judged(only("dialogue", temperature=0.01), prediction, prediction, answer=answer)[0])
    )
    objective.constrain()
    assert objective.readings()["temperature"] == pytest.approx(0.01)
    assert not list(only("dialogue", learn_temperature=False).parameters())


def test_half_precision_is_summed_in_full(rows):
    prediction, answer = (x.bfloat16() for x in rows)
    objective = plain_objective()
    half, _ = judged(objective, prediction, prediction, answer=answer, target_surface=answer)
    full, _ = judged(
        objective, prediction.float(), prediction.float(), answer=answer.float(), target_surface=answer.float()
    )
    assert half.dtype == torch.float32
    assert torch.equal(half, full)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"surface": -1.0}, "surface must be finite and not negative, got -1"),
        ({"dialogue": math.nan}, "dialogue must be a number, got nan"),
        ({"surface": 0.0, "dialogue": 0.0}, "needs a term of positive weight"),
        ({"negatives": "all"}, r"negatives must be one of .* got 'all'"),
        ({"direction": "back"}, "direction must be one of"),
        ({"temperature": 0.001}, "temperature must be at least 0.01, got 0.001"),
        ({"bound": 0.0}, "bound must be positive"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        plain_objective(**options)


def test_missing_inputs(rows):
    prediction, answer = rows
    with pytest.raises(ValueError, match="call fit first"):
        judged(only("dialogue", negatives="bank"), prediction, prediction, answer=answer)
    with pytest.raises(ValueError, match="call fit first"):
        judged(only("dialogue", centred=True), prediction, prediction, answer=answer)


def test_terms_of_ones_own_stand_beside_the_others(rows):
    prediction, answer = rows

    def length(predicted):
        squares = predicted.embedding.square().sum(1)
        return squares.mean(), {"most": squares.max()}

    objective = plain_objective(surface=0.0, dialogue=0.0, turn=1.0, terms=[("length", length, 0.5)])
    total, terms = judged(objective, prediction, prediction, answer=answer)
    squares = [float(row @ row) for row in prediction]
    assert list(terms) == ["turn", "length", "length_most"]
    assert float(terms["length_most"]) == pytest.approx(max(squares))
    assert float(total) == pytest.approx(float(terms["turn"]) + 0.5 * sum(squares) / ROWS)
    with pytest.raises(ValueError, match="terms must have names of their own, got 'length' twice"):
        Objective([("length", length, 1.0)] * 2)


@pytest.mark.parametrize("name", [*FIGURES, "a.b", "", "values", "keys", "forward", "training", "_modules", 3])
def test_a_term_by_a_name_that_means_something_else_is_refused(name):
    with pytest.raises(ValueError, match=f"{re.escape(repr(name))}"):
        Objective([(name, torch.nn.Identity(), 1.0)])


@pytest.mark.parametrize(
    ("parts", "name", "taken"),
    [
        ({"mine_mse": "", "mine": "mse"}, "mine", "mine_mse"),
        ({"mine": "mse", "mine_mse": ""}, "mine", "mine_mse"),
        ({"mine": "mse_late", "mine_mse": "late"}, "mine_mse", "mine_mse_late"),
        ({"grad": "norm"}, "grad", "grad_norm"),
    ],
)
def test_no_part_of_a_term_takes_the_name_of_another_figure(parts, name, taken):
    def term(part):
        return lambda predicted: (predicted.embedding.mean(), {part: predicted.embedding.sum()} if part else {})

    objective = Objective([(each, term(part), 1.0) for each, part in parts.items()])
    with pytest.raises(ValueError, match=f"a part of '{name}' cannot be '{taken}': the log has another of that name"):
        objective(SimpleNamespace(embedding=torch.ones(2, 3)))


def test_no_term_may_be_named_as_a_figure_of_the_log(rows, tmp_path):
    pairs = EmbeddedPairs(torch.randn(20, WIDTH), torch.randn(20, WIDTH))
    torch.manual_seed(0)
    model = CellGraph(GMLPCell(Lattice((2, 3, 3)), 8, hidden=8), in_features=WIDTH, num_steps=2)
    settings = plain_settings(max_steps=2, batch_size=5, accelerator="cpu", log_every=1, val_every=1)
    objective = plain_objective(surface=0.0)
    train_pairs(model, objective, pairs, pairs, settings=settings, folder=tmp_path, progress=False)
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    logged = {name.partition("/")[2] for name in header if "/" in name}
    assert logged - {"dialogue"} == set(FIGURES)


def test_what_is_predicted_leaves_out_the_padding():
    pairs = EmbeddedPairs(torch.arange(12.0).reshape(4, 3), torch.ones(4, 3), dialogue=["a", "b", "a", "a"])
    batch = Batch.gather(pairs, torch.tensor([[0, 2, 3], [1, -1, -1]]))
    outputs = [SimpleNamespace(embedding=2 * batch.question[:, turn], num_steps=turn) for turn in range(3)]
    predicted = Predicted(torch.nn.Identity(), batch, outputs)
    assert torch.equal(predicted.embedding, 2 * pairs.question[[0, 2, 3, 1]])
    assert predicted.dialogue.tolist() == [0, 0, 0, 1]
    assert predicted.num_steps == 1.0
