"""The answer bank against comparisons in float64, and what counts as a right answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cellgraph.answering import AnswerBank, Lexical
from cellgraph.answering.bank import read_answers
from cellgraph.answering.relevance import equivalence_threshold, relevant
from cellgraph.data import QAPair
from cellgraph.retrieval import Blend, first_right


def cosines(x: Tensor, y: Tensor) -> np.ndarray:
    a, b = x.double().numpy(), y.double().numpy()
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


def test_nearest_answers_are_those_of_float64() -> None:
    embeddings, queries = torch.randn(300, 24) * 3, torch.randn(20, 24)
    bank = AnswerBank([f"answer {i}" for i in range(300)], embeddings)
    expected = cosines(queries, embeddings)
    for row, found in zip(expected, bank.nearest(queries, k=7), strict=True):
        best = np.argsort(-row)[:7]
        assert [candidate.text for candidate in found] == [f"answer {i}" for i in best]
        assert [candidate.score for candidate in found] == pytest.approx(row[best].tolist(), abs=1e-6)
        assert [candidate.rank for candidate in found] == list(range(1, 8))


def test_equal_answers_are_one() -> None:
    embeddings = torch.randn(4, 8)
    embeddings[3] = embeddings[1]
    bank = AnswerBank(["Yes.", "No.", "yes. ", "another text with the same embedding"], embeddings)
    assert bank.texts == ["Yes.", "No."]
    assert bank.position.tolist() == [0, 1, 0, 1]
    assert bank.left_out == 1
    assert len(bank.nearest(embeddings[:1], k=9)[0]) == 2


def test_answers_without_an_embedding_are_told_apart_by_their_texts() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, -0.0], [0.0, 0.0]])
    bank = AnswerBank(["Ant.", "Zanzibar", "Xylophone", "zanzibar"], embeddings)
    assert bank.texts == ["Ant.", "Zanzibar", "Xylophone"]
    assert bank.position.tolist() == [0, 1, 2, 1]
    assert bank.left_out == 0
    found = Lexical(bank, Blend(1.0)).nearest("Which xylophone?", bank.scores(torch.zeros(1, 2)), bank, k=1)
    assert [candidate.text for candidate in found] == ["Xylophone"]


def test_embeddings_are_kept_as_they_were_given() -> None:
    embeddings = torch.randn(200, 24) * torch.logspace(-3, 3, 200)[:, None]
    bank = AnswerBank([f"{i}" for i in range(200)], embeddings)
    assert torch.equal(bank.raw, embeddings)
    keyed = bank.by(lambda answers: answers @ torch.ones(24, 5))
    assert torch.equal(keyed.raw, embeddings)
    # So an answer that is given once more is the same answer, whatever its words.
    again = AnswerBank([*bank.texts, "other words"], torch.cat([bank.raw, embeddings[7:8]]))
    assert int(again.position[-1]) == 7


@pytest.mark.parametrize("approximate", [False, True])
def test_keys_with_a_gradient_are_kept_without(approximate: bool) -> None:
    if approximate:
        pytest.importorskip("faiss", reason="faiss is not installed")
    torch.manual_seed(0)
    key, embeddings = torch.nn.Linear(6, 6), torch.randn(9, 6)
    found = AnswerBank([f"answer {n}" for n in range(9)], embeddings.requires_grad_(), approximate=approximate).by(key)
    assert not found.embeddings.requires_grad
    assert len(found.fingerprint) == 64
    own = torch.nn.functional.normalize(key(embeddings), dim=1).detach()
    assert [row[0].text for row in found.nearest(own, k=1)] == [f"answer {n}" for n in range(9)]


def test_a_graph_finds_what_comparing_with_all_finds() -> None:
    pytest.importorskip("faiss")
    texts, embeddings, queries = [f"{i}" for i in range(3000)], torch.randn(3000, 32), torch.randn(200, 32)
    exact, graph = AnswerBank(texts, embeddings), AnswerBank(texts, embeddings, approximate=True)
    assert graph.approximate
    assert not exact.approximate
    (score, position), (near, found) = exact.search(queries, k=5), graph.search(queries, k=5)
    shared = [len(set(a) & set(b)) / 5 for a, b in zip(position.tolist(), found.tolist(), strict=True)]
    assert np.mean(shared) > 0.97
    same = position == found
    assert torch.allclose(score[same], near[same], atol=1e-5)


def test_what_a_graph_does_not_reach_is_found_by_comparing_with_all() -> None:
    embeddings, queries = torch.randn(40, 8), torch.randn(6, 8)
    expected = cosines(queries, embeddings)

    class Torn:
        """A graph that falls apart: of some questions it reaches one answer, or none."""

        def search(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
            position = np.argsort(-expected, axis=1)[:, :k]
            score = np.take_along_axis(expected, position, axis=1).astype(np.float32)
            for row, reached in ((1, 1), (4, 0)):
                score[row, reached:], position[row, reached:] = -np.finfo(np.float32).max, -1
            return score, position

    graph = AnswerBank([f"{i}" for i in range(40)], embeddings)
    graph._index = Torn()
    score, position = graph.search(queries, k=3)
    assert position.tolist() == np.argsort(-expected, axis=1)[:, :3].tolist()
    np.testing.assert_allclose(score, -np.sort(-expected, axis=1)[:, :3], atol=1e-6)
    assert [len(found) for found in graph.nearest(queries, k=3)] == [3] * 6


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ValueError, match=r"pip install cellgraph\[faiss\]"):
        AnswerBank(["a", "b"], torch.eye(2), approximate=True)


def test_what_makes_no_bank() -> None:
    with pytest.raises(ValueError, match="one embedding for each of 2 answers"):
        AnswerBank(["a", "b"], torch.eye(3))
    with pytest.raises(ValueError, match="at least 2 distinct answers, got 1"):
        AnswerBank(["a", "A"], torch.eye(2))
    with pytest.raises(ValueError, match="at least 2 distinct answers, got 1 and 2 more with the same embedding"):
        AnswerBank(["a", "b", "A", "c"], torch.ones(4, 2))
    with pytest.raises(ValueError, match="finite"):
        AnswerBank(["a", "b"], torch.eye(2) * torch.nan)
    assert AnswerBank(["a \ud83d", "b"], torch.eye(2)).texts == ["a \N{REPLACEMENT CHARACTER}", "b"]
    bank = AnswerBank(["a", "b"], torch.eye(2))
    with pytest.raises(ValueError, match="k >= 1"):
        bank.search(torch.eye(2), k=0)
    assert bank.fingerprint != AnswerBank(["a", "c"], torch.eye(2)).fingerprint


def test_answers_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("first\n\n second \n")
    (tmp_path / "rows.jsonl").write_text('{"answer": "one"}\n{"answer": "two"}\n')
    (tmp_path / "rows.csv").write_text("answer,more\none,1\ntwo,2\n")
    (tmp_path / "empty.txt").write_text(" \n")
    assert read_answers(tmp_path / "lines.txt") == ["first", "second"]
    # White space that some take for the end of a line is none.
    (tmp_path / "lines.txt").write_bytes("a\u2028b\x0cc\x85d\x1ee\u2029f\x0bg\r\nh\ri\n".encode())
    assert read_answers(tmp_path / "lines.txt") == ["a\u2028b\x0cc\x85d\x1ee\u2029f\x0bg", "h", "i"]
    (tmp_path / "other.csv").write_text("answer,turn,topic,topic\none,left,a,b\n")
    assert read_answers(tmp_path / "other.csv") == ["one"]
    assert read_answers(tmp_path / "rows.jsonl") == read_answers(tmp_path / "rows.csv") == ["one", "two"]
    with pytest.raises(ValueError, match="empty"):
        read_answers(tmp_path / "empty.txt")
    # A folder is read as training reads it, or told of as there.
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"folder: expected a folder of .yml or .yaml dialogues, found none"):
        read_answers(tmp_path / "folder")
    (tmp_path / "folder" / "a.yml").write_text("conversations:\n- [Hi, Hello, Bye]\n")
    assert read_answers(tmp_path / "folder") == ["Hello", "Bye"]
    with pytest.raises(OSError, match="nowhere"):
        read_answers(tmp_path / "nowhere.txt")


def test_strangers_set_the_threshold() -> None:
    pairs = [QAPair(f"question {i}", f"answer {i}", topic=f"topic {i // 4}") for i in range(80)]
    answers = torch.randn(80, 6)
    similarity = cosines(answers, answers)
    nearest = [max(similarity[i, j] for j in range(80) if i // 4 != j // 4) for i in range(80)]
    assert equivalence_threshold(pairs, answers) == pytest.approx(np.quantile(nearest, 0.99), abs=1e-6)
    assert equivalence_threshold(pairs, answers, accidents=0.5) == pytest.approx(np.median(nearest), abs=1e-6)
    one_topic = [QAPair(pair.question, pair.answer, topic="one") for pair in pairs]
    assert equivalence_threshold(one_topic, answers) == 1.0


def test_rank_of_the_first_right_answer() -> None:
    scores, right = torch.randn(50, 30).round(decimals=1), torch.rand(50, 30) < 0.1
    right[0] = False
    for found, row, good in zip(first_right(scores, right).tolist(), scores.tolist(), right.tolist(), strict=True):
        if not any(good):
            assert found == float("inf")
            continue
        best = max(score for score, is_right in zip(row, good, strict=True) if is_right)
        wrong = [score for score, is_right in zip(row, good, strict=True) if not is_right]
        assert found == 1 + sum(s > best for s in wrong) + sum(s == best for s in wrong) / 2


def test_right_are_the_true_answer_and_its_like() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.0]])
    bank = AnswerBank(list("abcd"), embeddings)
    right = relevant(bank, embeddings[[0, 2]], torch.tensor([0, 2]), threshold=0.95)
    assert right.tolist() == [[True, True, False, False], [False, False, True, False]]
    # Its own answer is right whatever the threshold.
    assert relevant(bank, embeddings[:1], torch.tensor([0]), threshold=2.0).tolist() == [[True, False, False, False]]
