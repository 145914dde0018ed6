"""Settings that do not fit: one line that names the setting, before anything is written or takes long."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from cellgraph.cli.errors import is_users, one_line
from cellgraph.runs import build_experiment

FAST = (
    "teacher=lsa",
    "teacher.width=8",
    "lattice.shape=[3,3,3]",
    "model.num_steps=3",
    "model.surface_channels=1",
    "cell.channels=8",
    "cell.hidden=16",
    "cell.heads=4",
    "data=file",
)
#: Choices that have every kind of part between them.
AUTOMATA = (
    ("task=majority", "perception=attention", "update=gru", "pool=persistent", "curriculum=steps"),
    ("task=life", "perception=stencil", "cell.channels=1", "training.num_steps=1"),
    ("task=tree", "task.size=8", "cell=gmlp", "cell.channels=8", "cell.hidden=16", "cell.heads=4"),
    (
        "task=voronoi",
        "perception=stencil",
        "cell.channels=1",
        "task.num_cells=50",
        "task.size=4",
        "task.horizon=2",
        "training.num_steps=1",
    ),
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [{"question": f"what is {a} of {b}", "answer": f"it is {a} of {b}"} for a in "abcdef" for b in "uvwxyz"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def composed(*overrides: str) -> DictConfig:
    with initialize_config_module("cellgraph.conf", version_base="1.3"):
        return compose("train", overrides=list(overrides))


def plain(config: DictConfig) -> Any:
    return OmegaConf.to_container(config, resolve=True)


def numbers(node: Any, *above: str) -> Iterator[tuple[str, Any]]:
    """Every number, truth value and list of numbers of a configuration, with its key."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from numbers(value, *above, str(key))
    elif isinstance(node, (int, float)) or (isinstance(node, list) and node and isinstance(node[0], (int, float))):
        yield ".".join(above), node


def wrong_kinds(value: Any) -> list[Any]:
    several = [1, "word"] if not isinstance(value, list) else [1.5, "word"]
    kinds = ["word", several, {"a": 1}]
    return kinds + ([2.5, True] if type(value) is int else [True] if type(value) is float else [0.5])


def said(config: DictConfig, folder: Path) -> str:
    """What is said of a configuration before anything is written; nothing where it is taken."""
    found: Exception | None = None
    try:
        experiment = build_experiment(plain(config), folder)
        experiment.task.check(experiment.model, experiment.settings)
        getattr(experiment.task, "split", lambda: None)()
    except Exception as error:
        found = error
    assert not folder.exists()
    assert found is None or is_users(found), repr(found)
    return "" if found is None else one_line(found)


def put(config: DictConfig, key: str, value: Any) -> DictConfig:
    changed = config.copy()
    OmegaConf.set_struct(changed, False)
    OmegaConf.update(changed, key, value, merge=False, force_add=True)
    return changed


def check_every_number(config: DictConfig, folder: Path, *, but: tuple[str, ...] = ()) -> None:
    assert said(config, folder) == ""
    # What is taken over from another key is checked there.
    for key, value in numbers(OmegaConf.to_container(config, resolve=False)):
        if key.startswith(("hydra.", *but)) or key.endswith("_partial_"):
            continue
        seeds = re.search(r"(^|[._])seed$", key) is not None
        out_of_range = [-1, 2**32, 10**25] if seeds else []
        for wrong in wrong_kinds(value) + out_of_range:
            told = said(put(config, key, wrong), folder)
            assert key.split(".")[-1] in told, f"{key}={wrong}: {told or 'taken'}"


def test_every_number_of_question_answering_is_checked(tmp_path: Path, pairs: Path) -> None:
    config = composed(*FAST, f"data.source.path={pairs}", "data.source.limit=30", "training.patience=5")
    # Its keys are no settings but names: they are named with what is wrong with them.
    check_every_number(config, tmp_path / "run", but=("training.lr_multipliers",))
    for wrong in ("word", True, [1]):
        told = said(put(config, "training.lr_multipliers", {"cell": wrong}), tmp_path / "run")
        assert "training setting lr_multipliers['cell'] must be a number" in told


