"""``cellgraph data generate`` as a user has it, against a server that fails in all ways."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fake_model import KEY, MODEL, FakeModel, serving
from processes import command, environment, run_inside

PLAN = """
pairs: 12
categories:
  nature: [rivers, stones, birds]
  craft: [{topic: knots, pairs: 5}, weaving]
"""
#: Pairs that the plan wants.
WANTED = 53
#: All ways of failing after which the same request may be made again, or the same asked once more.
PASSING = (
    *("429", "429 after", "429 date", "500", "503 after", "529", "drop", "half", "slow"),
    *("html", "list", "other object", "truncated JSON", "no JSON"),
)
APIS = ("openai", "anthropic")


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


def options(server: FakeModel, api: str = "openai", *more: object) -> list[object]:
    url = f"{server.url}/v1" if api == "openai" else server.url
    waits = ["--first-wait", 0.01, "--timeout", 0.5]
    return ["pairs.jsonl", "--model", MODEL, "--api", api, "--base-url", url, "--plan", "plan.yaml", *waits, *more]


def generate(folder: Path, server: FakeModel, api: str = "openai", *more: object) -> subprocess.CompletedProcess[str]:
    (folder / "plan.yaml").write_text(PLAN)
    return run_inside(folder, "data", "generate", *options(server, api, *more))


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The line that a failed command ends with, which is the only one after what it was about to do."""
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert all(" wanted of " in line for line in told[:-1])
    assert told[-1].startswith("cellgraph data: ")
    return told[-1]


