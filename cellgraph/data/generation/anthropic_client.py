"""Anthropic's API, by its official client."""

from __future__ import annotations

import json
from typing import Any

from cellgraph.numbers import plain_numbers

from .client import Reply, TemporaryError, checked_url, count_tokens, failures, masked, read_body, read_key
from .prompt import SCHEMA, Prompt

__all__ = ["AnthropicClient"]

_TOOL = {"name": "save_pairs", "description": "Saves the question-answer pairs.", "input_schema": SCHEMA}


class AnthropicClient:
    """Asks a model by Anthropic's messages; the form of a reply is that of a tool which it must call.

    Args:
        model: Name of the model.
        base_url: Address of the server; Anthropic's by default.
        variable: Environment variable that holds the key.
        reply_tokens: Largest number of tokens in a reply.
        timeout: Seconds to wait for one.
        temperature: How freely it is drawn; the server's own choice by default.

    Raises:
        ValueError: If the address is none, the package anthropic or the key is missing.
    """

    @plain_numbers
    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        variable: str = "ANTHROPIC_API_KEY",
        reply_tokens: int = 4096,
        timeout: float = 120.0,
        temperature: float | None = None,
    ) -> None:
        try:
            import anthropic
        except ImportError:
            raise ValueError("this API needs the package anthropic (pip install cellgraph[generate])") from None
        self._key, self._module = read_key(variable, needed=base_url is None), anthropic
        self.model, self.reply_tokens, self.variable = model, reply_tokens, variable
        self.place = "https://api.anthropic.com" if base_url is None else checked_url(base_url)
        self.told = f"{model} at {self.place}"
        # Repeating is this library's affair, which counts requests and keeps to a budget.
        self._client = anthropic.AsyncAnthropic(api_key=self._key, base_url=self.place, timeout=timeout, max_retries=0)
        self._settings: dict[str, Any] = {
            "model": model,
            "max_tokens": reply_tokens,
            "tools": [_TOOL],
            "tool_choice": {"type": "tool", "name": _TOOL["name"]},
        }
        if temperature is not None:
            self._settings["extra_body"] = {"temperature": temperature}

    async def ask(self, prompt: Prompt) -> Reply:
        """Ask once, see :class:`~cellgraph.data.generation.Client`."""
        messages: Any = [{"role": "user", "content": prompt.user}]
        with failures(self._module, self.place, self.model, self.variable, self._key):
            raw = await self._client.messages.with_raw_response.create(
                system=prompt.system, messages=messages, **self._settings
            )
        body = read_body(raw.http_response.content, self.place, self._key)
        blocks = body.get("content")
        if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
            raise TemporaryError(f"{self.place} answered nonsense: no content in its reply", kind="nonsense")
        called = [block.get("input") for block in blocks if block.get("type") == "tool_use"]
        said = "".join(str(block.get("text", "")) for block in blocks if block.get("type") == "text")
        text = masked(json.dumps(called[0], ensure_ascii=False) if called else said, self._key)
        usage = body.get("usage")
        return Reply(
            text,
            tokens_in=count_tokens(usage, "input_tokens", prompt.system + prompt.user),
            tokens_out=count_tokens(usage, "output_tokens", text),
            cut=body.get("stop_reason") == "max_tokens",
        )

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()