@pytest.mark.parametrize("choice", AUTOMATA, ids=[choice[0] for choice in AUTOMATA])
def test_every_number_of_an_automaton_is_checked(tmp_path: Path, choice: tuple[str, ...]) -> None:
    # The gated cell perceives and updates in its own way.
    unused = ("perception", "update") if "cell=gmlp" in choice else ()
    check_every_number(composed("kind=automaton", *choice, "training.patience=5"), tmp_path / "run", but=unused)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+training.lr_multipliers.foo=2"], "lr_multipliers must be by the beginning of a parameter's name, "),
        (
            ["+training.lr_multipliers.foo=2"],
            "got 'foo'; there are cell, question_adapter, answer_adapter, path, readout, terms",
        ),
        (["+training.lr_multipliers.cell_x=2"], "got 'cell_x'; there are cell, question_adapter"),
        (["adapters_first.batch_size=0"], "adapters_first: training setting batch_size must be positive, got 0"),
        (["adapters_first.lr=fast"], "adapters_first: training setting lr must be a number, got 'fast'"),
        (["+adapters_first.rate=1"], "adapters_first must be settings of training, got 'rate'"),
        (["adapters_first=3"], "adapters_first must be settings by name, got 3"),
        (["model.num_steps=1"], "num_steps"),
        (["training.batch_size=0"], "training setting batch_size must be positive, got 0"),
    ],
)
def test_what_does_not_fit_is_refused_first(tmp_path: Path, pairs: Path, overrides: list[str], message: str) -> None:
    assert message in said(composed(*FAST, f"data.source.path={pairs}", *overrides), tmp_path / "run")


@pytest.mark.parametrize("key", ["seed", "start", "training", "model", "data.seed", "data.validation", "data.source"])
def test_what_a_configuration_lacks_is_named(tmp_path: Path, pairs: Path, key: str) -> None:
    config = composed(*FAST, f"data.source.path={pairs}")
    OmegaConf.resolve(config)
    OmegaConf.set_struct(config, False)
    group, _, name = key.rpartition(".")
    del (config[group] if group else config)[name]
    assert said(config, tmp_path / "run") == f"the configuration lacks '{key}'"


def test_no_first_stage_is_a_setting(tmp_path: Path, pairs: Path) -> None:
    for stage in ({}, {"max_steps": 0}, {"max_steps": None}, None):
        assert said(put(composed(*FAST, f"data.source.path={pairs}"), "adapters_first", stage), tmp_path / "run") == ""


@pytest.mark.parametrize(
    ("rows", "test", "validation", "got"),
    [
        (36, 6, 0, "30 for train, 0 for validation, 6 for test"),
        (36, 0, 6, "30 for train, 6 for validation, 0 for test"),
        (36, 0.2, 0.0, "29 for train, 0 for validation, 7 for test"),
        (6, 0.2, 0.08, "5 for train, 0 for validation, 1 for test"),
    ],
)
def test_every_part_needs_pairs(
    tmp_path: Path, pairs: Path, rows: int, test: float, validation: float, got: str
) -> None:
    settings = [f"data.source.limit={rows}", f"data.test={test}", f"data.validation={validation}"]
    experiment = build_experiment(plain(composed(*FAST, f"data.source.path={pairs}", *settings)), tmp_path / "run")
    with pytest.raises(ValueError, match=r"\(data.validation\) and test \(data.test\) need at least 1 pair") as caught:
        experiment.run()
    assert str(caught.value).endswith(f"; got {got}")
    assert not (tmp_path / "run" / "pairs").exists()


def test_a_device_that_there_is_not_is_told_before_the_pairs_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    config = composed(*FAST, "data.source.path=nowhere.csv", "training.accelerator=gpu")
    with pytest.raises(ValueError, match="accelerator must be a device of this machine, which has cpu; got 'gpu'"):
        build_experiment(plain(config), tmp_path / "run").run()
