"""What is a cube worth as a layer of a small causal language model, in the place of a perceptron or beside it?

``python -m cellgraph.benchmarks.language --file PAIRS`` trains GPT-2 of transformers with two layers and random weights
on the characters of documentation strings and of a file's answers, and prints the perplexity a character on held-out
texts: after equal updates, and after equal time of one thread.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from cellgraph.data import docstring_pairs, read_pairs
from cellgraph.sequence import CubeFeedForward

from .entry import enter
from .machine import describe_machine

LENGTH, BATCH, WIDTH, LAYERS = 96, 12, 64, 2
#: The block that is replaced, and hidden units of its perceptron where it is kept alone.
BLOCK, HIDDEN = 1, 256
#: Characters that are known; all others are the first.
ALPHABET = "\x00\n " + "".join(map(chr, range(33, 127)))
#: Cubes with their ends in the place of the perceptron, and beside a quarter of one: each of about its parameters,
#: and of so many channels that the fused step takes them.
ALONE: dict[str, Any] = {"channels": 16, "hidden": 208, "heads": 4, "surface_channels": 4}
BESIDE: dict[str, Any] = {"channels": 16, "hidden": 96, "heads": 4, "surface_channels": 2}


class Both(nn.Module):
    """A perceptron and a cube, added."""

    def __init__(self, perceptron: nn.Module, cube: CubeFeedForward) -> None:
        super().__init__()
        self.perceptron, self.cube = perceptron, cube

    def forward(self, x: Tensor) -> Tensor:
        """What both add."""
        return self.perceptron(x) + self.cube(x)


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, help="pairs whose answers are read, too")
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=60.0, help="of equal time, of one thread")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--lrs", type=float, nargs="+", default=[1e-3, 3e-3], help="tried for each, on validation")
    given = parser.parse_args()
    # By the processor's time of one thread, other work on the machine takes nothing from what is compared.
    torch.set_num_threads(1)
    print({key: value for key, value in describe_machine(torch.device("cpu")).items() if key != "packages"})
    train, validation, test = texts(given.file)
    print(f"{len(train):,} characters to train, {len(validation):,} to choose the rate, {len(test):,} held out")
    print("| block | seed | rate | parameters | ppl, equal updates | ppl, equal time | ms an update |")
    for seed in given.seeds:
        for name in ("perceptron", "cube", "both"):
            tried = [learn(name, lr, seed, given, train, validation) for lr in given.lrs]
            best = min(tried, key=lambda one: perplexity(one["after updates"], validation))
            at_updates, in_time = (perplexity(best[at], test) for at in ("after updates", "after time"))
            print(
                f"| {name} | {seed} | {best['lr']:g} | {best['parameters']:,} | {at_updates:.3f} | {in_time:.3f} "
                f"| {best['ms']:.0f} |",
                flush=True,
            )


def texts(file: Path | None) -> tuple[Tensor, Tensor, Tensor]:
    """Characters as numbers, in three parts of whole texts."""
    found = [pair.answer for pair in docstring_pairs(limit=3000)]
    found += [] if file is None else [pair.answer for pair in read_pairs(file)]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0)).tolist()
    parts = order[len(found) // 5 :], order[: len(found) // 10], order[len(found) // 10 : len(found) // 5]
    number = {character: place for place, character in enumerate(ALPHABET)}
    return tuple(  # type: ignore[return-value]
        torch.tensor([number.get(character, 0) for row in part for character in found[row] + "\x00"]) for part in parts
    )


def model(name: str, seed: int) -> GPT2LMHeadModel:
    """A new model, one of its perceptrons kept, replaced, or a quarter of it beside a cube."""
    torch.manual_seed(seed)
    options: dict[str, Any] = {
        "vocab_size": len(ALPHABET),
        "n_positions": LENGTH,
        "n_embd": WIDTH,
        "n_layer": LAYERS,
        "n_head": 4,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    rest: dict[str, Any] = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    made = GPT2LMHeadModel(GPT2Config(**options, **rest, n_inner=HIDDEN))
    if name == "cube":
        made.transformer.h[BLOCK].mlp = CubeFeedForward(WIDTH, **ALONE)
    if name == "both":
        quarter = nn.Sequential(nn.Linear(WIDTH, HIDDEN // 4), nn.GELU(), nn.Linear(HIDDEN // 4, WIDTH))
        made.transformer.h[BLOCK].mlp = Both(quarter, CubeFeedForward(WIDTH, **BESIDE))
    for part in made.modules():
        if isinstance(part, CubeFeedForward):
            part.compile_step(compiling=False)
    return made


def learn(
    name: str, lr: float, seed: int, given: argparse.Namespace, train: Tensor, validation: Tensor
) -> dict[str, Any]:
    """Train until both the updates and the time are through; the weights at either."""
    network = model(name, seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    kept: dict[str, Any] = {}
    spent = done = 0.0
    while len(kept) < 2:
        starts = torch.randint(len(train) - LENGTH - 1, (BATCH,), generator=generator)
        begin = time.process_time()
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, (done + 1) / 50)
        loss = loss_of(network, train, starts)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        # The first updates choose how to step.
        spent += time.process_time() - begin if done >= 5 else 0.0
        done += 1
        if done == given.updates:
            kept["after updates"] = copy.deepcopy(network)
        if spent >= given.seconds and "after time" not in kept:
            kept["after time"] = copy.deepcopy(network)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {**kept, "lr": lr, "parameters": parameters, "ms": 1e3 * spent / (done - 5)}


@torch.no_grad()
def perplexity(network: GPT2LMHeadModel, text: Tensor, windows: int = 400) -> float:
    """Of a character, on windows spread over a text."""
    starts = torch.linspace(0, len(text) - LENGTH - 2, windows).long()
    return math.exp(sum(float(loss_of(network, text, part)) for part in starts.split(BATCH)) / len(starts.split(BATCH)))


def loss_of(network: GPT2LMHeadModel, text: Tensor, starts: Tensor) -> Tensor:
    """The mean loss of the next character, in windows that begin there."""
    windows = text[starts[:, None] + torch.arange(LENGTH + 1)]
    logits = network(input_ids=windows[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


if __name__ == "__main__":
    enter(main)
