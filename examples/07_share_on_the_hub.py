"""Save a network, read it back, and put it on the Hugging Face hub where a name is given.

    python examples/07_share_on_the_hub.py [owner/name]

Without a name nothing leaves this machine: the files and the model card are shown. With one, log in first
(``hf auth login``); the repository is made private.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from cellgraph import CellGraph, GMLPCell, Lattice


def main(name: str | None = None) -> None:
    torch.manual_seed(0)
    model = CellGraph(
        GMLPCell(Lattice((5, 6, 6)), channels=16, hidden=32), in_features=36, surface_channels=1, num_steps=6
    ).eval()
    question = torch.randn(2, 36)
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        for path in sorted(Path(folder).iterdir()):
            print(f"{path.name}: {path.stat().st_size:,} bytes")
        again = CellGraph.from_pretrained(folder)
    print("the same answers:", torch.equal(again(question).embedding, model(question).embedding))
    if name is None:
        print(f"\nthe card on the hub would be:\n\n{model.model_card('owner/name', license='mit')}")
        return
    print(model.push_to_hub(name, private=True, license="mit"))
    print("from the hub:", torch.equal(CellGraph.from_pretrained(name)(question).embedding, model(question).embedding))


if __name__ == "__main__":
    main(*sys.argv[1:])
