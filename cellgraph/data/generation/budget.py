"""The budget: how many requests may be made and tokens used, over all runs that write one file."""

from __future__ import annotations

from cellgraph.numbers import integer, plain_numbers

__all__ = ["Budget", "BudgetSpentError"]


class BudgetSpentError(Exception):
    """There is not enough left for another request; the message says of what."""


class Budget:
    """Requests and tokens that have been used, and those that may be.

    A request is only made if its prompt and the longest reply still fit, those of the requests that are on their way
    included: the limits are never passed, as far as the estimate of a prompt's tokens holds.

    Args:
        requests: Most requests, failed ones included; ``None`` for any number.
        tokens: Most tokens, of prompts and replies together; ``None`` for any number.

    Raises:
        ValueError: If a limit is negative.

    Example:
        >>> budget = Budget(requests=2, tokens=None)
        >>> budget.take(500); budget.give_back(500, 120, 80)
        >>> budget.used_requests, budget.used_tokens
        (1, 200)
    """

    @plain_numbers
    def __init__(self, *, requests: int | None = None, tokens: int | None = None) -> None:
        for name, limit in (("requests", requests), ("tokens", tokens)):
            if limit is not None and integer(name, limit) < 0:
                raise ValueError(f"the budget of {name} must not be negative, got {limit}")
        self.requests, self.tokens = requests, tokens
        self.used_requests = self.tokens_in = self.tokens_out = 0
        self._on_the_way = 0

    @property
    def used_tokens(self) -> int:
        """Tokens of prompts and replies."""
        return self.tokens_in + self.tokens_out

    def take(self, tokens: int) -> None:
        """Set aside what a request may use.

        Args:
            tokens: Those of its prompt and of the longest reply.

        Raises:
            BudgetSpentError: If that is more than there is left.
        """
        if self.requests is not None and self.used_requests >= self.requests:
            raise BudgetSpentError(f"the budget of {self.requests:,} requests is spent")
        if self.tokens is not None and self.used_tokens + self._on_the_way + tokens > self.tokens:
            raise BudgetSpentError(
                f"the budget of {self.tokens:,} tokens is spent: {self.used_tokens:,} are used, and the next request "
                f"may take {tokens:,}"
            )
        self.used_requests += 1
        self._on_the_way += tokens

    def may_have(self, tokens: int) -> bool:
        """Whether a request could still be made if those on their way gave back all that was set aside for them."""
        enough = self.tokens is None or self.used_tokens + tokens <= self.tokens
        return enough and self._on_the_way > 0 and (self.requests is None or self.used_requests < self.requests)

    def give_back(self, tokens: int, tokens_in: int = 0, tokens_out: int = 0) -> None:
        """Give back what was set aside, and book what was used of it."""
        self._on_the_way -= tokens
        self.book(tokens_in, tokens_out)

    def book(self, tokens_in: int = 0, tokens_out: int = 0, *, requests: int = 0) -> None:
        """Book what was used, by an earlier process too."""
        self.used_requests += requests
        self.tokens_in += tokens_in
        self.tokens_out += tokens_out
