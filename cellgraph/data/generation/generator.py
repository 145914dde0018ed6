"""The generator: asks for pairs topic by topic until the plan is fulfilled or the budget is spent."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellgraph.numbers import integer

from ..pairs import QAPair
from .budget import Budget, BudgetSpentError
from .client import Client, ModelError, Reply, TemporaryError
from .output import Job, Output
from .pace import Pace
from .plan import Plan, Topic
from .prompt import Prompt, write_prompt
from .reply import Found, read_reply

if TYPE_CHECKING:
    from ..likeness import KnownPairs

__all__ = ["Generator", "Settings"]


@dataclass(frozen=True)
class Settings:
    """How it is asked.

    Args:
        batch: Number of pairs that one request asks for at most.
        shots: Number of examples in a prompt.
        concurrency: Number of requests on their way at once.
        retries: Number of times that a request which failed is made again.
        tries: Number of replies to a prompt that may be unusable before its topic is put off.
        patience: Number of jobs without a new pair after which a topic is given up.

    Raises:
        ValueError: If a number is out of range.
    """

    batch: int = 8
    shots: int = 3
    concurrency: int = 4
    retries: int = 6
    tries: int = 3
    patience: int = 3

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("shots", 0), ("concurrency", 1), ("retries", 0), ("tries", 1)):
            if integer(name, getattr(self, name)) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if integer("patience", self.patience) < 1:
            raise ValueError(f"patience must be at least 1, got {self.patience}")


class Generator:
    """Fulfils a plan by asking a model.

    Topics take turns. Replies may come in any order, and are taken up in the order in which they were asked for, so
    that the file depends on what is replied alone: not on when, nor on how often the process was killed.

    Args:
        plan: What is wanted.
        client: The model.
        output: Where pairs go; it must be open.
        known: The pairs that new ones must not repeat; those of the output are added.
        examples: Pairs to choose examples of style from.
        budget: What may be used, over all runs that write the output.
        pace: How often requests are made.
        settings: How it is asked.
        progress: Called whenever there is something new to show.
    """

    def __init__(
        self,
        plan: Plan,
        client: Client,
        output: Output,
        *,
        known: KnownPairs,
        examples: Sequence[QAPair] = (),
        budget: Budget | None = None,
        pace: Pace | None = None,
        settings: Settings | None = None,
        progress: Callable[[Generator], None] = lambda generator: None,
    ) -> None:
        self.plan, self.client, self.output, self.known, self.examples = plan, client, output, known, examples
        self.budget = Budget() if budget is None else budget
        self.pace = Pace() if pace is None else pace
        self.settings = Settings() if settings is None else settings
        self.progress = progress
        self._given_back = asyncio.Event()
        #: How often requests failed, by kind.
        self.failures: Counter[str] = Counter()
        #: What is waited for, in words; empty while all goes well.
        self.waiting = ""
        self.budget.book(output.tokens_in, output.tokens_out, requests=output.requests)
        self._asked: dict[tuple[str, str], list[str]] = {_key(topic): [] for topic in plan.topics}
        for pair in output.pairs:
            self.known.add(pair)
            self._asked.get((pair.category, pair.topic), []).append(pair.question)

    def count(self, topic: Topic) -> int:
        """Number of pairs of a topic in the output."""
        return len(self._asked[_key(topic)])

    @property
    def missing(self) -> int:
        """Number of pairs that the plan lacks."""
        return sum(max(0, topic.pairs - self.count(topic)) for topic in self.plan.topics)

    def given_up(self) -> list[Topic]:
        """The topics for which nothing new came any more, though they lack pairs."""
        return [topic for topic in self.plan.topics if self.count(topic) < topic.pairs and self._is_barren(topic)]

    async def run(self) -> str:
        """Ask until there is nothing left to ask for.

        Returns:
            Why it ended before the plan was fulfilled; empty if it did not.

        Raises:
            ModelError: If the model cannot be asked, or did not reply after all retries.
            OSError: If the output cannot be written.
        """
        flying: deque[tuple[Job, asyncio.Task[tuple[Found, int]]]] = deque()
        stopped = ""
        try:
            while True:
                while not stopped and len(flying) < self.settings.concurrency:
                    job = self._next([job for job, _ in flying])
                    if job is None:
                        break
                    flying.append((job, asyncio.create_task(self._work(job))))
                if not flying:
                    return stopped
                job, task = flying[0]
                try:
                    found, unreadable = await task
                except BudgetSpentError as spent:
                    # What comes after it in the order has to wait for it; what is replied is kept in the record.
                    stopped = str(spent)
                    await asyncio.gather(*(task for _, task in flying), return_exceptions=True)
                    return stopped
                flying.popleft()
                self._take_up(job, found, unreadable)
                self.progress(self)
        finally:
            for _, task in flying:
                task.cancel()
            await asyncio.gather(*(task for _, task in flying), return_exceptions=True)
            await self.client.close()

    def _next(self, flying: Sequence[Job]) -> Job | None:
        """The next job in the order of turns and topics, if it is sure that none before it can come up any more."""
        places = {_key(topic): place for place, topic in enumerate(self.plan.topics)}
        busy = {_key(job.topic): job.turn for job in flying}
        waiting = [
            (self.output.turns[key], place)
            for key, place in places.items()
            if key not in busy and self._is_wanted(self.plan.topics[place])
        ]
        if not waiting:
            return None
        turn, place = min(waiting)
        if any((busy[key] + 1, places[key]) < (turn, place) for key in busy):
            return None
        return Job(self.plan.topics[place], turn)

    def _is_wanted(self, topic: Topic) -> bool:
        return self.count(topic) < topic.pairs and not self._is_barren(topic)

    def _is_barren(self, topic: Topic) -> bool:
        return self.output.fruitless[_key(topic)] >= self.settings.patience

    async def _work(self, job: Job) -> tuple[Found, int]:
        """Ask until a reply can be used; gives what is in it, and the number of those before."""
        count = min(self.settings.batch, job.topic.pairs - self.count(job.topic))
        prompt = self._prompt(job, count)
        earlier = list(self.output.replies(job))
        found = Found()
        for attempt in range(self.settings.tries):
            if attempt < len(earlier):
                # As many were asked for as the settings of that run said, not this one's.
                reply, then = earlier[attempt]
            else:
                reply, then = await self._ask(job, prompt, count), count
            found = read_reply(reply, job.topic, then or count)
            if found.pairs:
                return found, attempt
            # What was too long for one reply may fit when less is asked for.
            count = max(1, count // 2) if reply.cut else count
            prompt = self._prompt(job, count).after_a_fault(found.fault)
        return found, self.settings.tries

    def _prompt(self, job: Job, count: int) -> Prompt:
        asked = self._asked[_key(job.topic)]
        return write_prompt(job.topic, count, asked=asked, examples=self.examples, shots=self.settings.shots)

    async def _ask(self, job: Job, prompt: Prompt, count: int) -> Reply:
        """Ask for so many pairs until there is a reply."""
        reserved = prompt.tokens + self.client.reply_tokens
        failures = 0
        while True:
            await self.pace.turn()
            await self._reserve(reserved)
            reply = None
            try:
                self.output.asked(job)
                reply = await self.client.ask(prompt)
                self.output.replied(job, reply, count)
            except TemporaryError as error:
                failure = error
            else:
                self.waiting = ""
                return reply
            finally:
                used = (0, 0) if reply is None else (reply.tokens_in, reply.tokens_out)
                self.budget.give_back(reserved, *used)
                self._given_back.set()
            self.failures[failure.kind] += 1
            if failures >= self.settings.retries:
                raise ModelError(
                    f"given up after {failures + 1} requests that failed: {failure}; nothing is lost, the same command "
                    "goes on"
                )
            self.waiting = str(failure)
            self.progress(self)
            await self.pace.wait_after(failure, failures)
            failures += 1

    async def _reserve(self, tokens: int) -> None:
        """Take a request from the budget, once the replies that are on their way leave enough of it.

        Raises:
            BudgetSpentError: If they cannot.
        """
        while True:
            self._given_back.clear()
            try:
                self.budget.take(tokens)
            except BudgetSpentError:
                # They seldom use all that is set aside for them.
                if not self.budget.may_have(tokens):
                    raise
                await self._given_back.wait()
            else:
                return

    def _take_up(self, job: Job, found: Found, unreadable: int) -> None:
        """Keep what is new."""
        refused: Counter[str] = Counter(malformed=found.malformed, unreadable=unreadable)
        new = []
        for pair in found.pairs:
            repeated = self.known.repeats(pair)
            if repeated:
                refused[repeated] += 1
            else:
                self.known.add(pair)
                new.append(pair)
        self.output.done(job, new, +refused)
        self._asked[_key(job.topic)] += [pair.question for pair in new]


def _key(topic: Topic) -> tuple[str, str]:
    return topic.category, topic.name
