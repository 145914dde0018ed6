"""The command ``data generate``: pairs asked from a language model."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from cellgraph.cli.data.generating import GeneratingProgress
from cellgraph.data import read_pairs, starter_pairs
from cellgraph.data.generation import (
    AnthropicClient,
    Budget,
    Client,
    Generator,
    OpenAIClient,
    Output,
    Pace,
    Plan,
    Settings,
    read_plan,
    write_prompt,
)
from cellgraph.data.likeness import KnownPairs
from cellgraph.texts import printable


def main(arguments: Sequence[str]) -> None:
    """Ask a language model for question-answer pairs by topic; goes on where it was stopped.

    The key is read from the environment (OPENAI_API_KEY, ANTHROPIC_API_KEY) and written nowhere.
    """
    parser = argparse.ArgumentParser(prog="cellgraph data generate", description=main.__doc__)
    parser.add_argument("output", type=Path, help="file of pairs to write or go on with (.jsonl)")
    parser.add_argument("--model", required=True, help="name of the model")
    _add_api(parser.add_argument_group("API"))
    _add_plan(parser.add_argument_group("what is asked for"))
    _add_limits(parser.add_argument_group("limits"))
    given = parser.parse_args(arguments)
    # Files first: what is wrong with them is told before anything is asked.
    plan = read_plan(given.plan) if given.plan else read_plan()
    plan = plan.chosen(categories=given.category, pairs=given.pairs)
    examples = read_pairs(given.examples) if given.examples else starter_pairs()
    settings = Settings(
        batch=given.batch,
        shots=given.shots,
        concurrency=given.concurrency,
        retries=given.retries,
        tries=given.tries,
        patience=given.patience,
    )
    if given.show_prompt:
        topic = plan.topics[0]
        prompt = write_prompt(topic, min(settings.batch, topic.pairs), examples=examples, shots=settings.shots)
        print(printable(f"{prompt.system}\n\n{prompt.user}"))
        return
    budget = Budget(requests=given.max_requests, tokens=given.max_tokens)
    pace = Pace(per_minute=given.per_minute, first_wait=given.first_wait, longest_wait=given.longest_wait)
    known = KnownPairs(near=None if given.near == 0 else given.near)
    for path in given.against:
        for pair in read_pairs(path):
            known.add(pair)
    client = _client(given)
    with Output(given.output).opened() as output:
        generator = Generator(
            plan, client, output, known=known, examples=examples, budget=budget, pace=pace, settings=settings
        )
        before = len(output.pairs)
        stopped = _run(generator, client)
        _tell(generator, plan, len(output.pairs) - before)
    if stopped:
        again = shlex.join(["cellgraph", "data", "generate", *arguments])
        print(f"stopped: {stopped}; {generator.missing:,} pairs are missing. With a larger budget, go on with: {again}")


def _add_api(group: Any) -> None:
    group.add_argument("--api", choices=("openai", "anthropic"), default="openai", help="which API (openai)")
    group.add_argument("--base-url", metavar="URL", help="address of a server that understands it")
    group.add_argument("--key-variable", metavar="NAME", help="environment variable that holds the key")
    group.add_argument(
        "--form",
        choices=("schema", "json", "text"),
        default="schema",
        help="how the form of replies is asked for, with --api openai; servers that know no schemas take json (schema)",
    )
    group.add_argument("--temperature", type=float, metavar="T", help="how freely replies are drawn (the server's)")
    group.add_argument("--reply-tokens", type=int, default=4096, metavar="N", help="most tokens of a reply (4096)")
    group.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds to wait for one (120)")


def _add_plan(group: Any) -> None:
    group.add_argument("--plan", type=Path, metavar="FILE", help="topics of your own (YAML); else the starter set's")
    group.add_argument("--category", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    group.add_argument("--pairs", type=int, metavar="N", help="pairs for each topic (the plan's)")
    group.add_argument("--batch", type=int, default=8, metavar="N", help="most pairs that one request asks for (8)")
    group.add_argument("--examples", type=Path, metavar="FILE", help="pairs whose style is shown; else the starter set")
    group.add_argument("--shots", type=int, default=3, metavar="N", help="examples in a prompt (3)")
    group.add_argument(
        "--against", type=Path, action="append", default=[], metavar="FILE", help="pairs not to repeat; may be repeated"
    )
    group.add_argument(
        "--near",
        type=float,
        default=0.7,
        metavar="J",
        help="likeness from which questions, or long answers, repeat each other (Jaccard index of five-letter runs); "
        "0: equal words alone (0.7)",
    )
    group.add_argument("--show-prompt", action="store_true", help="print the first prompt, and ask nothing")


def _add_limits(group: Any) -> None:
    group.add_argument("--max-requests", type=int, metavar="N", help="most requests, over all runs for this output")
    group.add_argument("--max-tokens", type=int, metavar="N", help="most tokens of prompts and replies, likewise")
    group.add_argument("--per-minute", type=float, metavar="N", help="most requests a minute")
    group.add_argument("--concurrency", type=int, default=4, metavar="N", help="requests on their way at once (4)")
    group.add_argument("--retries", type=int, default=6, metavar="N", help="repetitions of a failed request (6)")
    group.add_argument(
        "--tries", type=int, default=3, metavar="N", help="unusable replies until a topic is put off (3)"
    )
    group.add_argument("--patience", type=int, default=3, metavar="N", help="times a topic may give nothing new (3)")
    group.add_argument("--first-wait", type=float, default=1.0, metavar="S", help="seconds of the first back-off (1)")
    group.add_argument(
        "--longest-wait", type=float, default=600.0, metavar="S", help="longest wait that a server may ask for (600)"
    )


def _client(given: argparse.Namespace) -> Client:
    if given.reply_tokens < 1 or not given.timeout > 0:
        raise ValueError(f"a reply needs tokens and time, got {given.reply_tokens} and {given.timeout} s")
    settings: dict[str, Any] = {
        "base_url": given.base_url,
        "reply_tokens": given.reply_tokens,
        "timeout": given.timeout,
        "temperature": given.temperature,
    }
    if given.key_variable:
        settings["variable"] = given.key_variable
    if given.api == "anthropic":
        return AnthropicClient(given.model, **settings)
    return OpenAIClient(given.model, form=given.form, **settings)


def _run(generator: Generator, client: Client) -> str:
    console = Console(file=sys.stderr)
    there = generator.plan.pairs - generator.missing
    console.print(
        f"{generator.plan.pairs:,} pairs wanted of {len(generator.plan.topics)} topics, {there:,} there; "
        f"asking {printable(client.told)}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    with GeneratingProgress(console, generator) as progress:
        generator.progress = progress
        return asyncio.run(generator.run())


def _tell(generator: Generator, plan: Plan, new: int) -> None:
    """Say what came of it."""
    output, budget = generator.output, generator.budget
    print(
        f"{new:,} new pairs, {len(output.pairs):,} in {output.path}; all runs together: {budget.used_requests:,} "
        f"requests, {budget.tokens_in:,} tokens asked, {budget.tokens_out:,} replied"
    )
    wanted: dict[str, list[int]] = {}
    for topic in plan.topics:
        row = wanted.setdefault(topic.category, [0, 0])
        row[0] += min(generator.count(topic), topic.pairs)
        row[1] += topic.pairs
    for category, (there, all_of_it) in wanted.items():
        print(printable(f"  {category}: {there:,} of {all_of_it:,}"))
    told = {
        "exact": "repeated a pair",
        "near": "nearly repeated one",
        "malformed": "entries were no pairs",
        "unreadable": "replies could not be used",
    }
    if refused := ", ".join(f"{output.refused[kind]:,} {text}" for kind, text in told.items() if output.refused[kind]):
        print(f"refused, all runs together: {refused}")
    if generator.failures:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(generator.failures.items()))
        print(f"made again after failures: {kinds}")
    if given_up := generator.given_up():
        names = ", ".join(f"{topic.name} ({generator.count(topic)} of {topic.pairs})" for topic in given_up)
        print(printable(f"nothing new came any more of: {names}; a larger --patience asks on"))
