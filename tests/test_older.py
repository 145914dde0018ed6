"""What earlier versions wrote is read in the words of this one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from cellgraph import CellGraph, GMLPCell, Lattice
from cellgraph.configuration import read_config
from cellgraph.folder import RunFolder
from cellgraph.older import upgraded
from cellgraph.runs import build_experiment

#: The settings of a network as the first version wrote them.
NETWORK: dict[str, Any] = {
    "lattice": {"shape": [3, 4, 4], "neighbourhood": 6, "boundary": ["open", "open", "open"], "mask": None},
    "cell": {"hidden": 16, "heads": 8, "sharing": "shared", "gate_std": 0.02, "norm_transport": False,
             "conveyor_rate": 0.25, "conveyor": None, "channels": 8, "memory_channels": 0, "context_channels": 0,
             "step_size": 1.0, "update_rate": 0.5, "always_random": False, "order": "sweep", "alive_channel": None,
             "alive_threshold": 0.1, "backend": "auto"},
    "teacher_width": 16, "input_nodes": ["front"], "output_nodes": ["back"], "surface_channels": 1,
    "adapter": {"name": "pca"}, "num_steps": [4, 4], "injection": "held", "checkpoint_every": 2, "tolerance": 0.0,
}  # fmt: skip

#: The configuration of an automaton's run, likewise.
AUTOMATON = """
seed: 0
task: {_target_: cellgraph.automata.tasks.Majority, width: 9, channels: 4, size: 10}
cell:
  _target_: cellgraph.nn.NCACell
  lattice: null
  channels: 4
  perception: {name: filters, filters: [gradient]}
  update: {name: mlp, hidden: 8, zero_init: true}
  update_rate: 0.5
  order: sweep
pool: {}
curriculum: {}
training: {_target_: cellgraph.automata.AutomatonSettings, max_steps: 2, num_steps: [4, 6], checkpoint_every: 100,
           rollout_checkpoint_every: 3, seed: 0}
"""


def test_a_network_of_the_first_version_loads_and_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cell = GMLPCell(Lattice((3, 4, 4)), 8, hidden=16, fire_rate=0.5, order="sequential")
    new = CellGraph(
        cell, in_features=16, num_steps=4, injection="clamped", remat_every=2, surface_channels=1, path="none"
    )
    new.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(NETWORK))
    old = CellGraph.from_pretrained(tmp_path)
    assert old.config() == new.config()
    question = torch.randn(2, 16)
    assert torch.equal(old(question).embedding, new.eval()(question).embedding)


def test_a_run_of_an_automaton_of_the_first_version_is_built(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(AUTOMATON)
    folder = RunFolder.open(tmp_path)
    experiment = build_experiment(read_config(folder), folder)
    cell = experiment.model.cell
    assert (cell.fire_rate, cell.order) == (0.5, "sequential")
    assert (experiment.settings.remat_every, experiment.settings.checkpoint_every) == (3, 100)


def test_training_keeps_the_word_that_a_network_has_another_one_for() -> None:
    run = {"model": {"adapter": "pca", "checkpoint_every": 2}, "training": {"checkpoint_every": 20}}
    assert upgraded(run) == {
        "model": {"adapter": "pca", "remat_every": 2, "path": "none"},
        "training": {"checkpoint_every": 20},
    }


def test_the_terms_of_an_objective_have_the_names_of_their_sources() -> None:
    old = {"_target_": "cellgraph.training.Objective", "active": 0.5, "diverse": 0.1, "bounded": 2.0, "bound": 3.0}
    new = {"_target_": "cellgraph.retrieval.standard_objective", "variance": 0.5, "covariance": 0.1, "overflow": 2.0}
    assert upgraded(old) == {**new, "bound": 3.0}


def test_what_this_version_writes_is_left_as_it_is() -> None:
    configs = Path(__file__).parents[1] / "conf"
    paths = sorted(configs.rglob("*.yaml"))
    assert len(paths) > 50
    for path in paths:
        settings = yaml.safe_load(path.read_text())
        assert upgraded(settings) == settings, path
