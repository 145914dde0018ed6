"""CellGraph: files, and what comes back from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_networks import small

from cellgraph import Cell, CellGraph, Lattice
from cellgraph.testing import randomise


@pytest.mark.parametrize("adapter", ["linear", "pca", {"name": "autoencoder", "hidden": 7}])
def test_saved_and_loaded_networks_agree_in_every_bit(tmp_path, adapter) -> None:
    nodes = torch.arange(27) < 9
    model = small(adapter=adapter, input_nodes=nodes, cell={"memory_channels": 1}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path)
    loaded = CellGraph.from_pretrained(tmp_path)
    question = torch.randn(2, 9)
    assert torch.equal(loaded(question).embedding, model(question).embedding)
    assert loaded.config() == model.config()
    json.loads((tmp_path / "config.json").read_text())


def test_damaged_files_are_one_clear_line(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"holds no saved network: config.json is missing"):
        CellGraph.from_pretrained(tmp_path)
    small().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(ValueError, match="is damaged") as error:
        CellGraph.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)
    weights.write_bytes(content)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"surprise": 1}))
    with pytest.raises(ValueError, match=r"is damaged: .*surprise"):
        CellGraph.from_pretrained(tmp_path)


def test_cells_to_be_read_are_saved_whatever_they_were_given_as(tmp_path: Path) -> None:
    mask = Lattice((3, 3, 3)).face("back") | Lattice((3, 3, 3)).face("left")
    for number, cells in enumerate((mask, mask.numpy(), list(mask.numpy()), ["back", "left"])):
        model = small(path="linear", readout=cells)
        model.save_pretrained(tmp_path / str(number))
        found = CellGraph.from_pretrained(tmp_path / str(number))
        assert torch.equal(found.read_index, mask.nonzero()[:, 0])


class Tied(Cell):
    """A cell two of whose layers are one, as nobody who ties weights would think of saving them twice."""

    def __init__(self, lattice: Lattice, channels: int = 6, **options: object) -> None:
        super().__init__(lattice, channels, **options)
        self.first, self.second = torch.nn.Linear(channels, channels), torch.nn.Linear(channels, channels)
        self.second.weight = self.first.weight

    def perceive(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return x

    def update(self, x: torch.Tensor, perceived: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        return self.second(self.first(perceived).tanh())


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    model = CellGraph(Tied(Lattice((3, 3, 3))), in_features=9, surface_channels=1, num_steps=3)
    randomise(model)
    model.save_pretrained(tmp_path)
    again = CellGraph.from_pretrained(tmp_path)
    question = torch.randn(2, 9)
    assert torch.equal(again(question).embedding, model.eval()(question).embedding)
    assert again.cell.inner.second.weight is again.cell.inner.first.weight


@pytest.mark.parametrize(("name", "value"), [("num_steps", (3, 5)), ("fire_rate", 0.5)])
def test_what_was_set_after_it_was_made_leaves_the_answers_of_the_saved_network_alone(
    tmp_path: Path, name: str, value: object
) -> None:
    model = small(3, path="none").eval()
    setattr(model if name == "num_steps" else model.cell, name, value)
    model.save_pretrained(tmp_path)
    question = torch.randn(5, model.in_features)
    loaded = CellGraph.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(question).embedding, model(question).embedding)
    # A new network of that description is the identity, as any.
    fresh = CellGraph.from_config(model.config()).eval()
    assert fresh.conveyor == loaded.conveyor
