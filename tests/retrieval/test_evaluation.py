from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.metrics import label_ranking_average_precision_score
from sklearn.metrics.pairwise import cosine_similarity

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.nn import PCAAdapter
from cellgraph.retrieval import (
    AdaptersAlone,
    Evaluation,
    Prediction,
    Scores,
    chance_level,
    evaluate,
    markdown,
    nearest_answers,
    paired_difference,
    predict,
    predict_closed_forms,
    print_evaluation,
    save_evaluation,
)

FIGURES = ["cosine_surface", "cosine_teacher", "cosine_centred"]
RETRIEVAL = ["recall_at_1", "recall_at_5", "recall_at_10", "mrr", "mrr_low", "mrr_high"]
BESIDE = ["parameters", "pairs_train", "pairs_test", "seconds_train", "trials"]

WIDTH, TRAIN, TEST = 24, 300, 80


@pytest.fixture(scope="module")
def data() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator))[0]
    question = torch.nn.functional.normalize(torch.randn(TRAIN + TEST, WIDTH, generator=generator) + 0.5, dim=1)
    noise = 0.15 * torch.randn(TRAIN + TEST, WIDTH, generator=generator)
    answer = torch.nn.functional.normalize(question @ rotation + 0.2 + noise, dim=1)
    return {
        "question_train": question[:TRAIN],
        "answer_train": answer[:TRAIN],
        "question_test": question[TRAIN:],
        "answer_test": answer[TRAIN:],
    }


def to_surface(embedding: torch.Tensor) -> torch.Tensor:
    return embedding[:, :10] * 3 + 0.1


@pytest.fixture(scope="module")
def evaluation(data) -> Evaluation:
    predictions = predict_closed_forms(data["question_train"], data["answer_train"], data["question_test"])
    predictions["lattice"] = Prediction(
        predictions["ridge"].embedding * 0.5, surface=data["answer_test"][:, 10:20], parameters=123, seconds_train=4.5
    )
    return evaluate(
        predictions,
        data["answer_test"],
        answers_train=data["answer_train"],
        to_surface=to_surface,
        reference="lattice",
        num_resamples=500,
    )


def by_name(evaluation: Evaluation) -> dict[str, dict]:
    return {row["name"]: row for row in evaluation.rows}


def test_rows_carry_all_figures_in_the_order_given(evaluation):
    names = ["mean answer", "identity (raw)", "identity (centred)", "Procrustes", "ridge"]
    names += ["kernel ridge", "nearest questions", "lattice"]
    assert [row["name"] for row in evaluation.rows] == names
    for row in evaluation.rows:
        assert set(row) == {"name", *FIGURES, *RETRIEVAL, *(f"{key}_csls" for key in RETRIEVAL), *BESIDE}
        assert (row["pairs_train"], row["pairs_test"]) == (TRAIN, TEST)
        for suffix in ("", "_csls"):
            assert row[f"mrr_low{suffix}"] <= row[f"mrr{suffix}"] <= row[f"mrr_high{suffix}"]
            recalls = [row[f"recall_at_{k}{suffix}"] for k in (1, 5, 10)]
            assert recalls == sorted(recalls)


def test_closed_forms_of_some_pairs_say_of_how_many(data):
    systems: dict[str, Prediction | Scores] = dict(
        predict_closed_forms(data["question_train"], data["answer_train"], data["question_test"])
    )
    systems |= {"trained": Prediction(data["question_test"]), "words": Scores(torch.eye(TEST))}
    found = evaluate(
        systems,
        data["answer_test"],
        answers_train=data["answer_train"],
        to_surface=to_surface,
        pairs_train=1_000_000,
        num_resamples=10,
    )
    assert found.pairs_train == 1_000_000
    of = {row["name"]: row["pairs_train"] for row in found.rows}
    assert of["trained"] == of["words"] == 1_000_000
    assert of["ridge"] == of["mean answer"] == TRAIN
    assert "1,000,000 training pairs" in markdown(found)


