"""A finished run, asked in Python: the session against its parts, words beside it, and memory."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from asked import session
from rich.console import Console
from scipy.stats import rankdata, zscore

from cellgraph.answering import AnswerBank, FinishedRun, Session
from cellgraph.answering.confidence import Confidence
from cellgraph.answering.relevance import relevant
from cellgraph.cli.opening import add_options, open_session
from cellgraph.data import save_pairs
from cellgraph.retrieval import first_right
from cellgraph.retrieval.blend import WEIGHTS
from cellgraph.retrieval.lexical import BM25

pytestmark = pytest.mark.usefixtures("_own_cache")


def test_an_answer_is_what_its_parts_give(folder: Path) -> None:
    run = FinishedRun.load(folder)
    bank = run.bank()
    assert len(bank) == 180
    confidence = run.confidence(bank)
    question = "Where is it that the otter sleeps near the river?"
    answer = Session(run.model, run.teacher, bank, confidence, top=3).ask(f"  {question} ")
    asked = run.teacher.encode([question])
    with torch.no_grad():
        predicted = run.model(asked).query
    texts = run.answers()
    embeddings = run.teacher.encode(texts)

    def nearest(embedding: torch.Tensor, known: torch.Tensor) -> list[tuple[float, str]]:
        own = torch.nn.functional.normalize(known.detach().double(), dim=1)
        scores = own @ torch.nn.functional.normalize(embedding[0].double(), dim=0)
        return sorted(zip(scores.tolist(), texts, strict=True), reverse=True)

    best = nearest(predicted, run.model.key(embeddings))
    assert [candidate.score for candidate in answer.answers] == pytest.approx([s for s, _ in best[:3]], abs=1e-5)
    assert answer.answers[0].text == best[0][1]
    assert answer.teacher_answers[0].score == pytest.approx(nearest(asked, embeddings)[0][0], abs=1e-5)
    logit = confidence.bias + confidence.weights[0] * best[0][0] + confidence.weights[1] * (best[0][0] - best[1][0])
    assert answer.confidence == pytest.approx(torch.sigmoid(torch.tensor(logit)).item(), abs=1e-4)
    assert answer.known == (confidence.threshold is not None and answer.confidence >= confidence.threshold)
    assert (answer.question, answer.num_steps, answer.generated) == (question, 3, None)
    assert 0 < answer.seconds["teacher"] + answer.seconds["lattice"] <= answer.seconds["total"]


def test_the_confidence_is_learned_among_the_answers_that_will_be_asked(folder: Path) -> None:
    run = FinishedRun.load(folder)
    threshold = run.equivalence_threshold()
    validation = run.pairs.validation
    foreign = AnswerBank(["nothing", "something"], run.embed(["nothing of this", "the otter eats"]))
    for bank, wanted in ((run.bank(), run.bank()), (foreign, None)):
        features, right = run._judged(bank, validation, threshold)
        if wanted is None:
            texts = [*foreign.texts, *(pair.answer for pair in validation)]
            wanted = AnswerBank(texts, torch.cat([foreign.embeddings, run.embed(texts[2:])]))
        with torch.no_grad():
            predicted = run.model(run.embed([pair.question for pair in validation])).query
            keys = torch.nn.functional.normalize(run.model.key(wanted.raw), dim=1)
        scores = torch.nn.functional.normalize(predicted, dim=1) @ keys.T
        target = torch.tensor([wanted.texts.index(pair.answer) for pair in validation])
        expected = relevant(wanted, run.embed([pair.answer for pair in validation]), target, threshold=threshold)
        assert torch.equal(right, first_right(scores, expected) <= 1)
        assert torch.allclose(features[:, 0], scores.amax(1), atol=1e-6)
    kept = set(folder.glob("answering/confidence-*.json"))
    assert run.confidence(foreign) == run.confidence(foreign)
    assert len(set(folder.glob("answering/confidence-*.json")) - kept) == 1


def test_words_count_as_much_as_is_best_on_the_validation_pairs(folder: Path) -> None:
    run = FinishedRun.load(folder)
    # The network alone would find everything.
    torch.manual_seed(1)
    torch.nn.init.normal_(run.model.readout.weight, std=3.0)
    validation, texts = run.pairs.validation, [*dict.fromkeys(run.answers())]
    known = torch.nn.functional.normalize(run.model.key(run.teacher.encode(texts)).detach().double(), dim=1)
    index = BM25(texts)

    def both(questions: list[str], weight: float) -> np.ndarray:
        with torch.no_grad():
            found = run.model(run.teacher.encode(questions)).query
        cosines = (torch.nn.functional.normalize(found.double(), dim=1) @ known.T).numpy()
        return (1 - weight) * zscore(cosines, axis=1) + weight * zscore(index.scores(questions).numpy(), axis=1)

    def figure(weight: float) -> float:
        ranks = rankdata(-both([pair.question for pair in validation], weight).round(6), axis=1)
        return float(np.mean([1 / row[texts.index(pair.answer)] for row, pair in zip(ranks, validation, strict=True)]))

    figures = {weight: figure(weight) for weight in WEIGHTS}
    bank = run.bank()
    lexical = run.lexical(bank)
    assert figures[lexical.blend.weight] == pytest.approx(max(figures.values()), abs=1e-5)
    assert lexical.blend.weight > 0.0
    assert figures[0.0] < figures[lexical.blend.weight]
    # It is learned once.
    (kept,) = folder.glob("answering/lexical-*.json")
    kept.write_text('{"weight": 0.45}')
    lexical = run.lexical(bank)
    assert lexical.blend.weight == 0.45
    # So is the confidence, from the blended scores.
    confidence = run.confidence(bank, lexical=lexical)
    threshold = run.equivalence_threshold()
    features, _ = run._judged(bank, validation, threshold, lexical)
    two = np.sort(both([pair.question for pair in validation], 0.45), axis=1)[:, -2:]
    np.testing.assert_allclose(features.numpy(), np.stack([two[:, 1], two[:, 1] - two[:, 0]], axis=1), atol=1e-3)
    assert confidence != run.confidence(bank)
    question = "Where is it that the otter sleeps near the river?"
    answer = Session(run.model, run.teacher, bank, confidence, lexical=lexical, top=3).ask(question)
    wanted = both([question], 0.45)[0]
    order = wanted.argsort()[::-1]
    assert [found.text for found in answer.answers] == [texts[i] for i in order[:3]]
    assert [found.score for found in answer.answers] == pytest.approx(wanted[order[:3]].tolist(), abs=1e-3)
    assert [found.bm25 for found in answer.answers] == index.scores([question])[0][order[:3].copy()].tolist()  # type: ignore[attr-defined]
    features = torch.tensor([[wanted[order[0]], wanted[order[0]] - wanted[order[1]]]])
    assert answer.confidence == pytest.approx(float(confidence.probability(features)), abs=1e-3)
    kept.write_text("{}")
    with pytest.raises(ValueError, match="is damaged, remove it to have it made again"):
        run.lexical(bank)
    kept.unlink()


def test_memory_goes_from_turn_to_turn(folder: Path) -> None:
    first, second = "Where is it that the heron eats near the river?", "Where is it that the otter hides?"
    talk = session(folder)
    assert talk.remembers
    alone = talk.ask(second).answers
    talk.reset()
    talk.ask(first)
    after = talk.ask(second).answers
    assert [turn.question for turn in talk.history] == [first, second]
    assert [c.score for c in after] != pytest.approx([c.score for c in alone], abs=1e-4)
    talk.reset()
    assert talk.history == []
    assert talk.ask(second).answers == alone
    forgetful = session(folder, use_memory=False)
    assert not forgetful.remembers
    forgetful.ask(first)
    assert forgetful.ask(second).answers == alone
    assert talk._memory is not None
    assert not talk._memory.requires_grad


@pytest.fixture
def talking(folder: Path, tmp_path: Path) -> Path:
    """A run whose validation pairs are dialogues of three turns, and whose memory counts."""
    place = shutil.copytree(folder, tmp_path / "talking")
    shutil.rmtree(place / "answering", ignore_errors=True)
    run = FinishedRun.load(place)
    torch.manual_seed(1)
    torch.nn.init.normal_(run.model.cell.out_weight, std=0.5)
    torch.nn.init.normal_(run.model.readout.weight)
    run.model.save_pretrained(place / "model")
    turns = [replace(p, dialogue=f"d{i // 3}", turn=i % 3) for i, p in enumerate(run.pairs.validation)]
    save_pairs(run.folder.pairs("validation"), turns)
    return place


@pytest.mark.parametrize("alone", [False, True])
def test_the_confidence_is_learned_as_questions_will_be_asked(talking: Path, alone: bool) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    add_options(parser)
    given = parser.parse_args([str(talking), *["--no-memory"][: int(alone)]])
    opened = open_session(given, Console(quiet=True))
    # The other one is kept beside it.
    given.no_memory = not alone
    other = open_session(given, Console(quiet=True))
    run = FinishedRun.load(talking)
    threshold = run.equivalence_threshold()
    texts, embeddings = opened.bank.texts, run.embed(opened.bank.texts)
    keys = torch.nn.functional.normalize(run.model.key(embeddings), dim=1)
    features, right = [], []
    memory = None
    for pair in run.pairs.validation:
        with torch.no_grad():
            output = run.model(run.embed([pair.question]), None if alone or pair.turn == 0 else memory)
        memory = output.memory
        scores = torch.nn.functional.normalize(output.query, dim=1) @ keys.T
        (first, second), (best, _) = scores[0].topk(2)
        features.append([float(first), float(first - second)])
        answer = torch.tensor([texts.index(pair.answer)])
        right.append(bool(relevant(opened.bank, run.embed([pair.answer]), answer, threshold=threshold)[0, best]))
    wanted = Confidence.fit(torch.tensor(features), torch.tensor(right), equivalence=threshold)
    assert opened.confidence.weights == pytest.approx(wanted.weights, rel=1e-2)
    assert opened.confidence.bias == pytest.approx(wanted.bias, rel=1e-2)
    assert other.confidence.weights != pytest.approx(wanted.weights, rel=3e-2)
    assert open_session(given, Console(quiet=True)).confidence == other.confidence


def test_another_number_of_steps_has_a_confidence_of_its_own(talking: Path) -> None:
    run = FinishedRun.load(talking)
    bank = run.bank()
    own = run.confidence(bank)
    assert run.confidence(bank, num_steps=run.model.num_steps[1]) == own
    more = run.confidence(bank, num_steps=5)
    run.model.num_steps = (5, 5)
    features, right = run._judged(bank, run.pairs.validation, run.equivalence_threshold())
    assert more == Confidence.fit(features, right, equivalence=run.equivalence_threshold()) != own


def test_blank_questions_and_no_answers_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="blank"):
        session(folder).ask("  ")
    with pytest.raises(ValueError, match="top must be at least 1, got 0"):
        session(folder, top=0)


def test_every_question_has_a_memory_or_none(folder: Path) -> None:
    for memories in ([None], [None] * 3):
        with pytest.raises(ValueError, match=f"for each of 2 questions, got {len(memories)}"):
            session(folder).answer(["How?", "Why?"], memories)
        with pytest.raises(ValueError, match=f"for each of 2 questions, got {len(memories)}"):
            session(folder).hear(["How?", "Why?"], memories)


def test_a_precision_is_refused_before_anything_is_embedded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FinishedRun.load(folder)
    bank = run.bank()
    monkeypatch.setattr(FinishedRun, "embed", lambda *_: pytest.fail("embedded"))
    with pytest.raises(ValueError, match="precision must lie between 0 and 1, got 80"):
        run.confidence(bank, precision=80)
