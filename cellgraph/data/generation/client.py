"""Clients of language models: what one must do, what it gives back and how it fails."""

from __future__ import annotations

import contextlib
import email.utils
import json
import os
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cellgraph.numbers import plain_numbers
from cellgraph.texts import one_line

from .prompt import Prompt

__all__ = ["Client", "ModelError", "Reply", "TemporaryError", "read_key"]

#: Statuses after which the same request may succeed: time-out, conflict, too early, too many requests.
_TEMPORARY = {408, 409, 425, 429}
#: A key of so many characters is a secret; a server of one's own takes any word for one, which may stand in a reply.
SECRET = 16
_LONGEST_MESSAGE = 200


@dataclass(frozen=True)
class Reply:
    """What a model replied.

    Args:
        text: Its words.
        tokens_in: Number of tokens of the prompt, by its own count, or by an estimate where it gives none.
        tokens_out: Number of tokens of the reply, likewise.
        cut: Whether it ends where the limit of tokens was reached.
    """

    text: str
    tokens_in: int
    tokens_out: int
    cut: bool = False


class Client(Protocol):
    """A language model behind an API."""

    #: Name of the API, the address and the model, for people.
    told: str
    #: Largest number of tokens in a reply.
    reply_tokens: int

    async def ask(self, prompt: Prompt) -> Reply:
        """Ask once.

        Raises:
            TemporaryError: If asking again may help.
            ModelError: If it will not.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class ModelError(ValueError):
    """A model cannot be asked: the key, its name or the request is wrong."""


class TemporaryError(Exception):
    """A model gave no reply, and may give one later.

    Args:
        message: What happened, in one line.
        kind: The same in a word, for counting: ``"429"``, ``"500"``, ``"timeout"``, ``"connection"``, ``"nonsense"``.
        wait: Seconds that the server wants to be left alone.
    """

    @plain_numbers
    def __init__(self, message: str, *, kind: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.kind, self.wait = kind, wait


def read_key(variable: str, *, needed: bool) -> str:
    """The key in an environment variable.

    Args:
        variable: Its name.
        needed: Whether there must be one; servers of one's own may do without, and are given a word instead.

    Raises:
        ValueError: If there is none, or it holds characters that no header may have.
    """
    key = os.environ.get(variable, "").strip()
    if not key and needed:
        raise ValueError(f"no key: set the environment variable {variable}")
    if not (key.isascii() and key.isprintable()):
        raise ValueError(f"the key in {variable} holds characters that no key has")
    return key or "none"


def checked_url(url: str) -> str:
    """The address of a server.

    Raises:
        ValueError: If it is none, or holds a password, which would be shown.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_one = False
    if is_one and "@" in parts.netloc:
        raise ValueError("the address of the server must not hold a user or password: keys go into the environment")
    if not is_one:
        raise ValueError(f"the address of a server must be like https://host/v1, got {url!r}")
    return url


@contextlib.contextmanager
def failures(module: Any, place: str, model: str, variable: str, key: str) -> Iterator[None]:
    """Tell what the official clients raise by :class:`ModelError` and :class:`TemporaryError`, without the key.

    Args:
        module: ``openai`` or ``anthropic``, which have the same exceptions.
        place: Address of the server.
        model: Name of the model.
        variable: Environment variable of the key.
        key: The key, which a server may repeat in its message.
    """
    try:
        yield
    except module.APITimeoutError:
        raise TemporaryError(f"{place} did not answer in time", kind="timeout") from None
    except module.APIStatusError as error:
        raise _of_status(error, place, model, variable, key) from None
    except module.APIConnectionError as error:
        reason = _safe(str(error.__cause__ or error), key)
        raise TemporaryError(f"no connection to {place}: {reason}", kind="connection") from None
    except module.APIError as error:
        raise TemporaryError(f"{place} answered nonsense: {_safe(str(error), key)}", kind="nonsense") from None


def _of_status(error: Any, place: str, model: str, variable: str, key: str) -> Exception:
    status, message = int(error.status_code), _safe(_message(error), key)
    used_up = getattr(error, "code", None) == "insufficient_quota"
    if (status in _TEMPORARY or status >= 500) and not used_up:
        kind = str(status)
        return TemporaryError(f"{place} answered {status}: {message}", kind=kind, wait=_wait(error.response.headers))
    if status in (401, 403):
        return ModelError(f"{place} refuses the key in {variable} ({status}: {message})")
    if status == 404:
        return ModelError(f"{place} knows no model {model!r}, or is no such API (404: {message})")
    if used_up or status == 402:
        return ModelError(f"{place} says that the quota of the key in {variable} is used up ({status}: {message})")
    return ModelError(f"{place} refuses the request ({status}: {message})")


def _message(error: Any) -> str:
    body = error.body
    inner = body.get("error", body) if isinstance(body, Mapping) else body
    message = inner.get("message") if isinstance(inner, Mapping) else inner
    return str(message or error.response.text or "no reason given")


def _safe(text: str, key: str) -> str:
    return without_key(one_line(text, _LONGEST_MESSAGE + len(key)), key)[:_LONGEST_MESSAGE]


def without_key(text: str, key: str) -> str:
    """The text without the key, should somebody have put it there."""
    return text if key in ("", "none") else text.replace(key, "***")


def masked(reply: str, key: str) -> str:
    """What a model replied without the key, unless that is a word that may well stand there."""
    return without_key(reply, key) if len(key) >= SECRET else reply


def _wait(headers: Mapping[str, str]) -> float | None:
    """The seconds that ``Retry-After`` asks for, as a number or a date."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        with contextlib.suppress(ValueError, KeyError):
            seconds = float(headers[name]) * unit
            if 0 <= seconds < float("inf"):
                return seconds
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return max(0.0, email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time())
    return None


def read_body(content: bytes, place: str, key: str) -> dict[str, Any]:
    """The JSON object that a server answered with.

    Raises:
        TemporaryError: If it is none.
    """
    text = content.decode("utf-8", "replace")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        shown = _safe(text, key) or "nothing"
        raise TemporaryError(f"{place} answered nonsense: expected a JSON object, got {shown}", kind="nonsense")
    return body


def count_tokens(usage: Any, name: str, text: str) -> int:
    """A number of tokens as the server counts, or an estimate where it does not."""
    given = usage.get(name) if isinstance(usage, dict) else None
    is_count = isinstance(given, int) and not isinstance(given, bool) and given >= 0
    return given if is_count else len(text.encode()) // 3 + 1  # type: ignore[return-value]
