"""Parts of the library that are given other libraries' numbers keep and save plain ones."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from on_pairs import plain_settings, train_pairs
from plain import plainly

from cellgraph import Cell, CellGraph, GMLPCell, Graph, Lattice, NCACell, rollout
from cellgraph.automata import AutomatonSettings, Curriculum, SamplePool
from cellgraph.nn import Surface
from cellgraph.retrieval import EmbeddedPairs, TrainSettings, standard_objective
from cellgraph.training import RunSettings

#: What each cell is made with, and what of it a configuration must hold.
CELL = {
    "channels": np.int64(6),
    "memory_channels": np.int32(1),
    "context_channels": torch.tensor(0),
    "step_size": np.float32(0.5),
    "fire_rate": np.float64(0.5),
    "always_random": np.bool_(False),
    "alive_channel": np.int64(2),
    "alive_threshold": torch.tensor(0.25),
}


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (Cell, {}),
        (GMLPCell, {"hidden": np.int64(8), "heads": np.int8(2), "gate_std": np.float64(0.5)}),
        (GMLPCell, {"conveyor": np.array([-1, 0]), "conveyor_rate": np.float32(0.25), "heads": torch.tensor(1)}),
        (NCACell, {"update": {"name": "mlp", "hidden": np.int64(8)}}),
        (NCACell, {"update": {"name": "gru", "keep": np.float32(0.5)}}),
        (NCACell, {"perception": {"name": "attention", "heads": np.int64(2), "width": np.int64(4)}}),
        (NCACell, {"perception": {"name": "stencil", "num_filters": np.int64(1), "trainable": np.bool_(True)}}),
    ],
)
def test_cells_keep_plain_numbers(kind, own):
    lattice = Lattice(np.array([3, 4]), np.int64(8))
    cell = kind(lattice, **CELL, **own)
    config = cell.config()
    # What JSON writes and reads again builds the same cell.
    again = kind(Lattice(**json.loads(json.dumps(lattice.config()))), **json.loads(json.dumps(config)))
    assert again.config() == config
    plain = {"channels": 6, "memory_channels": 1, "step_size": 0.5, "alive_channel": 2, "alive_threshold": 0.25}
    for name, value in plain.items():
        assert plainly(config[name], type(value), value), name
    if kind is not Cell:
        assert {name: list(p.shape) for name, p in again.named_parameters()} == {
            name: list(p.shape) for name, p in cell.named_parameters()
        }
        x = torch.randn(1, 12, 6)
        again.load_state_dict(cell.state_dict())
        assert torch.equal(again(x), cell(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lattice((3, 4.0)), r"shape must be 1 to 3 positive integers, got \(3, 4.0\)"),
        (lambda: Lattice((3, True)), "shape must be 1 to 3 positive integers"),
        (lambda: Lattice((3, 3), 8.0), "neighbourhood must be an integer, got 8.0"),
        (lambda: Lattice((3, 3), [(0.5, 1)]), r"an offset of the neighbourhood\[0\] must be an integer, got 0.5"),
        (lambda: Graph(torch.zeros(2, 1, dtype=torch.long), 3.0), "num_nodes must be an integer, got 3.0"),
        (lambda: Graph(torch.zeros(2, 1, dtype=torch.long), num_directions=True), "num_directions must be an integer"),
        (lambda: GMLPCell(Lattice((3,)), 8.0), "channels must be an integer, got 8.0"),
        (lambda: GMLPCell(Lattice((3,)), 8, heads=True), "heads must be an integer, got True"),
        (lambda: GMLPCell(Lattice((3,)), 8, step_size="fast"), "step_size must be a number, got 'fast'"),
        (lambda: GMLPCell(Lattice((3,)), 8, norm_transport=1), "norm_transport must be true or false, got 1"),
        (lambda: NCACell(Lattice((3, 3), 8), 8, update={"name": "mlp", "hidden": 8.5}), "hidden must be an integer"),
        (lambda: Surface(Lattice((3,)), "left", channels=1.0), "channels must be an integer, got 1.0"),
        (
            lambda: CellGraph(GMLPCell(Lattice((3, 3, 3)), 4), in_features=9.0, surface_channels=1),
            "in_features must be an integer",
        ),
        (
            lambda: CellGraph(GMLPCell(Lattice((3, 3, 3)), 4), in_features=9, surface_channels=1, num_steps=4.5),
            "num_steps must be an int",
        ),
        (lambda: RunSettings(batch_size=2.5), "training setting batch_size must be an integer, got 2.5"),
        (lambda: RunSettings(max_steps=True), "training setting max_steps must be an integer, got True"),
        (lambda: RunSettings(lr="abc"), "training setting lr must be a number, got 'abc'"),
        (lambda: RunSettings(compile="no"), "training setting compile must be true or false, got 'no'"),
        (lambda: TrainSettings(window=1.5), "training setting window must be an integer, got 1.5"),
        (lambda: RunSettings(betas=(0.9, "x")), r"training setting betas\[1\] must be a number, got 'x'"),
        (lambda: RunSettings(lr_multipliers={"cell": None}), r"lr_multipliers\['cell'\] must be a number, got None"),
        (lambda: AutomatonSettings(num_steps=2.5), "num_steps must be an integer, got 2.5"),
        (lambda: SamplePool(8.0), "size must be an integer, got 8.0"),
        (lambda: Curriculum(shapes={0.5: (4, 4.5)}), r"shape\[1\] must be an integer, got 4.5"),
    ],
)
def test_truth_values_and_floats_are_no_whole_numbers(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_settings_keep_plain_numbers():
    settings = AutomatonSettings(
        max_steps=np.int64(5),
        lr=np.float64(0.01),
        betas=np.array([0.5, 0.75]),
        lr_multipliers={"cell": np.float32(0.5)},
        compile=np.bool_(False),
        patience=np.int64(3),
        num_steps=np.array([2, 4]),
    )
    kept = asdict(settings)
    for name, value in {"max_steps": 5, "lr": 0.01, "compile": False, "patience": 3, "ema": 0.0, "seed": 0}.items():
        assert plainly(kept[name], type(value), value), name
    assert json.loads(json.dumps(kept["betas"])) == [0.5, 0.75]
    assert type(kept["lr_multipliers"]["cell"]) is float
    assert settings.steps == kept["num_steps"] == (2, 4)
    assert {type(end) for end in settings.steps} == {int}


@pytest.mark.parametrize("array", [np.array, list, tuple, torch.tensor], ids=["numpy", "list", "tuple", "tensor"])
def test_a_boolean_array_is_a_node_mask(array):
    lattice = Lattice((2, 3), mask=np.array([[True, True, True], [False, True, True]]))
    mask = [True, False, False, True, False]
    surface = Surface(lattice, array(mask))
    assert surface.faces is None
    assert surface.mask.tolist() == mask
    assert surface.index.tolist() == [0, 3]
    # Cells 0 1 2 above, 3 4 below the last two: by hand.
    assert lattice.hops(array(mask)).tolist() == [0, 1, 2, 0, 1]
    assert Surface(lattice, surface.config()["nodes"]).mask.tolist() == mask


def test_a_node_mask_is_a_copy_of_an_array():
    lattice = Lattice((3,))
    array = np.array([True, False, False])
    array.flags.writeable = False
    surface = Surface(lattice, array)
    array.flags.writeable = True
    array[:] = True
    assert surface.mask.tolist() == [True, False, False]


@pytest.mark.parametrize(
    "mask", [np.array([0, 1, 1]), [0, 1, 1], torch.tensor([0.0, 1.0, 1.0]), np.ones(4, bool), None]
)
def test_what_is_no_node_mask_is_named(mask):
    lattice = Lattice((3,))
    with pytest.raises(ValueError, match=r"nodes must be a boolean mask \[3\], got"):
        Surface(lattice, mask)
    with pytest.raises(ValueError, match=r"sources must be a boolean mask \[3\], got"):
        lattice.hops(mask)


@pytest.mark.parametrize("steps", [np.int64(4), np.uint8(4), torch.tensor(4), np.array(4)], ids=repr)
def test_rollouts_take_numpy_numbers_of_steps(steps):
    torch.manual_seed(0)
    lattice = Lattice((3, 3, 3))
    model = CellGraph(
        GMLPCell(lattice, np.int64(6), hidden=8),
        in_features=np.int64(9),
        surface_channels=1,
        num_steps=(np.int64(3), 4),
    )
    question = torch.randn(2, 9)
    wanted = model(question, num_steps=4)
    given = model(question, num_steps=steps)
    assert torch.equal(given.embedding, wanted.embedding)
    assert plainly(given.num_steps, int, 4)
    x = torch.randn(1, 27, 6)
    out = rollout(model.cell, x, num_steps=steps, remat_every=steps)
    assert plainly(out.num_steps, int, 4)
    assert torch.equal(out.x, rollout(model.cell, x, num_steps=4).x)
    for bad in (4.0, True):
        with pytest.raises(ValueError, match="num_steps must be an integer"):
            model(question, num_steps=bad)
        with pytest.raises(ValueError, match="num_steps must be an integer"):
            rollout(model.cell, x, num_steps=bad)


@pytest.mark.parametrize("adapter", ["linear", {"name": "autoencoder", "hidden": np.int64(8), "lr": np.float32(0.5)}])
def test_a_network_of_numpy_numbers_is_saved_and_read_again(adapter, tmp_path):
    model = CellGraph(
        GMLPCell(Lattice((3, 3, 3)), 6, hidden=8),
        in_features=np.int64(16),
        input_nodes=np.arange(27) < 9,
        output_nodes=np.arange(27) >= 18,
        surface_channels=np.int8(2),
        num_steps=(np.int64(3), np.int64(4)),
        remat_every=np.int64(2),
        tolerance=np.float64(0.0),
        adapter=adapter,
    )
    model.save_pretrained(tmp_path)
    again = CellGraph.from_pretrained(tmp_path)
    question = torch.randn(2, 16)
    assert torch.equal(again(question).embedding, model.eval()(question).embedding)
    assert again.config() == model.config()


def test_a_checkpoint_of_numpy_settings_is_read_again(tmp_path):
    def run(folder, resume: bool, **options):
        torch.manual_seed(0)
        model = CellGraph(GMLPCell(Lattice((2, 3, 3)), 6, hidden=8), in_features=9, surface_channels=1, num_steps=2)
        pairs = EmbeddedPairs(torch.randn(12, 9), torch.randn(12, 9))
        settings = plain_settings(batch_size=4, warmup_steps=1, val_every=2, accelerator="cpu", **options)
        objective = standard_objective(dialogue=np.float64(1.0), temperature=np.float32(0.5))
        return train_pairs(model, objective, pairs, pairs, settings=settings, folder=folder, resume=resume)

    options = {"lr": np.float64(0.01), "weight_decay": np.float32(0.5), "ema": np.float64(0.5), "seed": np.int64(3)}
    options |= {"betas": np.array([0.5, 0.75]), "lr_multipliers": {"cell": np.float64(2.0)}, "patience": np.int64(9)}
    run(tmp_path / "numpy", False, max_steps=np.int64(2), **options)
    result = run(tmp_path / "numpy", True, max_steps=np.int64(4), **options)
    plain = {"lr": 0.01, "weight_decay": 0.5, "ema": 0.5, "seed": 3, "betas": (0.5, 0.75), "patience": 9}
    run(tmp_path / "plain", False, max_steps=2, lr_multipliers={"cell": 2.0}, **plain)
    wanted = run(tmp_path / "plain", True, max_steps=4, lr_multipliers={"cell": 2.0}, **plain)
    assert result.steps == 4
    for name, weight in wanted.model.state_dict().items():
        assert torch.equal(result.model.state_dict()[name], weight), name