def test_figures_match_sklearn(evaluation, data):
    prediction = predict_closed_forms(data["question_train"], data["answer_train"], data["question_test"])["ridge"]
    predicted, answers = prediction.embedding.numpy(), data["answer_test"].numpy()
    row = by_name(evaluation)["ridge"]
    similarity = cosine_similarity(predicted, answers)
    mean = data["answer_train"].numpy().mean(0)
    assert row["cosine_teacher"] == pytest.approx(similarity.diagonal().mean(), abs=1e-5)
    assert row["cosine_centred"] == pytest.approx(
        cosine_similarity(predicted - mean, answers - mean).diagonal().mean(), abs=1e-5
    )
    assert row["cosine_surface"] == pytest.approx(
        cosine_similarity(predicted[:, :10] * 3 + 0.1, answers[:, :10] * 3 + 0.1).diagonal().mean(), abs=1e-5
    )
    assert row["mrr"] == pytest.approx(label_ranking_average_precision_score(np.eye(TEST), similarity), abs=1e-5)


def test_a_surface_that_is_given_is_judged(evaluation, data):
    surface, answers = data["answer_test"][:, 10:20].numpy(), to_surface(data["answer_test"]).numpy()
    expected = cosine_similarity(surface, answers).diagonal().mean()
    assert by_name(evaluation)["lattice"]["cosine_surface"] == pytest.approx(expected, abs=1e-5)


def test_scale_changes_no_retrieval(evaluation):
    rows = by_name(evaluation)
    assert [rows["lattice"][key] for key in RETRIEVAL] == [rows["ridge"][key] for key in RETRIEVAL]


def test_the_mean_answer_is_chance_but_scores_a_raw_cosine(evaluation):
    row = by_name(evaluation)["mean answer"]
    assert row["cosine_centred"] == 0
    assert row["cosine_teacher"] > 0.4
    # One order of the answers for all questions: each rank occurs once.
    recall, mrr = chance_level(TEST)
    for suffix in ("", "_csls"):
        assert row[f"mrr{suffix}"] == pytest.approx(mrr, abs=1e-3)
        assert row[f"recall_at_1{suffix}"] == pytest.approx(recall)


def test_differences_are_the_references_lead(evaluation):
    rows = by_name(evaluation)
    assert [row["against"] for row in evaluation.differences] == list(rows)[:-1]
    for row in evaluation.differences:
        for column, suffix in enumerate(("", "_csls")):
            lead = rows["lattice"][f"mrr{suffix}"] - rows[row["against"]][f"mrr{suffix}"]
            assert row[f"mrr{suffix}"] == pytest.approx(lead, abs=1e-6)
            ranks = [evaluation.reciprocal_ranks[name][:, column] for name in ("lattice", row["against"])]
            expected = paired_difference(*ranks, num_resamples=500)
            assert row[f"mrr_low{suffix}"] == expected.low


def test_equal_answers_are_equally_right(data):
    answers = data["answer_test"].clone()
    answers[40:] = answers[:40]
    # Each prediction is exactly the answer that its duplicate also has.
    plain = evaluate(
        {"oracle": Prediction(answers)}, answers, answers_train=data["answer_train"], to_surface=to_surface
    )
    assert plain.candidates == 40
    assert (plain.rows[0]["recall_at_1"], plain.rows[0]["mrr"], plain.rows[0]["mrr_csls"]) == (1, 1, 1)
    assert plain.rows[0]["pairs_test"] == TEST
    texts = [f"answer {i % 20}" for i in range(TEST)]
    grouped = evaluate(
        {"oracle": Prediction(answers)},
        answers,
        answers_train=data["answer_train"],
        to_surface=to_surface,
        answer_texts=texts,
    )
    assert grouped.candidates == 20


def test_json_holds_rows_and_counts(evaluation, tmp_path):
    path, _ = save_evaluation(evaluation, tmp_path / "new")
    content = json.loads(path.read_text())
    assert content["rows"] == evaluation.rows
    assert content["differences"] == evaluation.differences
    assert (content["pairs_train"], content["pairs_test"], content["candidates"]) == (TRAIN, TEST, TEST)
    assert content["chance"]["recall_at_1"] == 1 / TEST
    assert sorted(p.name for p in path.parent.iterdir()) == ["evaluation.json", "evaluation.md"]


