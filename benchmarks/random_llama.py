"""A LLaMA of true width and few layers with random weights: what the 4096-D path costs, from texts to a trained cube.

Nothing that it says is worth anything; shapes, memory and speed are those of the real one's first layers.

    python -m cellgraph.benchmarks.random_llama PAIRS --layers 2
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.data import QAPair, read_pairs
from cellgraph.retrieval import EmbeddedPairs, TrainSettings, predict, standard_objective
from cellgraph.retrieval.task import Retrieval
from cellgraph.teacher import EmbeddingCache, EmbeddingJob, Teacher, TransformersTeacher
from cellgraph.training import train

from .entry import enter
from .machine import describe_machine
from .measure import PeakMemory, resident

Result = TypeVar("Result")

#: Of LLaMA-3-8B (Grattafiori et al. 2024, arXiv 2407.21783, table 3), which has 32 layers and 128,256 tokens.
WIDTH, INNER, HEADS, KEY_HEADS = 4096, 14336, 32, 8


def write_random_llama(
    folder: Path,
    texts: Sequence[str],
    *,
    layers: int,
    tokens: int = 4096,
    width: int = WIDTH,
    inner: int = INNER,
    heads: int = HEADS,
    key_heads: int = KEY_HEADS,
) -> Path:
    """Write such a model in bfloat16, with a tokenizer of few tokens learned from texts, into a folder named for it.

    Args:
        folder: Where its folder is made.
        texts: What the tokenizer learns from.
        layers: Number of layers.
        tokens: Most tokens.
        width, inner, heads, key_heads: Sizes of a layer.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    place = folder / f"random-llama-{width}-{layers}-layers"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=tokens, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(place)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        dtype="bfloat16",
    )
    before = torch.get_default_dtype()
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        torch.set_default_dtype(torch.bfloat16)
        try:
            LlamaModel(config).save_pretrained(place)
        finally:
            torch.set_default_dtype(before)
    return place


def cube(width: int, *, lattice: Lattice, cell: dict[str, Any]) -> CellGraph:
    """The headline cube at that width: 225 values of the surface, one a cell, and eight channels read of each."""
    torch.manual_seed(0)
    made = GMLPCell(lattice, gate_std=0.2, out_std=1.0, **cell)
    return CellGraph(made, in_features=width, surface_channels=1, readout_channels=8, path="linear", adapter="pca")


def measured(call: Callable[[], Result]) -> tuple[Result, dict[str, float]]:
    """What a call gives, and the seconds and the resident set at its peak."""
    with PeakMemory(torch.device("cpu")) as peak:
        begin = time.perf_counter()
        result = call()
        seconds = time.perf_counter() - begin
    return result, {"seconds": round(seconds, 2), "peak_GB": round((peak.before + (peak.bytes or 0)) / 1e9, 2)}


def embedded(teacher: Teacher, pairs: Sequence[QAPair], cache: EmbeddingCache) -> tuple[Tensor, Tensor]:
    """Questions and answers, embedded."""
    texts = [pair.question for pair in pairs] + [pair.answer for pair in pairs]
    EmbeddingJob(teacher, texts, cache, shard_rows=128).run()
    both = cache.embed(teacher, texts)
    return both[: len(pairs)], both[len(pairs) :]


def run(pairs: Sequence[QAPair], folder: Path, *, updates: int, max_length: int, **sizes: Any) -> dict[str, Any]:
    """From texts to a trained cube: the figures of each part.

    Args:
        pairs: The last tenth is to ask.
        folder: Where the model and the embeddings go.
        updates: Updates of training.
        max_length: Longest text in tokens.
        sizes: See :func:`write_random_llama`.
    """
    texts = [text for pair in pairs for text in (pair.question, pair.answer)]
    figures: dict[str, Any] = {"libraries_GB": round(resident() / 1e9, 2)}
    place, figures["write"] = measured(lambda: write_random_llama(folder, texts, **sizes))
    figures["write"]["file_GB"] = round(sum(file.stat().st_size for file in place.glob("*.safetensors")) / 1e9, 2)
    teacher = TransformersTeacher(place, dtype="bfloat16", max_length=max_length, device_map="auto")
    _, figures["load"] = measured(lambda: teacher.encode(["one text"]))
    cache = EmbeddingCache(folder / "embeddings")
    (question, answer), figures["embed"] = measured(lambda: embedded(teacher, pairs, cache))
    distinct = len(set(texts))
    figures["embed"] |= {"texts": distinct, "texts_per_s": round(distinct / figures["embed"]["seconds"], 2)}
    figures["embed"]["shape"] = list(torch.cat([question, answer]).shape)
    held = max(len(pairs) // 10, 1)
    known = EmbeddedPairs(question[:-held], answer[:-held])
    small = sizes.get("width", WIDTH) < 1024
    lattice = Lattice((3, 4, 4) if small else (11, 15, 15), neighbourhood=26)
    model = cube(question.size(1), lattice=lattice, cell={"channels": 16, "hidden": 16} if small else {})
    settings = TrainSettings(max_steps=updates, batch_size=min(128, len(known)), compile=not small, warmup_steps=2)
    task = Retrieval(standard_objective(), known)
    _, figures["fit"] = measured(lambda: model.fit_adapters(known.question, known.answer))
    _, figures["train"] = measured(lambda: train(model, task, settings, progress=False))
    figures["train"] |= {
        "updates": updates,
        "samples_per_s": round(updates * settings.batch_size / figures["train"]["seconds"], 1),
    }
    figures["parameters"] = model.parameter_counts()
    answers = predict(model, question[-held:]).embedding
    figures["answers"] = {"shape": list(answers.shape), "finite": bool(answers.isfinite().all())}
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="a file of pairs")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--limit", type=int, default=200, help="pairs")
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--updates", type=int, default=20)
    given = parser.parse_args(arguments)
    pairs = read_pairs(given.pairs, limit=given.limit)
    with tempfile.TemporaryDirectory() as folder:
        figures = run(pairs, Path(folder), updates=given.updates, max_length=given.max_length, layers=given.layers)
    print(json.dumps({"machine": describe_machine(torch.device("cpu")), "random LLaMA": figures}, indent=2))


if __name__ == "__main__":
    enter(main)
