"""Both clients against a server that fails in all ways: what is replied, and what is told of it, never the key."""

from __future__ import annotations

import asyncio
import json
import traceback
from typing import Any

import pytest
from fake_model import KEY, MODEL, pairs_of, serving

from cellgraph.data.generation import AnthropicClient, Client, OpenAIClient, Prompt, Reply
from cellgraph.data.generation.client import ModelError, TemporaryError
from cellgraph.data.generation.prompt import SCHEMA

PROMPT = Prompt("be good", "Write 3 pairs")
CLIENTS: dict[str, Any] = {"openai": OpenAIClient, "anthropic": AnthropicClient}
VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


@pytest.fixture(params=CLIENTS)
def api(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for variable in VARIABLES.values():
        monkeypatch.setenv(variable, KEY)
    return str(request.param)


def made(api: str, url: str, **settings: Any) -> Client:
    # Long, but where the timeout is what is tested: a machine may be busy.
    return CLIENTS[api](MODEL, base_url=f"{url}/v1" if api == "openai" else url, **{"timeout": 30, **settings})


def ask(client: Client) -> Reply:
    async def go() -> Reply:
        try:
            return await client.ask(PROMPT)
        finally:
            await client.close()

    return asyncio.run(go())


def test_a_reply(api: str) -> None:
    with serving() as server:
        reply = ask(made(api, server.url, temperature=0.3, reply_tokens=77))
    assert json.loads(reply.text) == {"pairs": pairs_of(PROMPT.user)}
    assert not reply.cut
    body = server.bodies[0]
    assert reply.tokens_in == len(json.dumps(body["messages"])) // 4
    assert reply.tokens_out > 0
    assert (body["model"], body["max_tokens"], body["temperature"]) == (MODEL, 77, 0.3)
    assert body["messages"][-1] == {"role": "user", "content": PROMPT.user}
    if api == "openai":
        assert body["messages"][0] == {"role": "system", "content": "be good"}
        assert body["response_format"]["json_schema"]["schema"] == SCHEMA
        assert server.keys == {f"Bearer {KEY}"}
    else:
        assert body["system"] == "be good"
        assert body["tools"][0]["input_schema"] == SCHEMA
        assert body["tool_choice"] == {"type": "tool", "name": body["tools"][0]["name"]}
        # In which header is the official client's affair.
        assert {key.removeprefix("Bearer ") for key in server.keys} == {KEY}


def test_a_word_that_serves_as_a_key_may_stand_in_a_reply(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES.values():
        monkeypatch.setenv(variable, "question")
    with serving() as server:
        reply = ask(made(api, server.url))
    assert json.loads(reply.text) == {"pairs": pairs_of(PROMPT.user)}


def test_tokens_that_are_not_told_are_estimated(api: str) -> None:
    with serving(usage=False) as server:
        reply = ask(made(api, server.url))
    assert 5 <= reply.tokens_in <= 20
    assert len(reply.text) / 5 < reply.tokens_out < len(reply.text)


def test_a_reply_that_is_cut_off(api: str) -> None:
    with serving(lambda number: "cut off") as server:
        assert ask(made(api, server.url)).cut
    with serving(lambda number: "truncated JSON") as server:
        assert not ask(made(api, server.url)).cut


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("429", "429", "answered 429: no good: 429 for"),
        ("429 after", "429", "answered 429"),
        ("500", "500", "answered 500: no good"),
        ("503 after", "503", "answered 503"),
        ("529", "529", "answered 529"),
        ("drop", "connection", "no connection to http://127.0.0.1"),
        ("half", "connection", "no connection to http://127.0.0.1"),
        ("slow", "timeout", "did not answer in time"),
        ("html", "nonsense", "expected a JSON object, got <html><body>Gateway of nowhere"),
        ("list", "nonsense", "expected a JSON object, got [1, 2, 3]"),
        ("other object", "nonsense", "answered nonsense: no "),
    ],
)
def test_what_may_go_better_the_next_time(api: str, fault: str, kind: str, said: str) -> None:
    with serving(lambda number: fault) as server, pytest.raises(TemporaryError) as error:
        ask(made(api, server.url, timeout=0.5 if fault == "slow" else 30))
    assert error.value.kind == kind
    assert said in str(error.value)
    check_told(error.value)
    assert error.value.wait == {"429 after": 0.1, "503 after": 0.1}.get(fault)
    assert len(server.prompts) == 1


def test_a_date_to_wait_for(api: str) -> None:
    with serving(lambda number: "429 date") as server, pytest.raises(TemporaryError) as error:
        ask(made(api, server.url))
    assert error.value.wait is not None
    assert 0 <= error.value.wait <= 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("400", "refuses the request (400: no good: 400 for"),
        ("401", "refuses the key in NAME (401: no good: 401 for"),
        ("404", "knows no model 'fake-1', or is no such API (404: "),
        ("quota", "says that the quota of the key in NAME is used up (429: you exceeded your quota"),
    ],
)
def test_what_will_not(api: str, fault: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if (api, fault) == ("anthropic", "quota"):
        pytest.skip("OpenAI's own way")
    monkeypatch.setenv("NAME", KEY)
    with serving(lambda number: fault) as server, pytest.raises(ModelError) as error:
        ask(made(api, server.url, variable="NAME"))
    assert said in str(error.value)
    check_told(error.value)


def test_nobody_there(api: str) -> None:
    with serving() as server:
        url = server.url
    with pytest.raises(TemporaryError, match=f"no connection to {url}.*"):
        ask(made(api, url))


def check_told(error: Exception) -> None:
    """One line, and the key neither in it nor in a traceback."""
    assert "\n" not in str(error)
    assert len(str(error)) < 400
    assert KEY not in "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_missing_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLES[name], raising=False)
    with pytest.raises(ValueError, match=f"no key: set the environment variable {VARIABLES[name]}"):
        CLIENTS[name](MODEL)
    # A server of one's own may need none.
    with serving() as server:
        ask(made(name, server.url))
    assert server.keys <= {"none", "Bearer none"}


def test_a_key_that_no_header_may_have(api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLES[api], "kéy\n")
    with pytest.raises(ValueError, match="holds characters that no key has") as error:
        made(api, "http://127.0.0.1:1")
    assert "kéy" not in str(error.value)


def test_an_unknown_form() -> None:
    with pytest.raises(ValueError, match="form must be one of schema, json, text, got 'xml'"):
        OpenAIClient(MODEL, base_url="http://127.0.0.1:1", form="xml")


@pytest.mark.parametrize("url", ["", "fake", "ftp://host/v1", "http://", "http://host:port"])
def test_what_is_no_address(api: str, url: str) -> None:
    with pytest.raises(ValueError, match=r"must be like https://host/v1, got '.*'"):
        CLIENTS[api](MODEL, base_url=url)


def test_an_address_with_a_password_is_refused_and_not_shown(api: str) -> None:
    with pytest.raises(ValueError, match="must not hold a user or password") as error:
        CLIENTS[api](MODEL, base_url="https://me:secret@host/v1")
    assert "secret" not in str(error.value)
