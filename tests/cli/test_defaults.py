"""The defaults of Python and of YAML are the same, and every plain argument of a part is a key beside it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import cellgraph.cli.settling  # noqa: F401 - registers the resolver that the configuration uses
from cellgraph.configuration import TARGET, locate
from cellgraph.nn.nca import PERCEPTIONS, UPDATES
from cellgraph.retrieval import QuestionAnswering
from cellgraph.runs import PairDataset, PairModel

CONF = Path(__file__).parents[2] / "conf"
#: Arguments that other parts are given for.
GIVEN = {"lattice", "cell", "fitting", "adaptation", "in_features", "in_channels", "weight"}
#: What a choice that is not the first of its kind is there for.
VARIANTS = {
    "cell=gmlp_path": {"gate_std", "out_std"},
    "lattice=cube": {"neighbourhood"},
    "lattice=small": {"neighbourhood"},
    "task=tree": {"shape", "size", "neighbourhood"},
    "teacher=llama3": {"dtype", "device_map"},
    "pool=regenerating": {"damage"},
    "pool=memory": {"reseed"},
    "curriculum=steps": {"num_steps"},
    "data=follow_ups.more": {"orders", "seed"},
}
#: What the task of question answering is told beside its parts.
TASK = ("start", "adapters_first", "control_trials", "lattice_controls", "on_disk")
ABSENT = inspect.Parameter.empty
#: Groups whose files are of the whole configuration.
GLOBAL = {"kind", "experiment", "ablation", "sweep"}
#: The files of all other groups that say something; what they build is found out when they are composed.
CHOICES = [
    f"{path.parent.name}={path.stem}"
    for path in sorted(CONF.glob("*/*.yaml"))
    if path.parent.name not in GLOBAL and yaml.safe_load(path.read_text())
]


def composed(group: str, name: str) -> Any:
    automaton = ["kind=automaton"] if group in ("task", "pool", "curriculum") else []
    with initialize_config_module("cellgraph.conf", version_base="1.3"):
        config = compose("train", overrides=[*automaton, f"{group}={name}"])
    return OmegaConf.to_container(config[group], resolve=False)


@functools.cache
def parts(choice: str) -> list[tuple[str, dict[str, Any], Any]]:
    """Every node of a choice that builds something: its name, its keys, and what it builds."""
    group, name = choice.split("=")
    if group in ("perception", "update"):
        plain = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
        known = PERCEPTIONS | UPDATES
        return [(choice, {key: plain[key] for key in plain if key != "name"}, known[plain["name"]])]
    node = composed(group, name)
    places = [("", node), *((key, value) for key, value in node.items() if isinstance(value, dict))]
    return [
        (
            f"{choice}{'.more' if place == 'more' else ''}",
            {key: value for key, value in each.items() if not key.startswith("_")},
            locate(each[TARGET]),
        )
        for place, each in places
        if TARGET in each
    ]


def defaults(part: Any) -> dict[str, Any]:
    """The default of every argument that is plain."""
    found = {name: p.default for name, p in inspect.signature(part).parameters.items() if name not in GIVEN}
    # Those that a dataclass makes anew each time.
    return vars(part()) if dataclasses.is_dataclass(part) else found


def is_open(value: Any) -> bool:
    """Whether it is taken from elsewhere, or left to the user."""
    return isinstance(value, str) and (value == "???" or "${" in value)


def same(value: Any, default: Any) -> bool:
    listed = list(default) if isinstance(default, tuple) else default
    listed = dict(listed) if isinstance(listed, Mapping) else listed
    # No terms of one's own are a mapping there and a sequence here; none at all is as good.
    return value == listed or (not value and not listed and type(value) in (dict, list))


def found() -> list[tuple[str, dict[str, Any], Any]]:
    return [part for choice in CHOICES for part in parts(choice)]


def test_there_are_parts_of_every_group() -> None:
    groups = {choice.partition("=")[0] for choice, *_ in found()}
    assert groups == {path.parent.name for path in CONF.glob("*/*.yaml")} - GLOBAL


@pytest.mark.parametrize("choice", CHOICES)
def test_the_keys_of_a_choice_are_the_arguments_with_their_defaults(choice: str) -> None:
    for name, keys, part in parts(choice):
        known = defaults(part)
        # Perceptions and updates are told these by their cell.
        told = {"channels", "context_channels"} if choice.startswith(("perception=", "update=")) else set()
        assert keys.keys() - GIVEN == known.keys() - told
        differing = {
            key
            for key, value in keys.items()
            if key not in GIVEN and known[key] is not ABSENT and not is_open(value) and not same(value, known[key])
        }
        assert differing == VARIANTS.get(name, set()), {key: (keys[key], known[key]) for key in differing}


def test_a_file_leaves_open_only_what_another_key_has() -> None:
    for choice, keys, part in found():
        taken = {key for key, value in keys.items() if is_open(value) and key not in GIVEN}
        of_cell = {"channels", "memory_channels", "perception", "update", "seed", "size"}
        required = {name for name, default in defaults(part).items() if default is ABSENT}
        # More pairs to train on are made as those of the source are.
        of_source = set(inspect.signature(part).parameters) if choice == "data=follow_ups.more" else set()
        assert taken <= of_cell | required | {"shapes"} | of_source, choice


def test_the_settings_of_a_run_are_the_defaults_of_its_task() -> None:
    kind = yaml.safe_load((CONF / "kind" / "retrieval.yaml").read_text())
    known = {name: p.default for name, p in inspect.signature(QuestionAnswering).parameters.items()}
    for name in TASK:
        assert same(kind[name], known[name]), name
    assert {*kind} == {"defaults", *TASK}
    assert yaml.safe_load((CONF / "train.yaml").read_text())["seed"] == 0


def test_a_model_in_a_few_lines_has_the_same_defaults() -> None:
    def known(function: Any) -> dict[str, Any]:
        return {name: p.default for name, p in inspect.signature(function).parameters.items()}

    own = known(PairModel)
    for name, value in composed("model", "cellgraph").items():
        assert name not in own or name == "cell" or own[name] == value, name
    assert {"surface_channels", "path", "readout", "adapter", "num_steps"} <= own.keys()
    # What is embedded from Python is there already.
    told = [name for name in TASK if name != "on_disk"]
    assert {name: own[name] for name in told} == {name: known(QuestionAnswering)[name] for name in told}
    split = composed("data", "file")
    assert {name: default for name, default in known(PairDataset.split).items() if name != "self"} == {
        name: split[name] for name in ("test", "validation", "train", "seed")
    }