def test_a_full_disk_leaves_the_old_file(evaluation, tmp_path, monkeypatch):
    path, _ = save_evaluation(evaluation, tmp_path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*evaluation\.json: No space left on device"):
        save_evaluation(evaluation, tmp_path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evaluation.json", "evaluation.md"]


def test_figures_that_are_no_numbers_are_not_written(evaluation, tmp_path):
    broken = Evaluation(**{**vars(evaluation), "rows": [{**evaluation.rows[0], "mrr": float("nan")}]})
    with pytest.raises(ValueError, match="JSON compliant"):
        save_evaluation(broken, tmp_path)
    assert not list(tmp_path.iterdir())


def test_console_fits_80_columns_and_markdown_is_a_table(evaluation, data):
    texts = [
        f"Answer {i} \x1b[2J in [bold red] with a | pipe, *stars* and\nlines. " + "word " * 60 for i in range(TEST)
    ]
    examples = nearest_answers(
        data["answer_test"], data["answer_test"], [f"Question {i}?" for i in range(TEST)], texts, num_questions=2
    )
    console = Console(width=80, record=True, file=io.StringIO())
    print_evaluation(evaluation, examples, console=console)
    shown = console.export_text()
    for row in evaluation.rows:
        line = next(line for line in shown.splitlines() if line.startswith(row["name"]))
        assert f"{row['mrr']:.3f} {row['mrr_low']:.3f}-{row['mrr_high']:.3f}" in line
    assert "[bold red]" in shown
    assert "Lead of lattice" in shown

    text = markdown(evaluation, examples)
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(table) == 2 + len(evaluation.rows) + 2 + len(evaluation.differences)
    widths = {line.count("|") for line in table[: 2 + len(evaluation.rows)]}
    assert widths == {14}
    assert "\\| pipe, \\*stars\\* and lines." in text
    assert "\\[bold red\\]" in text
    for written in (text, shown):
        assert "\x1b" not in written
        assert "\ufffd[2J" in written.replace("\\", "")
    assert max(map(len, text.partition("## Nearest")[2].splitlines())) < 150


def test_nearest_answers_are_the_nearest(data):
    answers = data["answer_test"]
    questions, texts = [f"q{i}" for i in range(TEST)], [f"a{i}" for i in range(TEST)]
    predictions = data["question_test"]
    found = nearest_answers(predictions, answers, questions, texts, num_questions=4, k=5)
    assert [example.question for example in found] == ["q10", "q30", "q50", "q70"]
    similarity = cosine_similarity(predictions.numpy(), answers.numpy())
    for example in found:
        index = int(example.question[1:])
        order = np.argsort(-similarity[index])
        assert [text for text, _ in example.nearest] == [texts[i] for i in order[:5]]
        np.testing.assert_allclose([score for _, score in example.nearest], similarity[index][order[:5]], atol=1e-5)
        assert example.answer == texts[index]
        assert example.rank == 1 + list(order).index(index)


def test_nearest_answers_show_each_text_once(data):
    answers = torch.cat([data["answer_test"][:5]] * 2)
    texts = [f"a{i % 5}" for i in range(10)]
    found = nearest_answers(answers, answers, texts, texts, indices=[7], k=9)
    assert found[0].rank == 1
    assert sorted(text for text, _ in found[0].nearest) == sorted(set(texts))


def test_predict_runs_a_model_in_batches(data):
    torch.manual_seed(0)
    cell = GMLPCell(Lattice((2, 4, 4)), channels=8, hidden=16, fire_rate=0.5)
    model = CellGraph(cell, in_features=WIDTH, surface_channels=1, num_steps=3).train()
    prediction = predict(model, data["question_test"], batch_size=32, seconds_train=2.0)
    assert model.training
    with torch.no_grad():
        expected = model.eval()(data["question_test"])
    torch.testing.assert_close(prediction.embedding, expected.embedding)
    torch.testing.assert_close(prediction.surface, expected.surface)
    assert prediction.parameters == sum(model.parameter_counts().values())
    assert prediction.seconds_train == 2.0
    control = AdaptersAlone(PCAAdapter(WIDTH, 16), PCAAdapter(WIDTH, 16))
    assert predict(control, data["question_test"]).parameters == 2 * WIDTH * 16 + WIDTH + 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"predictions": {}}, "no predictions"),
        ({"reference": "lattice"}, r"reference must be one of \['a'\], got 'lattice'"),
        ({"answers": torch.ones(0, 4)}, r"held-out answers: expected \[num_pairs >= 1, width\], got \[0, 4\]"),
        ({"answers_train": torch.ones(0, 4)}, "training answers: expected"),
        ({"answers_train": torch.ones(5, 3)}, "training answers: expected width 4, got 3"),
        ({"answers": torch.full((3, 4), float("nan"))}, "held-out answers: 3 of 3 embeddings are not finite"),
        ({"predictions": {"a": Prediction(torch.ones(2, 4))}}, "prediction of 'a': expected 3 rows"),
        ({"predictions": {"a": Prediction(torch.ones(3, 5))}}, "prediction of 'a': expected width 4, got 5"),
        ({"predictions": {"a": Prediction(torch.full((3, 4), float("inf")))}}, "prediction of 'a': 3 of 3"),
        ({"predictions": {"a": Prediction(torch.ones(3, 4), torch.ones(3, 3))}}, "surface of 'a': expected width 2"),
        ({"answer_texts": ["one"]}, "one text for each of 3 answers"),
    ],
)
def test_bad_input_is_one_clear_line(change, message):
    arguments = {
        "predictions": {"a": Prediction(torch.ones(3, 4))},
        "answers": torch.eye(4)[:3],
        "answers_train": torch.ones(5, 4),
        "to_surface": lambda embedding: embedding[:, :2],
    }
    with pytest.raises(ValueError, match=message) as raised:
        evaluate(**{**arguments, **change})
    assert "\n" not in str(raised.value)


