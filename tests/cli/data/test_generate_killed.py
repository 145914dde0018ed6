"""``cellgraph data generate`` killed at random moments, again and again: the file comes out as if nothing had been."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest
from fake_model import KEY, MODEL, serving
from processes import command, environment, run

PLAN = "pairs: 24\ncategories:\n  a: [rivers, stones, birds, clouds, trees]\n  b: [knots, weaving, bread, ink]\n"
KILLS = 20


@pytest.mark.slow
@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_twenty_kills_change_nothing(tmp_path: Path, api: str) -> None:
    draw = random.Random(0)
    (tmp_path / "plan.yaml").write_text(PLAN)
    keys = {"OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY}

    def options(url: str, name: str) -> list[object]:
        address = f"{url}/v1" if api == "openai" else url
        plan = ["--plan", "plan.yaml", "--batch", 2, "--first-wait", 0.01, "--tries", 99]
        return ["data", "generate", name, "--model", MODEL, "--api", api, "--base-url", address, *plan]

    with serving() as server:
        assert run(tmp_path, *options(server.url, "whole.jsonl"), **keys).returncode == 0
        requests = len(server.prompts)
    path, record = tmp_path / "pairs.jsonl", tmp_path / "pairs.jsonl.record"
    kills = 0
    # Some of the requests fail, each time others.
    with serving(lambda number: draw.choice(["", "", "", "500", "drop", "no JSON"]), seconds=0.05) as server:
        while kills < KILLS:
            size = record.stat().st_size if record.exists() else 0
            process = subprocess.Popen(
                command(*options(server.url, "pairs.jsonl")),
                cwd=tmp_path,
                env=environment(tmp_path) | keys,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            # Killed a moment after it has begun to write, wherever it is then.
            while process.poll() is None and (record.stat().st_size if record.exists() else 0) == size:
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.25))
            assert process.poll() is None, "it was through before it was killed as often as it should be"
            process.kill()
            process.wait()
            kills += 1
            there = path.read_bytes() if path.exists() else b""
            assert (tmp_path / "whole.jsonl").read_bytes().startswith(there)
        assert run(tmp_path, *options(server.url, "pairs.jsonl"), **keys).returncode == 0
        replied = record.read_bytes().count(b'"event": "reply"')
        unusable = record.read_bytes().count(b"Sure, here are your pairs!")
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    # Nothing that had been replied was asked again.
    assert replied - unusable == requests
