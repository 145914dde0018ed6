"""`cellgraph serve` as a process: what it takes, how it ends, what it refuses, and 200 clients at once."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import command, environment, run_inside
from served import ANIMALS, PLACES, post, request, small_run

from cellgraph.answering import FinishedRun, Session
from cellgraph.benchmarks.serving import load
from cellgraph.teacher import EmbeddingCache

QUESTIONS = [f"Where does the {a} of the {p} sleep?" for a in ANIMALS for p in PLACES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("job") / "run")


class Serving:
    """A process that serves, and what it says."""

    def __init__(self, folder: Path, *options: object, code: str = "") -> None:
        start = command("serve", folder, "--port", 0, *options)
        self.process = subprocess.Popen(
            [*start[:2], code or start[2], *start[3:]],
            cwd=folder.parent,
            env=environment(folder.parent),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.said = ""
        while (found := re.search(r"serving at http://127\.0\.0\.1:(\d+)", self.said)) is None:
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line
        self.port = int(found[1])

    def end(self, signum: int = signal.SIGTERM) -> tuple[int, str]:
        """Its status, and what it said at the end."""
        self.process.send_signal(signum)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.fixture(scope="module")
def serving(folder: Path) -> Iterator[Serving]:
    it = Serving(folder, "--top", 3)
    yield it
    if it.process.poll() is None:
        it.process.kill()
        it.process.communicate()


def test_it_answers_what_ask_prints(folder: Path, serving: Serving) -> None:
    printed = run_inside(folder.parent, "ask", folder, QUESTIONS[0], "--json", "--top", 3)
    wanted = json.loads(printed.stdout)
    status, _, found = post(serving.port, "/ask", {"question": QUESTIONS[0]})
    assert status == 200
    assert list(found) == list(wanted)
    assert [each.keys() for each in found["answers"]] == [each.keys() for each in wanted["answers"]]
    assert [each["text"] for each in found["answers"]] == [each["text"] for each in wanted["answers"]]
    scores = [each["score"] for each in wanted["answers"]]
    assert [each["score"] for each in found["answers"]] == pytest.approx(scores, abs=1e-6)
    assert found["confidence"] == pytest.approx(wanted["confidence"], abs=1e-6)


def test_nothing_is_lost_of_200_clients_at_once(folder: Path, serving: Serving) -> None:
    run = FinishedRun.load(folder, EmbeddingCache(folder / "cache"))
    bank = run.bank()
    session = Session(run.model, run.teacher, bank, run.confidence(bank), top=3)
    wanted = {question: session.ask(question) for question in QUESTIONS}
    answered = load(serving.port, QUESTIONS, clients=200, each=3)
    assert answered.errors == []
    assert len(answered.seconds) == 600
    assert answered.refused == 0
    assert {question: len(replies) for question, replies in answered.found.items()} == dict.fromkeys(QUESTIONS, 15)
    for question, replies in answered.found.items():
        for reply in replies:
            assert reply["question"] == question
            assert [each["text"] for each in reply["answers"]] == [each.text for each in wanted[question].answers]
            assert reply["confidence"] == pytest.approx(wanted[question].confidence, abs=1e-5)


@pytest.mark.slow
def test_a_full_queue_refuses_and_loses_nothing(folder: Path) -> None:
    serving = Serving(folder, "--max-queue", 8, "--max-batch", 4)
    answered = load(serving.port, QUESTIONS, clients=60, each=2)
    assert answered.errors == []
    assert sum(map(len, answered.found.values())) == 120
    assert answered.refused > 0
    told = request(serving.port, "GET", "/metrics")[2].decode()
    assert f'cellgraph_requests_total{{path="/ask",status="503"}} {answered.refused}.0' in told
    assert 'cellgraph_requests_total{path="/ask",status="200"} 120.0' in told
    assert serving.end()[0] == 0


#: The command, each of whose batches takes its time.
SLOW = """
import time
from cellgraph.answering import Session
answer = Session.answer
Session.answer = lambda *given: (time.sleep(0.15), answer(*given))[1]
from cellgraph.cli import main
main()
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_questions_in_flight_are_answered_at_the_end(folder: Path, signum: int) -> None:
    serving = Serving(folder, "--max-batch", 1, code=SLOW)
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda each=each: found.append(post(serving.port, "/ask", {"question": each})))
        for each in QUESTIONS[:20]
    ]
    for thread in threads:
        thread.start()
    end, come = time.monotonic() + 20, 0.0
    # All but the one that is worked on wait or have been answered.
    while come < 19:
        told = request(serving.port, "GET", "/metrics")[2].decode()
        come = sum(
            map(float, re.findall(r"^(?:cellgraph_waiting|cellgraph_batch_size_sum) (\S+)$", told, re.MULTILINE))
        )
        assert time.monotonic() < end
    assert len(found) < 15
    status, said = serving.end(signum)
    for thread in threads:
        thread.join(30)
    assert status == 0, said
    assert said.splitlines() == ["ended; all questions that came were answered"]
    assert [one[0] for one in found] == [200] * 20
    assert sorted(one[2]["question"] for one in found) == sorted(QUESTIONS[:20])
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", serving.port), timeout=5).close()