def test_nearest_answers_refuse_bad_input():
    with pytest.raises(ValueError, match=r"got \[2, 2, 1, 2\]"):
        nearest_answers(torch.eye(2), torch.eye(2), ["q"], ["a", "b"])
    with pytest.raises(ValueError, match="between 0 and 1, got"):
        nearest_answers(torch.eye(2), torch.eye(2), ["q", "r"], ["a", "b"], indices=[2])


def test_a_system_of_scores_has_no_cosines_and_is_ranked_by_them(data) -> None:
    answers = data["answer_test"].clone()
    answers[1] = answers[0]  # one candidate for both
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(len(answers), len(answers), generator=generator)
    predictions = {"words": Scores(scores), "identity": Prediction(data["question_test"])}
    groups = torch.arange(len(answers)) // 2
    found = evaluate(
        predictions,
        answers,
        answers_train=data["answer_train"],
        to_surface=to_surface,
        groups=groups,
        reference="identity",
        num_resamples=200,
    )
    row = by_name(found)["words"]
    scores[:, 0] = torch.maximum(scores[:, 0], scores[:, 1])
    rank = [
        1 + sum(scores[i, j] > scores[i, own] for j in range(len(answers)) if j not in (1, own))
        for i, own in enumerate([0, 0, *range(2, len(answers))])
    ]
    assert row["mrr"] == pytest.approx(float(np.mean([1 / float(one) for one in rank])))
    assert row["recall_at_5"] == pytest.approx(float(np.mean([one <= 5 for one in rank])))
    assert row["cosine_teacher"] is row["recall_at_1_csls"] is row["mrr_csls"] is None
    assert found.groups == len(answers) // 2
    (lead,) = found.differences
    assert lead["mrr_csls"] is None
    assert 0.005 <= lead["mrr_p"] <= 1
    assert f"over {found.groups} groups of pairs" in markdown(found)
    assert re.search(r"\| words +\| +- \| +- \| +- \|", markdown(found))
    json.dumps(found.to_dict(), allow_nan=False)