@pytest.fixture(scope="module", params=APIS)
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """An API, and the file of pairs if nothing goes wrong."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        patch.setenv("ANTHROPIC_API_KEY", KEY)
        done = generate(folder, server, request.param)
    assert done.returncode == 0, done.stderr
    return request.param, (folder / "pairs.jsonl").read_bytes()


def test_the_plan_is_fulfilled(undisturbed: tuple[str, bytes]) -> None:
    rows = [json.loads(line) for line in undisturbed[1].splitlines()]
    assert all(list(row) == ["question", "answer", "category", "topic"] for row in rows)
    counts = Counter((row["category"], row["topic"]) for row in rows)
    nature = {("nature", topic): 12 for topic in ("rivers", "stones", "birds")}
    assert counts == {**nature, ("craft", "knots"): 5, ("craft", "weaving"): 12}
    assert len({row["question"].lower() for row in rows}) == len(rows) == WANTED
    assert all("é" in row["answer"] for row in rows)


@pytest.mark.parametrize("fault", PASSING)
def test_a_failure_now_and_then_changes_nothing(undisturbed: tuple[str, bytes], tmp_path: Path, fault: str) -> None:
    api, pairs = undisturbed
    with serving(lambda number: fault if number % 6 == 2 else "") as server:
        done = generate(tmp_path, server, api)
    assert server.faults[fault] >= 1
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pairs.jsonl").read_bytes() == pairs
    unreadable = fault in ("truncated JSON", "no JSON")
    assert ("replies could not be used" if unreadable else "made again after failures: ") in done.stdout


@pytest.mark.parametrize("api", APIS)
def test_after_a_reply_that_was_too_long_less_is_asked_for(tmp_path: Path, api: str) -> None:
    with serving(lambda number: "cut off" if number < 2 else "") as server:
        done = generate(tmp_path, server, api, "--concurrency", 1)
    assert [prompt.split()[1] for prompt in server.prompts[:3]] == ["8", "4", "2"]
    assert "it was cut off at the limit of tokens" in server.prompts[1]
    assert len((tmp_path / "pairs.jsonl").read_text().splitlines()) == WANTED
    assert "2 replies could not be used" in done.stdout


@pytest.mark.parametrize("concurrency", [1, 3, 9])
def test_the_file_does_not_depend_on_what_is_asked_at_once(
    undisturbed: tuple[str, bytes], tmp_path: Path, concurrency: int
) -> None:
    api, pairs = undisturbed
    with serving(seconds=0.02) as server:
        generate(tmp_path, server, api, "--concurrency", concurrency)
    assert (tmp_path / "pairs.jsonl").read_bytes() == pairs
    assert server.most_together == min(concurrency, 5)  # there are five topics


@pytest.mark.parametrize("budget", [1, 4, 7])
def test_a_budget_of_requests_is_kept_and_said_and_gone_on_from(
    undisturbed: tuple[str, bytes], tmp_path: Path, budget: int
) -> None:
    api, pairs = undisturbed
    with serving(lambda number: "500" if number == 2 else "") as server:
        done = generate(tmp_path, server, api, "--max-requests", budget)
        assert len(server.prompts) == budget
        assert done.returncode == 0
        assert f"stopped: the budget of {budget} requests is spent; " in done.stdout
        assert f"--max-requests {budget}" in done.stdout.splitlines()[-1]
        there = (tmp_path / "pairs.jsonl").read_bytes() if (tmp_path / "pairs.jsonl").exists() else b""
        assert pairs.startswith(there)
        again = generate(tmp_path, server, api, "--max-requests", budget)
        assert len(server.prompts) == budget
        assert "0 new pairs" in again.stdout
        assert generate(tmp_path, server, api).returncode == 0
    assert (tmp_path / "pairs.jsonl").read_bytes() == pairs
    # What had been replied was not asked again.
    assert len(set(server.prompts)) == len(server.prompts) - server.faults["500"]


def test_a_budget_of_tokens_is_never_passed(undisturbed: tuple[str, bytes], tmp_path: Path) -> None:
    api, pairs = undisturbed
    with serving() as server:
        done = generate(tmp_path, server, api, "--max-tokens", 4000, "--reply-tokens", 800)
        assert "stopped: the budget of 4,000 tokens is spent: " in done.stdout
        asked, replied = re.search(r"requests, ([\d,]+) tokens asked, ([\d,]+) replied", done.stdout).groups()
        used = int(asked.replace(",", "")) + int(replied.replace(",", ""))
        assert used == server.tokens
        assert 2000 < used <= 4000
        assert pairs.startswith((tmp_path / "pairs.jsonl").read_bytes())
        assert 0 < len(server.prompts) < 9


def test_a_rate_is_kept(tmp_path: Path) -> None:
    with serving() as server:
        generate(tmp_path, server, "openai", "--per-minute", 900)
    steps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert len(steps) > 5
    # A request is a little while on its way, and not always the same while.
    assert sum(steps) / len(steps) > 0.95 * 60 / 900


def test_a_server_that_repeats_itself_comes_to_an_end(tmp_path: Path) -> None:
    with serving(lambda number: "repeat") as server:
        done = generate(tmp_path, server, "openai", "--patience", 2)
    assert done.returncode == 0
    questions = [json.loads(line)["question"] for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert len(questions) == len({question.lower() for question in questions}) <= 8
    assert "repeated a pair" in done.stdout
    assert "nothing new came any more of: " in done.stdout
    assert len(server.prompts) <= 5 * 3


@pytest.mark.parametrize("fault", ["no JSON", "truncated JSON"])
def test_a_model_that_cannot_keep_the_form_comes_to_an_end(tmp_path: Path, fault: str) -> None:
    with serving(lambda number: fault) as server:
        done = generate(tmp_path, server, "openai", "--patience", 2, "--tries", 3)
    assert done.returncode == 0
    assert len(server.prompts) == 5 * 2 * 3
    assert "30 replies could not be used" in done.stdout
    assert "Your last reply could not be used: it " in server.prompts[-1]


@pytest.mark.parametrize(
    ("fault", "said"), [("500", "answered 500"), ("html", "answered nonsense"), ("drop", "no connection")]
)
def test_a_server_that_is_down_is_told_and_gone_on_from(
    undisturbed: tuple[str, bytes], tmp_path: Path, fault: str, said: str
) -> None:
    api, pairs = undisturbed
    with serving(lambda number: fault if number >= 4 else "") as server:
        done = generate(tmp_path, server, api, "--retries", 2)
        assert "given up after 3 requests that failed: " in one_line(done)
        assert "nothing is lost, the same command goes on" in one_line(done)
        assert said in one_line(done)
        assert len(server.prompts) < 4 + 4 * 3 + 1
    assert pairs.startswith((tmp_path / "pairs.jsonl").read_bytes())
    with serving() as server:
        assert generate(tmp_path, server, api).returncode == 0
    assert (tmp_path / "pairs.jsonl").read_bytes() == pairs


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("401", "refuses the key in "),
        ("400", "refuses the request (400"),
        ("429 for an hour", "it asks to be left alone for 3,600 s, too long to wait for"),
    ],
)
@pytest.mark.parametrize("api", APIS)
def test_what_cannot_be_mended_by_asking_again_is_told_at_once(tmp_path: Path, api: str, fault: str, said: str) -> None:
    with serving(lambda number: fault) as server:
        done = generate(tmp_path, server, api)
    assert said in one_line(done)
    assert len(server.prompts) <= 4


@pytest.mark.parametrize("api", APIS)
def test_a_wrong_model(tmp_path: Path, api: str) -> None:
    with serving() as server:
        done = generate(tmp_path, server, api, "--model", "fake-9")
    assert "knows no model 'fake-9'" in one_line(done)


@pytest.mark.parametrize(("api", "variable"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")])
def test_a_missing_key(tmp_path: Path, api: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(variable)
    done = run_inside(tmp_path, "data", "generate", "pairs.jsonl", "--model", "x", "--api", api)
    assert one_line(done) == f"cellgraph data: no key: set the environment variable {variable}"
    assert not (tmp_path / "pairs.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plan", "nowhere.yaml"], "No such file or directory: 'nowhere.yaml'"),
        (["--plan", "bad.yaml"], "bad.yaml: categories must map names to topics"),
        (["--category", "art"], "the plan has no category 'art'"),
        (["--examples", "nowhere.csv"], "nowhere.csv"),
        (["--against", "bad.yaml"], "bad.yaml"),
        (["--near", "2"], "threshold must be above 0 and at most 1, got 2"),
        (["--batch", "0"], "batch must be at least 1, got 0"),
        (["--max-requests", "-1"], "budget of requests must not be negative, got -1"),
        (["--per-minute", "0"], "per_minute must be above 0, got 0"),
        (["--timeout", "0"], "a reply needs tokens and time"),
    ],
)
def test_what_was_given_wrongly_is_told_in_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "bad.yaml").write_text("pairs: 3\n")
    with serving() as server:
        done = generate(tmp_path, server, "openai", *arguments)
    assert said in one_line(done)
    assert not server.prompts


@pytest.mark.slow
def test_the_disk_is_full_and_nothing_is_lost(undisturbed: tuple[str, bytes], tmp_path: Path) -> None:
    api, pairs = undisturbed
    (tmp_path / "plan.yaml").write_text(PLAN)
    with serving() as server:
        for kilobytes in (5, 11, 17):
            done = subprocess.run(
                command("data", "generate", *options(server, api)),
                cwd=tmp_path,
                env=environment(tmp_path),
                capture_output=True,
                text=True,
                check=False,
                # A file may not grow beyond that: the system ends a write in the middle, as on a full disk.
                preexec_fn=lambda size=kilobytes << 10: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
            )
            assert "cannot write pairs.jsonl" in one_line(done)
            assert (tmp_path / "pairs.jsonl.record").read_bytes().endswith(b"\n")
        assert generate(tmp_path, server, api).returncode == 0
    assert (tmp_path / "pairs.jsonl").read_bytes() == pairs


def test_what_is_there_counts_and_is_not_repeated(undisturbed: tuple[str, bytes], tmp_path: Path) -> None:
    api, pairs = undisturbed
    rows = [json.loads(line) for line in pairs.splitlines()]
    own = [
        {"question": f"Own {number}?", "answer": "Yes.", "category": "craft", "topic": "knots"} for number in range(5)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    # Of the pairs that the server has for its first prompts, the first is there elsewhere.
    (tmp_path / "elsewhere.csv").write_text(f"question,answer\n{rows[0]['question']},No.\n")
    with serving() as server:
        done = generate(tmp_path, server, api, "--against", "elsewhere.csv")
    assert "48 new pairs, 53 in pairs.jsonl" in done.stdout
    new = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert new[:5] == own
    assert rows[0]["question"] not in {row["question"] for row in new}
    assert not any("Topic: knots" in prompt for prompt in server.prompts)


def test_the_prompt_shows_the_style_and_what_was_asked(tmp_path: Path) -> None:
    (tmp_path / "style.csv").write_text("question,answer\nHow is style shown?,By example.\n")
    with serving() as server:
        generate(tmp_path, server, "openai", "--examples", "style.csv", "--category", "craft", "--batch", 4)
    assert all('{"question": "How is style shown?", "answer": "By example."}' in prompt for prompt in server.prompts)
    assert all("Category: craft" in prompt for prompt in server.prompts)
    questions = [json.loads(line)["question"] for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    # Knots come first; the second prompt for them names what the first has brought.
    later = [prompt for prompt in server.prompts if "Topic: knots" in prompt][1]
    assert f"- {questions[0]}" in later.splitlines()


def test_the_first_prompt_is_shown_without_asking(tmp_path: Path) -> None:
    with serving() as server:
        done = generate(tmp_path, server, "openai", "--show-prompt")
    assert "Topic: rivers" in done.stdout
    assert not server.prompts
    assert not (tmp_path / "pairs.jsonl").exists()


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "fault", ["401", pytest.param("500", marks=pytest.mark.slow), pytest.param("", marks=pytest.mark.slow)]
)
def test_the_key_is_nowhere(tmp_path: Path, api: str, fault: str) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    noisy = {"OPENAI_LOG": "debug", "ANTHROPIC_LOG": "debug"}
    with serving(lambda number: fault) as server:
        done = subprocess.run(
            command("data", "generate", *options(server, api, "--retries", 1)),
            cwd=tmp_path,
            env=environment(tmp_path) | noisy,
            capture_output=True,
            text=True,
            check=False,
        )
    assert server.keys
    assert done.returncode == (1 if fault else 0)
    for path in tmp_path.rglob("*"):
        if path.is_file() and "operators" not in path.parts:
            assert KEY.encode() not in path.read_bytes()
    # The clients' own log, which somebody has to ask for, holds what the server said, the key that it repeats included.
    told = [line for line in (done.stdout + done.stderr).splitlines() if "- DEBUG]" not in line]
    assert KEY not in "\n".join(told)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    with serving(seconds=0.3) as server, started(tmp_path, server) as first:
        wait_for(lambda: len(server.prompts) > 0)
        assert "pairs.jsonl is being written by another process" in one_line(generate(tmp_path, server))
        assert first.wait(60) == 0


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal_it_says_how_to_go_on(
    undisturbed: tuple[str, bytes], tmp_path: Path, signum: signal.Signals
) -> None:
    api, pairs = undisturbed
    (tmp_path / "plan.yaml").write_text(PLAN)
    with serving(seconds=0.3) as server:
        with started(tmp_path, server, api) as process:
            wait_for(lambda: len(server.prompts) > 5)
            process.send_signal(signum)
            _, told = process.communicate(timeout=20)
        assert process.returncode == 128 + signum
        assert "nothing is lost, go on with: cellgraph data generate pairs.jsonl" in told
        assert "Traceback" not in told
        assert len(told.splitlines()) == 2
    with serving() as server:
        assert generate(tmp_path, server, api).returncode == 0
    assert (tmp_path / "pairs.jsonl").read_bytes() == pairs


def started(folder: Path, server: FakeModel, api: str = "openai", *more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("data", "generate", *options(server, api, *more), "--timeout", 20),
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["tell"]])
def test_the_group_without_a_command_tells_its_commands(arguments: list[str]) -> None:
    code = f"import sys; sys.argv = ['cellgraph', 'data', *{arguments}]\nfrom cellgraph.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == int(arguments == ["tell"])
    assert "generate" in done.stdout + done.stderr