@pytest.mark.slow
def test_whoever_does_not_read_holds_nobody_up_for_ever(folder: Path) -> None:
    serving = Serving(folder, "--max-grace", 1)
    with (
        socket.create_connection(("127.0.0.1", serving.port)) as idle,
        socket.create_connection(("127.0.0.1", serving.port)) as half,
    ):
        half.sendall(b"POST /ask HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert post(serving.port, "/ask", {"question": QUESTIONS[0]})[0] == 200
        begin = time.monotonic()
        status, said = serving.end()
        # It is said that one was, and nothing else.
        assert (status, said.splitlines()) == (0, ["ended; 1 request was cut off after 1 s"])
        assert time.monotonic() - begin < 20
        assert idle.fileno() > 0


@pytest.mark.slow
def test_questions_that_are_cut_off_are_told_so(folder: Path) -> None:
    serving = Serving(folder, "--max-grace", 1, "--max-batch", 1, code=SLOW.replace("0.15", "3"))
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda each=each: found.append(post(serving.port, "/ask", {"question": each})))
        for each in QUESTIONS[:3]
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 20
    while "cellgraph_waiting 2.0" not in request(serving.port, "GET", "/metrics")[2].decode():
        assert time.monotonic() < end
    status, said = serving.end()
    for thread in threads:
        thread.join(30)
    assert (status, said.splitlines()) == (0, ["ended; 3 requests were cut off after 1 s"])
    assert [(status, content) for status, _, content in found] == [(503, {"detail": "the server has ended"})] * 3


HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nowhere"], "nowhere is no folder of a finished run of questions and answers: model/config.json is missing"),
        (["run", "--port", "70000"], "port must be between 0 and 65535, got 70000"),
        (["run", "--host", "no.such.host.example."], "cannot serve at no.such.host.example.: "),
        (["run", "--host", "192.0.2.1"], "of 192.0.2.1: Cannot assign requested address; try another"),
        (["run", "--max-queue", "0"], "queue must be at least 1, got 0"),
        (["run", "--decoder", "both"], "has no generative decoder yet"),
        (["run", "--onnx", "no.onnx"], "No such file or directory: 'no.onnx'"),
        pytest.param(
            ["run", "--onnx", "text.onnx"],
            "text.onnx is no model that onnxruntime can read: ",
            marks=pytest.mark.skipif(not HAS_ONNX, reason="onnxruntime is not installed (extra onnx)"),
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder: Path, options: list[str], said: str) -> None:
    (folder.parent / "text.onnx").write_text("this is none")
    done = run_inside(folder.parent, "serve", *options)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("cellgraph serve: ")
    assert said in line
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_named(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_inside(folder.parent, "serve", folder, "--port", port)
    assert done.returncode == 1
    wanted = f"cellgraph serve: cannot serve at port {port} of 127.0.0.1: Address already in use; try another --port"
    assert done.stderr.splitlines() == [wanted]


def test_what_is_not_installed_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "uvicorn" else found(name, *more)
    )
    done = run_inside(folder.parent, "serve", folder)
    assert done.stderr.splitlines() == ["cellgraph serve: serving needs uvicorn: pip install cellgraph[serve]"]
