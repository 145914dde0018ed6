"""What is answered over HTTP: the numbers of a session, whoever asks at the same moment, and refusals in a line."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from served import ANIMALS, PLACES, post, request, served, small_run

from cellgraph.answering import FinishedRun, Lexical, Session
from cellgraph.retrieval.blend import Blend
from cellgraph.sequence import SequenceGraph
from cellgraph.serving.app import create_app
from cellgraph.serving.limits import Limits
from cellgraph.serving.respondent import Asked, Respondent
from cellgraph.serving.server import LOCAL
from cellgraph.teacher import EmbeddingCache

QUESTIONS = [f"Where does the {a} of the {p} sleep?" for a in ANIMALS for p in PLACES]
#: What one question and many together may differ by: sums in float32 of other orders.
TOLERANCE = 1e-5


def session_of(folder: Path, **options: Any) -> Session:
    run = FinishedRun.load(folder, EmbeddingCache(folder / "cache"))
    bank = run.bank()
    return Session(run.model, run.teacher, bank, run.confidence(bank), **{"top": 3, **options})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def remembering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("memory"), memory=2)


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    limits = Limits(chars=100, body=2000, turns=3)
    with served(create_app(Respondent(session_of(folder), limits), hosts=LOCAL)) as it:
        yield it


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Equal but for the times, and numbers up to the tolerance."""
    assert found.keys() == wanted.keys()
    assert found["seconds"].keys() == wanted["seconds"].keys()
    for name in ("answers", "teacher_answers"):
        assert [each["text"] for each in found[name]] == [each["text"] for each in wanted[name]]
        for one, other in zip(found[name], wanted[name], strict=True):
            assert one == pytest.approx(other, abs=TOLERANCE)
    assert found["confidence"] == pytest.approx(wanted["confidence"], abs=TOLERANCE)
    for name in ("question", "known", "generated", "num_steps"):
        assert found[name] == wanted[name]


def test_an_answer_is_that_of_ask_in_json(folder: Path, port: int) -> None:
    session = session_of(folder)
    for question in (QUESTIONS[0], "  who?\n", "\ud83d\ude00 \ud83d otter"):
        status, headers, found = post(port, "/ask", {"question": question})
        assert (status, headers["content-type"]) == (200, "application/json")
        same(found, json.loads(json.dumps(session.ask(question).to_dict())))


def test_questions_that_come_together_are_answered_as_each_alone(folder: Path) -> None:
    session = session_of(folder)
    wanted = {question: session.ask(question).to_dict() for question in QUESTIONS}
    respondent = Respondent(session_of(folder), Limits(batch=8))
    with served(create_app(respondent)) as port, ThreadPoolExecutor(20) as threads:
        for _ in range(2):
            for question, (status, _, found) in zip(
                QUESTIONS,
                threads.map(lambda question: post(port, "/ask", {"question": question}), QUESTIONS),
                strict=True,
            ):
                assert status == 200
                same(found, wanted[question])
        told = request(port, "GET", "/metrics")[2].decode()
    counted = dict(re.findall(r"^(cellgraph_batch_size_(?:sum|count)) ([\d.]+)$", told, re.MULTILINE))
    assert float(counted["cellgraph_batch_size_sum"]) == 80
    # They did come together.
    assert float(counted["cellgraph_batch_size_count"]) < 60


@pytest.mark.parametrize("kept", [2**20, 500, 0])
def test_dialogues_are_answered_as_sessions_that_heard_them(remembering: Path, kept: int) -> None:
    dialogues = [QUESTIONS[:4], QUESTIONS[2:6], QUESTIONS[:2] + QUESTIONS[7:9], QUESTIONS[9:10]]
    respondent = Respondent(session_of(remembering), Limits(memory=kept))
    alone = session_of(remembering).ask(dialogues[0][3]).to_dict()
    wanted = []
    for dialogue in dialogues:
        session = session_of(remembering)
        wanted.append([session.ask(question).to_dict() for question in dialogue])
    assert abs(alone["answers"][0]["score"] - wanted[0][3]["answers"][0]["score"]) > 100 * TOLERANCE
    # Last turns first: nobody has heard the others; and all together.
    turns = [(d, turn) for turn in (3, 0, 2, 1) for d, dialogue in enumerate(dialogues) if turn < len(dialogue)]
    asked = [Asked(dialogues[d][turn], tuple(dialogues[d][:turn])) for d, turn in turns]
    for batch in ([[each] for each in asked], [asked[:5], asked[5:]]):
        found = [answer for part in batch for answer in respondent.respond(part)]
        for answer, (d, turn) in zip(found, turns, strict=True):
            same(answer, wanted[d][turn])
        assert respondent.memories.num_bytes <= kept


