"""What the parts are worth, on networks of which it is known, and by a computation of its own."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from reference import ReferenceCell, trajectory
from reported import LEAD, TINY, WIDTH, some_pairs
from sklearn.linear_model import RidgeCV
from sklearn.metrics.pairwise import cosine_similarity

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.analysis.ablation import mean_updates
from cellgraph.analysis.nonlinearity import PENALTIES
from cellgraph.analysis.report import study, write_report
from cellgraph.analysis.report.ablation import Ablation
from cellgraph.analysis.report.embeddings import Embeddings
from cellgraph.analysis.report.page import _owed, _verdict, render
from cellgraph.analysis.report.specialisation import Specialisation
from cellgraph.analysis.report.subject import Subject
from cellgraph.analysis.report.worth import CUBE, LATERAL, MEAN, UPDATE, Worth
from cellgraph.analysis.states import advance, initial_state
from cellgraph.analysis.without import without_update
from cellgraph.data import QAPair
from cellgraph.retrieval.bootstrap import paired_difference
from cellgraph.retrieval.embedded import dialogues_of
from cellgraph.testing import randomise

SHAPE = (3, 3, 3)


def network(*, path: str = "linear", sharing: str = "shared", **options) -> CellGraph:
    torch.manual_seed(0)
    cell = GMLPCell(Lattice(SHAPE, 26), channels=4, hidden=8, heads=2, gate_std=0.3, sharing=sharing)
    model = CellGraph(cell, in_features=WIDTH, surface_channels=2, path=path, num_steps=3, **options).eval()
    with torch.no_grad():
        cell.out_weight.normal_(std=0.5)
        cell.out_bias.normal_()
        cell.position.normal_()
        cell.transport.add_(0.1 * torch.randn_like(cell.transport))
        if model.readout is not None:
            model.readout.weight.normal_()
    return model


def losses(model: CellGraph) -> dict[str, dict[str, float]]:
    torch.manual_seed(1)
    pairs, embedded = some_pairs(60)
    subject = Subject(model, pairs, embedded.question, embedded.answer, TINY, 0)
    done = []
    numbers = Worth.measure(subject, done.append).numbers
    assert sum(done) == pytest.approx(1)
    assert numbers["questions"] == 60
    assert numbers["lead"] is None
    return numbers["without"]


def talking() -> tuple[CellGraph, Subject]:
    """A network whose memory counts, and pairs that are dialogues of one to four turns, not in their order."""
    torch.manual_seed(0)
    cell = GMLPCell(Lattice(SHAPE, 26), channels=6, hidden=8, heads=2, memory_channels=2)
    model = CellGraph(cell, in_features=WIDTH, surface_channels=2, num_steps=3).eval()
    randomise(model.cell, std=0.4)
    torch.nn.init.normal_(model.readout.weight, std=3.0)
    torch.manual_seed(1)
    pairs, embedded = some_pairs(40)
    names = [f"d{i % 7}" if i % 10 < 6 else "" for i in range(40)]
    pairs = [replace(pair, dialogue=name, turn=40 - i) for i, (pair, name) in enumerate(zip(pairs, names, strict=True))]
    return model, Subject(model, pairs, embedded.question, embedded.answer, replace(TINY, ablated=40, projected=40), 0)


def in_dialogues(model: CellGraph, subject: Subject) -> torch.Tensor:
    """Queries of the network, asked turn by turn."""
    query = torch.empty(len(subject.pairs), WIDTH)
    memories: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for row in sorted(range(len(query)), key=lambda row: subject.pairs[row].turn):
            name = subject.pairs[row].dialogue
            output = model(subject.question[[row]], memories.get(name))
            query[row] = output.query[0]
            if name:
                memories[name] = output.memory
    return query


def mean_reciprocal_rank(model: CellGraph, query: torch.Tensor, answer: torch.Tensor) -> float:
    with torch.no_grad():
        scores = cosine_similarity(query.numpy(), model.key(answer).numpy())
    return float(np.mean(1 / (scores >= scores.diagonal()[:, None]).sum(1)))


def test_what_remembers_is_asked_in_dialogues():
    model, subject = talking()
    whole = mean_reciprocal_rank(model, in_dialogues(model, subject), subject.answer)
    with torch.no_grad():
        alone = mean_reciprocal_rank(model, model(subject.question).query, subject.answer)
    assert abs(whole - alone) > 0.01
    found = Worth.measure(subject, lambda share: None).numbers
    assert found["questions"] == 40
    assert found["mrr"]["mrr"] == pytest.approx(whole, abs=1e-6)
    # Without the part at every turn.
    passive = without_update(model)
    left = mean_reciprocal_rank(model, in_dialogues(passive, subject), subject.answer)
    assert found["without"][UPDATE]["mrr"] == pytest.approx(whole - left, abs=1e-6)
    assert Embeddings.measure(subject).numbers["cosines"]["lattice"]["mrr"] == pytest.approx(whole, abs=1e-6)
    # Fewer questions are whole dialogues.
    rows, dialogues = subject.asked(11)
    assert dialogues is not None
    chosen = [[int(rows[turn]) for turn in turns] for turns in dialogues]
    assert sorted(itertools.chain(*dialogues)) == list(range(len(rows)))
    assert all(turns in dialogues_of(subject.pairs) for turns in chosen)
    assert 5 < len(rows) < 25


def test_layers_are_taken_out_of_dialogues():
    model, subject = talking()
    layer = (model.lattice.layer == 1)[:, None]
    query = torch.empty(40, WIDTH)
    for turns in dialogues_of(subject.pairs):
        memory = None
        for row in turns:
            with torch.no_grad():
                x = initial_state(model, subject.question[[row]], memory).masked_fill(layer, 0.0)
                for _ in range(3):
                    x = model.cell(x).masked_fill(layer, 0.0)
                memory = x[..., -2:]
                query[row] = model.decode(x[:, model.read_index], subject.question[[row]], num_steps=3)[2][0]
    whole = mean_reciprocal_rank(model, in_dialogues(model, subject), subject.answer)
    lost = whole - mean_reciprocal_rank(model, query, subject.answer)
    costs = {cost["name"]: cost for cost in Ablation.measure(subject).numbers["costs"]}
    assert costs["layer 1"]["mrr"] == pytest.approx(lost, abs=1e-6)


def test_means_over_dialogues_are_of_what_was_heard():
    model, subject = talking()
    model, question = model.double(), subject.question.double()
    found = mean_updates(model, question, dialogues=dialogues_of(subject.pairs))
    passive, total = without_update(model), torch.zeros(3, 27, 6, dtype=torch.double)
    for turns in dialogues_of(subject.pairs):
        memory = None
        for row in turns:
            with torch.no_grad():
                output = model(question[[row]], memory, trajectory=True)
                states = output.trajectory[:, 0]
                total += states[1:] - torch.stack([passive.cell(x[None])[0] for x in states[:-1]])
            memory = output.memory
    torch.testing.assert_close(found, total / 40)


def test_the_page_says_what_is_without_memory(made):
    def page(model: CellGraph) -> str:
        return render(replace(made.study, subject=replace(made.study.subject, model=model)), {}, "A title")

    told = "without memory"
    assert told not in page(made.model)
    remembering = copy.deepcopy(made.model)
    remembering.cell.memory_channels = 1
    assert page(remembering).count(told) == 2


def test_the_page_names_classes_whose_topics_are_on_both_sides(made):
    def page(pairs: list[QAPair]) -> str:
        subject = replace(made.study.subject, pairs=pairs)
        probed = Specialisation.measure(subject)
        page = render(replace(made.study, subject=subject, specialisation=probed), {}, "A title")
        return " ".join(page.partition("Probes: ridge classifiers,")[2].partition("Selectivity")[0].split())

    told = "five folds that keep on one side what shares a topic, question, answer or dialogue"
    assert page(made.pairs) == f"{told}."
    few = [replace(pair, topic="b.1" if pair.topic[0] == "b" else pair.topic) for pair in made.pairs]
    assert page(few) == f"{told}; of topic, not of b, which has fewer than five such groups."
    assert (
        page([replace(pair, topic="") for pair in made.pairs])
        == "five folds that keep on one side what shares a topic, question, answer or dialogue."
    )


def test_what_is_asked_twice_is_on_one_side_of_a_fold(made, monkeypatch):
    seen = []

    def watched(*given, groups, **options):
        seen.append(groups)
        raise InterruptedError

    monkeypatch.setattr("cellgraph.analysis.specialisation.specialisation", watched)
    pairs = [replace(pair, topic="") for pair in made.pairs]
    again = [replace(pair, question=pairs[i % 20].question) for i, pair in enumerate(pairs)]
    with pytest.raises(InterruptedError):
        Specialisation.measure(replace(made.study.subject, pairs=again, effort=replace(TINY, min_count=5)))
    (groups,) = seen
    assert len(groups) == 60
    assert all(groups[i] == groups[i % 20] for i in range(60))
    assert len(set(groups)) == len({pair.question for pair in again})


def costs_nothing(row: dict[str, float]) -> bool:
    return row == {"mrr": 0.0, "mrr_low": 0.0, "mrr_high": 0.0, "mrr_p": 1.0}


@pytest.mark.parametrize("options", [{"path": "none"}, {}, {"readout": "all"}, {"sharing": "layer"}])
def test_an_update_of_nothing_costs_exactly_nothing(options):
    model = network(**options)
    torch.nn.init.zeros_(model.cell.out_weight)
    torch.nn.init.zeros_(model.cell.out_bias)
    found = losses(model)
    assert all(costs_nothing(row) for name, row in found.items() if name != CUBE)
    assert not costs_nothing(found[CUBE])


def test_a_readout_of_nothing_makes_all_of_the_cube_worth_nothing():
    model = network()
    torch.nn.init.zeros_(model.readout.weight)
    found = losses(model)
    assert [*found] == [
        UPDATE,
        MEAN,
        LATERAL,
        CUBE,
        *(f"layer {k}" for k in range(3)),
        *(f"step {k}" for k in (1, 2, 3)),
    ]
    assert all(map(costs_nothing, found.values()))


def test_one_layer_that_computes_costs_what_all_of_them_do():
    model = network(sharing="layer")
    with torch.no_grad():
        for weight in (model.cell.out_weight, model.cell.out_bias):
            weight[[0, 2]] = 0
    found = losses(model)
    assert costs_nothing(found["layer 0"])
    assert costs_nothing(found["layer 2"])
    assert found["layer 1"] == found[UPDATE]
    assert not costs_nothing(found[UPDATE])


def test_a_gate_that_hears_the_way_alone_has_no_lateral_messages_to_lose():
    model = network()
    ahead = model.lattice.offsets[model.conveyor.direction]
    aside = [k for k, offset in enumerate(model.lattice.offsets) if offset not in (ahead, tuple(-x for x in ahead))]
    assert len(aside) == 24
    with torch.no_grad():
        model.cell.gate_weight[aside] = 0
    found = losses(model)
    assert costs_nothing(found[LATERAL])
    assert not costs_nothing(found[UPDATE])


def test_an_update_alike_for_all_questions_is_its_mean():
    model = network()
    torch.nn.init.zeros_(model.cell.out_weight)
    found = losses(model)
    assert costs_nothing(found[MEAN])
    assert not costs_nothing(found[UPDATE])


def test_figures_of_the_worth(made):
    """Each part taken out of the reference, in float64."""
    found, model, cell = made.figures["worth"], made.model, ReferenceCell(made.model.cell)
    lateral = copy.deepcopy(cell)
    lateral.w["gate_weight"] = cell.w["gate_weight"].copy()
    # Direction 0 is depth -1, where the signal comes from, and 5 depth +1.
    lateral.w["gate_weight"][1:5] = 0
    question, answer = made.embedded.question, made.embedded.answer.double().numpy()
    layer = np.arange(54)[:, None] // 18
    whole = trajectory(model, question, 3)
    mean = np.stack([(cell(x) - cell.transported(x)).mean(0) for x in whole[:3]])

    def ranked(step) -> np.ndarray:
        x = whole[0]
        for number in range(3):
            x = step(number, x)
        surface = torch.tensor(x[:, 36:, 0] / (4 / 9), dtype=torch.float32)
        return reciprocal(model.answer_adapter.decode(surface).detach().double().numpy())

    def reciprocal(p: np.ndarray) -> np.ndarray:
        similarity = cosine_similarity(p, answer)
        return 1 / (similarity >= np.diag(similarity)[:, None]).sum(1)

    alone = model.answer_adapter.decode(model.question_adapter.encode(question)).detach().double().numpy()
    wanted = {
        UPDATE: ranked(lambda number, x: cell.transported(x)),
        MEAN: ranked(lambda number, x: cell.transported(x) + mean[number]),
        LATERAL: ranked(lambda number, x: lateral(x)),
        CUBE: reciprocal(alone),
    }
    for k in range(3):
        wanted[f"layer {k}"] = ranked(lambda number, x, k=k: np.where(layer == k, cell.transported(x), cell(x)))
        wanted[f"step {k + 1}"] = ranked(lambda number, x, k=k: cell.transported(x) if number == k else cell(x))
    groups = torch.tensor([int(pair.topic.split(".")[1]) * 2 + "ab".index(pair.topic[0]) for pair in made.pairs])
    own = ranked(lambda number, x: cell(x))
    assert found["mrr"]["mrr"] == pytest.approx(own.mean(), abs=1e-4)
    assert found["without"].keys() == wanted.keys()
    for name, row in found["without"].items():
        lost = paired_difference(torch.tensor(own), torch.tensor(wanted[name]), groups=groups, seed=0)
        assert row == pytest.approx(dict(zip(row, lost, strict=True)), abs=1e-3), name
    assert (found["questions"], found["candidates"], found["groups"]) == (60, 60, len(groups.unique()))
    assert found["lead"] == LEAD


def test_figures_of_what_is_not_linear(made):
    """By scikit-learn: the least squares of what the cube adds in its place."""
    found, model = made.figures["computation"], made.model
    assert (found["fitted_to"], found["judged_by"], found["added"]) == (90, 60, None)
    question = torch.cat([made.training, made.embedded.question])
    with torch.no_grad():
        left = model.answer_adapter.decode(model.question_adapter.encode(question)).double().numpy()
        whole = model(question).embedding.double().numpy()
    x = question.double().numpy()
    x = (x - x[:90].mean(0)) / np.sqrt(((x[:90] - x[:90].mean(0)) ** 2).mean())
    straight = RidgeCV(alphas=PENALTIES.tolist()).fit(x[:90], (whole - left)[:90]).predict(x[90:]) + left[90:]
    answer = made.embedded.answer.double().numpy()
    ranks = []
    for p in (whole[90:], straight):
        similarity = cosine_similarity(p, answer)
        ranks.append(1 / (similarity >= np.diag(similarity)[:, None]).sum(1))
    assert found["linearised"]["mrr"] == pytest.approx(np.mean(ranks[0] - ranks[1]), abs=1e-3)
    assert sum(found["cell_shares"]) == pytest.approx(1)
    assert sum(found["nonlinear_shares"]) == pytest.approx(1)
    assert found["layers"] == [
        {"layer": 2, "share": pytest.approx(1), "nonlinear_share": pytest.approx(1)},
    ]
    assert len(found["states"]) == 4


def test_figures_of_the_hearing(made):
    found, model = made.figures["influence"]["hearing"], made.model
    shown = made.embedded.question[30:31]
    surface = model.question_adapter.encode(shown)[0].detach()
    straight = copy.deepcopy(model)
    torch.nn.init.zeros_(straight.cell.out_weight)
    torch.nn.init.zeros_(straight.cell.out_bias)

    def jacobian(network: CellGraph) -> np.ndarray:
        def answer(surface: torch.Tensor) -> torch.Tensor:
            x = model.input_surface.inject(surface[None], num_channels=4)
            for _ in range(3):
                x = advance(network, x)
            return model.output_surface.extract(x)[0] / model.conveyor.gain(3)

        return torch.autograd.functional.jacobian(answer, surface).T.double().numpy()

    whole, linear = jacobian(model), jacobian(straight)
    ways = {"new": np.eye(18), "transport": linear, "gated": whole - linear, "whole": whole}
    for name, own in ways.items():
        power = own**2
        heard = power.sum(0) ** 2 / (power**2).sum(0)
        audible = (np.abs(own) >= 0.1 * np.abs(own).max(0)).sum(0).mean()
        size = np.sqrt(power.sum(0)).mean()
        assert found[name] == pytest.approx(
            {"mean": heard.mean(), "least": heard.min(), "most": heard.max(), "audible": audible, "size": size},
            rel=1e-3,
        ), name
    assert found["gated_share"] == pytest.approx(((whole - linear) ** 2).sum() / (whole**2).sum(), rel=1e-3)


def test_a_network_with_a_path_is_spoken_of_as_such(tmp_path):
    pairs, embedded = some_pairs(40)
    model = network(readout="all")
    result = study(
        model, pairs, embedded.question, embedded.answer, {}, training=torch.randn(60, WIDTH), lead=LEAD, effort=TINY
    )
    page = write_report(result, tmp_path).read_text()
    assert "by the linear path, no cube" in page
    assert "the adapters without the cube" not in page
    assert "what is read off all the cells is added" in page
    assert [row["layer"] for row in result.computation.numbers["layers"]] == [0, 1, 2]
    assert result.numbers["influence"]["output_cells"] == result.numbers["network"]["cells_read"] == 27


def test_the_lead_is_set_beside_the_loss():
    def worth(low: float, mrr: float, high: float, lead: float | None) -> dict:
        row = {"mrr": mrr, "mrr_low": low, "mrr_high": high, "mrr_p": 0.01}
        return {"without": {UPDATE: row}, "lead": None if lead is None else {"mrr": lead}}

    assert _verdict(worth(0.01, 0.02, 0.03, 0.02)) == "the gated update costs no less"
    assert _verdict(worth(0.01, 0.02, 0.03, 0.025)) == "within the interval of that loss"
    assert _verdict(worth(0.01, 0.02, 0.03, 0.04)) == "more than the network loses without its gated update"
    assert _verdict(worth(0.01, 0.02, 0.03, -0.01)) == "there is no lead to account for"

    def linearised(low: float, mrr: float) -> dict:
        return {"linearised": {"mrr": mrr, "mrr_low": low}}

    beside = worth(0.01, 0.02, 0.03, 0.02)
    assert "a linear map could say as much" in _owed(beside, linearised(0.001, 0.005))
    assert "most of the lead" in _owed(beside, linearised(0.005, 0.015))
    assert _owed(beside, linearised(-0.005, 0.015)) == ""
    assert _owed(worth(0.01, 0.02, 0.03, None), linearised(0.005, 0.015)) == _owed(beside, {}) == ""
