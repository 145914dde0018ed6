"""The generator: what is paid for is used, whatever the settings of the run that takes it up."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from cellgraph.data.generation import Budget, Generator, Output, Plan, Prompt, Reply, Settings, Topic
from cellgraph.data.generation.output import Job
from cellgraph.data.likeness import KnownPairs

PLAN = Plan((Topic("nature", "rivers", 8), Topic("nature", "stones", 8)))


class Model:
    """Replies with eight new pairs, and sets aside far more tokens than it uses."""

    told, reply_tokens = "a model", 5000

    def __init__(self) -> None:
        self.asked = 0

    async def ask(self, prompt: Prompt) -> Reply:
        first, self.asked = 8 * self.asked, self.asked + 1
        await asyncio.sleep(0.01)
        pairs = [{"question": f"Why is it {n}?", "answer": f"As {n} is."} for n in range(first, first + 8)]
        return Reply(json.dumps({"pairs": pairs}), 100, 100)

    async def close(self) -> None:
        pass


def generate(path: Path, model: Model, *, tokens: int | None = None, batch: int = 8) -> tuple[str, int]:
    with Output(path).opened() as output:
        settings = Settings(batch=batch, concurrency=2)
        known, budget = KnownPairs(near=None), Budget(tokens=tokens)
        generator = Generator(PLAN, model, output, known=known, budget=budget, settings=settings)
        return asyncio.run(generator.run()), len(output.pairs)


def test_tokens_that_come_back_are_waited_for(tmp_path: Path) -> None:
    # Two requests do not fit side by side, one after the other they do.
    assert generate(tmp_path / "pairs.jsonl", Model(), tokens=8000) == ("", 16)


def test_a_smaller_batch_drops_nothing_that_was_replied(tmp_path: Path) -> None:
    path, model = tmp_path / "pairs.jsonl", Model()
    with Output(path).opened() as output:
        for topic in PLAN.topics:
            reply = asyncio.run(model.ask(Prompt("", "")))
            job = Job(topic, 0)
            output.asked(job)
            output.replied(job, reply, 8)
    assert generate(path, model, batch=2) == ("", 16)
    assert model.asked == 2


def test_what_is_asked_after_a_reply_of_no_use_is_recorded_by_its_own_number(tmp_path: Path) -> None:
    path, job = tmp_path / "pairs.jsonl", Job(PLAN.topics[0], 0)
    with Output(path).opened() as output:
        output.asked(job)
        output.replied(job, Reply("nothing that can be read", 1, 1), 8)
    generate(path, Model(), batch=2)
    events = [
        json.loads(line) for file in tmp_path.rglob("*") if file.is_file() for line in file.read_text().splitlines()
    ]
    counts = [event["count"] for event in events if event.get("event") == "reply"]
    assert counts == [8, *[2] * (len(counts) - 1)]
    assert len(counts) > 2
