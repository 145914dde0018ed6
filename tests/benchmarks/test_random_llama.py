"""The random LLaMA, small: from texts to a trained cube, with the figures that the true width has."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from cellgraph.benchmarks.random_llama import INNER, WIDTH, run, write_random_llama
from cellgraph.data import QAPair

PAIRS = [QAPair(f"What is the number after {n}?", f"It is {n + 1}, and after that {n + 2}.") for n in range(40)]


def test_from_texts_to_a_trained_cube(tmp_path: Path) -> None:
    sizes = {"layers": 2, "width": 64, "inner": 96, "heads": 4, "key_heads": 2, "tokens": 300}
    figures = run(PAIRS, tmp_path, updates=3, max_length=16, **sizes)
    assert figures["embed"]["texts"] == 80
    assert figures["embed"]["shape"] == [80, 64]
    assert figures["answers"] == {"shape": [4, 64], "finite": True}
    assert figures["train"]["updates"] == 3
    assert all(figures[part]["peak_GB"] > 0 for part in ("write", "load", "embed", "fit", "train"))


def test_the_model_says_what_it_is_and_has_the_sizes_asked_for(tmp_path: Path) -> None:
    place = write_random_llama(
        tmp_path, ["some words", "more words"], layers=1, width=32, inner=48, heads=4, key_heads=2, tokens=270
    )
    assert place.name == "random-llama-32-1-layers"
    config = transformers.AutoConfig.from_pretrained(place)
    assert (config.hidden_size, config.intermediate_size, config.num_key_value_heads) == (32, 48, 2)
    model = transformers.AutoModel.from_pretrained(place)
    attention = 32 * (32 + 16 + 16 + 32)
    expected = config.vocab_size * 32 + attention + 3 * 32 * 48 + 3 * 32
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert str(model.dtype) == "torch.bfloat16"
    assert (WIDTH, INNER) == (4096, 14336)
    assert pytest.approx(config.rope_parameters["rope_theta"]) == 500_000.0
