"""The OpenAI-compatible API, by its official client."""

from __future__ import annotations

from typing import Any

from cellgraph.numbers import plain_numbers

from .client import Reply, TemporaryError, checked_url, count_tokens, failures, masked, read_body, read_key
from .prompt import SCHEMA, Prompt

__all__ = ["OpenAIClient"]

#: How the form of a reply is asked for, from the strictest on; servers of one's own may know less.
FORMATS: dict[str, dict[str, Any]] = {
    "schema": {"type": "json_schema", "json_schema": {"name": "pairs", "strict": True, "schema": SCHEMA}},
    "json": {"type": "json_object"},
    "text": {"type": "text"},
}


class OpenAIClient:
    """Asks a model by the chat completions of OpenAI, or of a server that understands them (vLLM, llama.cpp, Ollama).

    Args:
        model: Name of the model.
        base_url: Address of the server; OpenAI's by default.
        variable: Environment variable that holds the key.
        reply_tokens: Largest number of tokens in a reply.
        timeout: Seconds to wait for one.
        temperature: How freely it is drawn; the server's own choice by default.
        form: How the form of replies is asked for: ``"schema"``, ``"json"`` or ``"text"`` (by words alone).

    Raises:
        ValueError: If the address is none, the package openai or the key is missing, or the form is unknown.
    """

    @plain_numbers
    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        variable: str = "OPENAI_API_KEY",
        reply_tokens: int = 4096,
        timeout: float = 120.0,
        temperature: float | None = None,
        form: str = "schema",
    ) -> None:
        try:
            import openai
        except ImportError:
            raise ValueError("this API needs the package openai (pip install cellgraph[generate])") from None
        if form not in FORMATS:
            raise ValueError(f"form must be one of {', '.join(FORMATS)}, got {form!r}")
        self._key, self._module = read_key(variable, needed=base_url is None), openai
        self.model, self.reply_tokens, self.variable = model, reply_tokens, variable
        self.place = "https://api.openai.com/v1" if base_url is None else checked_url(base_url)
        self.told = f"{model} at {self.place}"
        # Repeating is this library's affair, which counts requests and keeps to a budget.
        self._client = openai.AsyncOpenAI(api_key=self._key, base_url=self.place, timeout=timeout, max_retries=0)
        # OpenAI's newer models refuse `max_tokens`; many other servers know nothing else.
        limit = "max_completion_tokens" if base_url is None else "max_tokens"
        self._settings: dict[str, Any] = {"model": model, limit: reply_tokens, "response_format": FORMATS[form]}
        if temperature is not None:
            self._settings["temperature"] = temperature

    async def ask(self, prompt: Prompt) -> Reply:
        """Ask once, see :class:`~cellgraph.data.generation.Client`."""
        messages: Any = [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]
        with failures(self._module, self.place, self.model, self.variable, self._key):
            raw = await self._client.chat.completions.with_raw_response.create(messages=messages, **self._settings)
        body = read_body(raw.http_response.content, self.place, self._key)
        choices = body.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            raise TemporaryError(f"{self.place} answered nonsense: no message in its reply", kind="nonsense")
        text = message.get("content") or message.get("refusal") or ""
        text = masked(text if isinstance(text, str) else "", self._key)
        usage = body.get("usage")
        return Reply(
            text,
            tokens_in=count_tokens(usage, "prompt_tokens", prompt.system + prompt.user),
            tokens_out=count_tokens(usage, "completion_tokens", text),
            cut=choice.get("finish_reason") == "length",  # type: ignore[union-attr]
        )

    async def close(self) -> None:
        """Close connections."""
        await self._client.close()