def test_a_chain_over_turns_answers_dialogues_of_different_lengths_together(tmp_path: Path) -> None:
    folder = small_run(tmp_path)
    torch.manual_seed(1)
    network = SequenceGraph([{"kind": "gru", "hidden": 8}], in_features=8, width=8, over="turns")
    torch.nn.init.normal_(network.readout.weight)
    network.save_pretrained(folder / "model")
    respondent = Respondent(session_of(folder), Limits(memory=0))
    assert respondent.cube is None
    found = respondent.respond([Asked(QUESTIONS[turn], tuple(QUESTIONS[:turn])) for turn in (2, 0, 1, 2)])
    session = session_of(folder)
    wanted = [session.ask(QUESTIONS[turn]).to_dict() for turn in range(3)]
    session.reset()
    alone = session.ask(QUESTIONS[2])
    assert abs(alone.answers[0].score - wanted[2]["answers"][0]["score"]) > 100 * TOLERANCE
    for answer, turn in zip(found, (2, 0, 1, 2), strict=True):
        same(answer, wanted[turn])
    with pytest.raises(ValueError, match="cells of this network cannot be shown"):
        respondent.check(Asked("x", cells=True))


def test_limits_are_numbers_that_can_be() -> None:
    assert Limits(batch=np.int64(4)) == Limits(batch=4)  # type: ignore[arg-type]
    for wrong in ({"batch": 0}, {"turns": -1}, {"queue": True}, {"chars": 2.5}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            Limits(**wrong)  # type: ignore[arg-type]


def test_words_count_together_as_alone(folder: Path) -> None:
    run = FinishedRun.load(folder, EmbeddingCache(folder / "cache"))
    lexical = Lexical(run.bank(), Blend(0.4))
    session = session_of(folder, lexical=lexical)
    found = Respondent(session, Limits()).respond([Asked(question) for question in QUESTIONS[:5]])
    for question, answer in zip(QUESTIONS[:5], found, strict=True):
        same(answer, session.ask(question).to_dict())
        assert {"cosine", "bm25"} < answer["answers"][0].keys()


def test_what_ends_at_a_fixed_point_is_asked_alone(tmp_path: Path) -> None:
    folder = small_run(tmp_path, tolerance=1e-3)
    assert Respondent(session_of(folder), Limits(batch=8)).batch == 1
    session = session_of(folder)
    found, _ = session.answer(QUESTIONS[:6], [None] * 6)
    for question, answer in zip(QUESTIONS[:6], found, strict=True):
        same(answer.to_dict(), session.ask(question).to_dict())


def test_the_cells_are_those_of_the_rollout(folder: Path, port: int) -> None:
    run = FinishedRun.load(folder)
    with torch.no_grad():
        asked = run.teacher.encode([QUESTIONS[3]])
        states = run.model(asked, trajectory=True).trajectory[:, 0].double()
    wanted = states.pow(2).mean(-1).sqrt()
    status, _, found = post(port, "/cells", {"question": QUESTIONS[3]})
    assert status == 200
    assert found["shape"] == [3, 3, 3]
    torch.testing.assert_close(torch.tensor(found["steps"]).double(), wanted, rtol=1e-3, atol=1e-6)
    assert (found["question_layers"], found["answer_layers"]) == ([0], [2])


def test_health_tells_what_is_served(folder: Path, port: int) -> None:
    status, _, found = request(port, "GET", "/health")
    assert status == 200
    assert found["status"] == "ok"
    assert (found["answers"], found["remembers"], found["cells"]) == (40, False, [3, 3, 3])
    # Nothing of where it is.
    assert str(folder) not in json.dumps(found)


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        ({"question": " \n"}, 422, "expected a question, got a blank text"),
        ({"question": "x" * 101}, 422, "expected at most 100 characters, got 101"),
        ({"question": "x", "dialogue": ["y"]}, 422, "each question stands alone here: expected no dialogue"),
        ({"question": "x", "dialogue": ["y"] * 4}, 422, "expected at most 3 questions before, got 4"),
        ({"question": "x" * 3000}, 413, "expected at most 2000 bytes"),
        ({"question": 3}, 422, "question: Input should be a valid string"),
        ({"question": "x", "top": 3}, 422, "top: Extra inputs are not permitted"),
        ({}, 422, "question: Field required"),
        ([], 422, "body: "),
        (b"{", 422, "JSON decode error"),
        (b'{"question": "\xff"}', 400, "error parsing the body"),
        (b"", 422, "body: Field required"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(port: int, given: Any, status: int, said: str) -> None:
    found, headers, content = post(port, "/ask", given)
    assert (found, headers["content-type"]) == (status, "application/json"), content
    assert said in content["detail"]
    assert "\n" not in content["detail"]


def test_a_body_that_is_nested_deeply_is_refused(port: int) -> None:
    # By the interpreter's limit of recursion, or by the JSON's end where something has raised that limit.
    found, _, content = post(port, "/ask", b"[" * 1900)
    assert found in (400, 422)
    assert "error parsing the body" in content["detail"] or "JSON decode error" in content["detail"]
    assert "\n" not in content["detail"]


def test_a_body_that_does_not_say_its_size_is_measured(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    parts = iter([b'{"question": "', *[b"x" * 500] * 6, b'"}'])
    connection.request("POST", "/ask", parts, {"Content-Type": "application/json"}, encode_chunked=True)
    reply = connection.getresponse()
    assert (reply.status, json.loads(reply.read())["detail"]) == (413, "expected at most 2000 bytes")
    connection.close()


def test_pages_of_others_cannot_ask(port: int) -> None:
    # Their name, resolved to this machine; and a form, which browsers send without asking whether they may.
    assert request(port, "GET", "/health", Host="evil.example")[0] == 421
    assert request(port, "GET", "/health", Host=f"localhost:{port}")[0] == 200
    assert request(port, "GET", "/health", Host=f"[::1]:{port}")[0] == 200
    body = json.dumps({"question": "x"}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert request(port, "POST", "/ask", body, **{"Content-Type": kind})[0] == 422
    _, headers, _ = request(port, "GET", "/", Origin="http://evil.example")
    assert "access-control-allow-origin" not in {name.lower() for name in headers}
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_the_page_needs_nothing_from_elsewhere(port: int) -> None:
    for path, kind in (("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")):
        status, headers, content = request(port, "GET", path)
        assert (status, headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        assert b"http" not in content
        assert b"innerHTML" not in content
    assert request(port, "GET", "/docs")[0] == request(port, "GET", "/page/../app.py")[0] == 404


def test_metrics_are_read_by_prometheus(port: int) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    def counted() -> dict[tuple[str, str], float]:
        status, headers, content = request(port, "GET", "/metrics")
        assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
        families = {family.name: family for family in text_string_to_metric_families(content.decode())}
        assert {"cellgraph_request_seconds", "cellgraph_batch_size", "cellgraph_waiting"} <= families.keys()
        samples = families["cellgraph_requests"].samples
        return {(s.labels["path"], s.labels["status"]): s.value for s in samples if s.name.endswith("_total")}

    before = counted()
    for _ in range(3):
        post(port, "/ask", {"question": "x"})
    for number in range(4):
        request(port, "GET", f"/nowhere/{number}")
    after = counted()
    assert after["/ask", "200"] - before.get(("/ask", "200"), 0) == 3
    # Whoever asks for what is not there makes no new series.
    assert after["other", "404"] - before.get(("other", "404"), 0) == 4
    assert not any("nowhere" in path for path, _ in after)


def test_one_question_too_many_is_told_when_to_come_again(folder: Path) -> None:
    session = session_of(folder)
    held, goes = threading.Event(), threading.Event()
    answer = session.answer

    def slow(questions: Any, memories: Any) -> Any:
        held.set()
        assert goes.wait(20)
        return answer(questions, memories)

    session.answer = slow  # type: ignore[method-assign]
    app = create_app(Respondent(session, Limits(batch=1, queue=2)))
    with served(app) as port, ThreadPoolExecutor(3) as threads:
        first = threads.submit(post, port, "/ask", {"question": "first"})
        assert held.wait(20)
        waiting = [threads.submit(post, port, "/ask", {"question": name}) for name in ("second", "third")]
        while "cellgraph_waiting 2.0" not in request(port, "GET", "/metrics")[2].decode():
            assert not any(each.done() for each in waiting)
        status, headers, content = post(port, "/ask", {"question": "fourth"})
        assert status == 503
        assert int(headers["retry-after"]) >= 1
        assert content == {"detail": f"all places in the queue are taken, try again in {headers['retry-after']} s"}
        # What waits is answered, whoever was refused.
        goes.set()
        assert [each.result()[2]["question"] for each in (first, *waiting)] == ["first", "second", "third"]
        assert post(port, "/ask", {"question": "fourth"})[0] == 200


def test_a_question_that_fails_takes_no_others_with_it(folder: Path) -> None:
    session = session_of(folder)
    answer = session.answer

    def fails(questions: Any, memories: Any) -> Any:
        if "bad" in questions:
            raise RuntimeError("no such luck")
        return answer(questions, memories)

    session.answer = fails  # type: ignore[method-assign]
    with served(create_app(Respondent(session, Limits()))) as port, ThreadPoolExecutor(8) as threads:
        asked = ["bad" if number % 4 == 0 else f"good {number}" for number in range(16)]
        found = list(threads.map(lambda question: post(port, "/ask", {"question": question}), asked))
    assert [status for status, *_ in found] == [500 if question == "bad" else 200 for question in asked]
    assert {content["detail"] for status, _, content in found if status == 500} == {
        "this question could not be answered"
    }
    assert all(
        content["question"] == question for question, (s, _, content) in zip(asked, found, strict=True) if s == 200
    )


HEAD = "POST /ask HTTP/1.1\r\nHost: localhost\r\n"


def asking(question: str) -> bytes:
    """A whole request."""
    body = json.dumps({"question": question})
    return f"{HEAD}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def test_who_hangs_up_does_no_harm(port: int) -> None:
    for sent in (asking("x"), f"{HEAD}Content-Length: 100\r\n\r\n{{".encode(), b"GET / HT"):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(sent)
    assert post(port, "/ask", {"question": "x"})[0] == 200


def test_whoever_hangs_up_is_not_worked_for_and_gives_the_place_to_others(folder: Path) -> None:
    session = session_of(folder)
    held, goes = threading.Event(), threading.Event()
    answer, worked_for = session.answer, []

    def slow(questions: Any, memories: Any) -> Any:
        worked_for.extend(questions)
        held.set()
        assert goes.wait(20)
        return answer(questions, memories)

    session.answer = slow  # type: ignore[method-assign]
    app = create_app(Respondent(session, Limits(batch=1, queue=2)))
    with served(app) as port, ThreadPoolExecutor(3) as threads:

        def until(line: str) -> None:
            end = time.monotonic() + 20
            while line not in request(port, "GET", "/metrics")[2].decode():
                assert time.monotonic() < end, line

        first = threads.submit(post, port, "/ask", {"question": "first"})
        assert held.wait(20)
        for question in ("gone", "gone too"):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(asking(question))
                until("cellgraph_waiting 1.0")
            until("cellgraph_waiting 0.0")
        until('cellgraph_requests_total{path="/ask",status="499"} 2.0')
        # Both places in the queue are free.
        stays = [threads.submit(post, port, "/ask", {"question": question}) for question in ("second", "third")]
        until("cellgraph_waiting 2.0")
        goes.set()
        assert [each.result()[0] for each in (first, *stays)] == [200] * 3
    assert worked_for[0] == "first"
    assert sorted(worked_for[1:]) == ["second", "third"]
