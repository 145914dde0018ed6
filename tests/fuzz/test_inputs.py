"""Random inputs wherever something is read or built: a result, or a documented error, and nothing else."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fuzzing import VALUES, altered, damaged, share, tried
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import cellgraph.cli.settling  # noqa: F401 - registers the resolver that the configuration uses
from cellgraph import CellGraph, GMLPCell, Graph, Lattice, RunFolder
from cellgraph.answering.bank import read_answers
from cellgraph.automata import AutomatonSettings
from cellgraph.cli.own_parts import check_choices
from cellgraph.configuration import read_config
from cellgraph.data import QAPair, read_pairs, save_pairs
from cellgraph.data.rows import read_rows
from cellgraph.files import write_atomically
from cellgraph.retrieval import TrainSettings
from cellgraph.retrieval.networks import load_network
from cellgraph.runs.building import build, build_experiment
from cellgraph.teacher import LSATeacher, StoredRows, load_teacher
from cellgraph.teacher.shards import CorruptShardError, embedding_key, read_embeddings, read_keys, write_shard
from cellgraph.training import read_checkpoint

PAIRS = [QAPair(f"question {n}, with a comma", f'answer "{n}"', "t", "c", f"d{n // 2}", n % 2) for n in range(6)]
#: Where the inputs of this process lie.
PLACE = Path(tempfile.mkdtemp(prefix="cellgraph-fuzz-"))


@pytest.fixture(scope="module", autouse=True)
def _cleared() -> Any:
    yield
    shutil.rmtree(PLACE, ignore_errors=True)


def written(name: str, content: bytes) -> Path:
    path = PLACE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tables() -> dict[str, bytes]:
    """A small file of each kind that is read."""
    import pyarrow
    import pyarrow.parquet

    rows = [asdict(pair) for pair in PAIRS]
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet)
    save_pairs(PLACE / "pairs.jsonl", PAIRS)
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, [*rows[0]])
    writer.writeheader()
    writer.writerows(rows)
    return {
        ".jsonl": (PLACE / "pairs.jsonl").read_bytes(),
        ".csv": table.getvalue().encode(),
        ".tsv": "\n".join(["question\tanswer\tturn", "a\tb\t1", "c\td\t2"]).encode(),
        ".parquet": parquet.getvalue(),
        ".yml": b"categories: [x]\nconversations:\n- - one: a\n  - two\n- [a, b, &c c, *c]\n- ['q', \"r\"]\n",
    }


TABLES = tables()
ANY = st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))


@pytest.mark.parametrize("suffix", TABLES)
def test_readers(suffix: str) -> None:
    read: list[Callable[[Path], Any]] = [read_pairs, read_rows, read_answers]

    @share(0.08)
    @given(st.one_of(ANY, damaged(TABLES[suffix]), damaged(TABLES[suffix])), st.sampled_from(read))
    def check(content: bytes, reader: Callable[[Path], Any]) -> None:
        path = written(f"pairs{suffix}", content)
        tried(f"reader of {suffix}", lambda: reader(path))

    check()


def test_readers_of_text_and_of_what_is_none() -> None:
    @share(0.06)
    @given(ANY, st.sampled_from([".txt", "", ".json", ".npy", ".arrow", ".ndjson"]))
    def check(content: bytes, suffix: str) -> None:
        path = written(f"lines{suffix}", content)
        for reader in (read_answers, read_pairs):
            tried(f"reader of {suffix or 'no suffix'}", lambda reader=reader: reader(path))

    check()


def test_a_set_of_datasets() -> None:
    datasets = pytest.importorskip("datasets")
    folder = PLACE / "set"
    datasets.Dataset.from_list([asdict(pair) for pair in PAIRS]).save_to_disk(str(folder))
    files = {path.name: path.read_bytes() for path in folder.iterdir()}

    @share(0.01)
    @given(st.sampled_from(sorted(files)).flatmap(lambda name: st.tuples(st.just(name), damaged(files[name]))))
    def check(change: tuple[str, bytes]) -> None:
        for name, content in files.items():
            written(f"set/{name}", content)
        written(f"set/{change[0]}", change[1])
        tried("a set of datasets", lambda: read_pairs(folder))

    check()


def test_lattices() -> None:
    good = st.lists(st.integers(1, 5), min_size=1, max_size=3)
    shape = st.one_of(good, good, good, st.lists(st.integers(-1, 5), max_size=4), VALUES)
    offsets = st.lists(st.lists(st.integers(-2, 2), max_size=4), max_size=5)
    known = st.sampled_from([None, None, 2, 4, 6, 8, 18, 26])
    neighbourhood = st.one_of(known, known, offsets, VALUES)
    boundary = st.one_of(
        st.just("open"),
        st.sampled_from(["open", "periodic"]),
        st.lists(st.sampled_from(["open", "periodic", ""])),
        VALUES,
    )
    mask = st.one_of(st.none(), st.none(), st.just([[[True]]]), VALUES)

    @share(0.15)
    @given(shape, neighbourhood, boundary, mask)
    def check(shape: Any, neighbourhood: Any, boundary: Any, mask: Any) -> None:
        found = tried("lattice", lambda: Lattice(shape, neighbourhood, boundary=boundary, mask=mask))
        if found is not None:
            assert found.edge_index.shape == (2, len(found.edge_direction))
            assert Lattice(**found.config()) == found

    check()


def test_graphs() -> None:
    def integers(rows: int) -> Any:
        return st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=rows, max_size=rows)

    tensor = st.one_of(
        integers(1).map(lambda rows: torch.tensor(rows[0])),
        st.lists(st.lists(st.integers(-1, 5), min_size=3, max_size=3), min_size=1, max_size=3).map(torch.tensor),
        st.lists(st.floats(), max_size=3).map(torch.tensor),
        VALUES,
    )
    edges = st.one_of(integers(2).map(torch.tensor), integers(2).map(torch.tensor), tensor)
    optional = st.one_of(st.none(), st.none(), tensor)
    count = st.one_of(st.none(), st.just(5), VALUES)

    @share(0.08)
    @given(edges, count, st.tuples(optional, count, st.one_of(optional, st.just("mean")), optional))
    def check(edges: Any, nodes: Any, others: tuple[Any, ...]) -> None:
        names = ("edge_direction", "num_directions", "edge_weight", "positions")
        more = {name: value for name, value in zip(names, others, strict=True) if value is not None}
        found = tried("graph", lambda: Graph(edges, nodes, **more))
        if found is not None:
            assert found.num_edges == 0 or int(found.edge_index.max()) < found.num_nodes

    check()


@pytest.mark.parametrize("kind", [TrainSettings, AutomatonSettings], ids=lambda kind: kind.__name__)
def test_settings(kind: Any) -> None:
    names = sorted(kind.__dataclass_fields__)

    @share(0.05)
    @given(st.dictionaries(st.sampled_from(names), VALUES, min_size=1, max_size=4))
    def check(given_: dict[str, Any]) -> None:
        tried(f"constructor of {kind.__name__}", lambda: kind(**given_))

    check()


def composed(*overrides: str) -> Any:
    with initialize_config_module("cellgraph.conf", version_base="1.3"):
        return OmegaConf.to_container(compose("train", overrides=list(overrides)), resolve=True)


SMALL = ("lattice.shape=[3,3,3]", "cell.channels=8", "cell.hidden=8", "model.surface_channels=1", "model.num_steps=3")
KINDS = {
    "pairs": ("data=starter", "teacher=lsa", "teacher.width=9", *SMALL),
    "automaton": (
        "kind=automaton",
        "experiment=majority",
        "task.width=7",
        "cell.channels=4",
        "update.hidden=4",
        "pool=persistent",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_configurations(kind: str) -> None:
    config = composed(*KINDS[kind])
    config.pop("hydra", None)

    @share(0.03)
    @given(altered(config))
    def check(changed: Any) -> None:
        if not isinstance(changed, dict) or "seed" not in changed:
            return
        tried(f"configuration of {kind}", lambda: _built(changed))

    check()


def _built(config: Any) -> None:
    experiment = build_experiment(config, PLACE / "run", own=True)
    if (
        experiment.model is not None
        and callable(experiment.model)
        and not isinstance(experiment.model, torch.nn.Module)
    ):
        experiment.model(in_features=9)


def test_overrides() -> None:
    key = st.sampled_from(
        [
            "seed",
            "training.lr",
            "lattice.shape",
            "cell",
            "cell.heads",
            "task",
            "teacher",
            "data",
            "x",
            "a.b",
            "~cell",
            "+x",
        ]
    )
    value = st.one_of(
        st.text(max_size=8), VALUES.map(str), st.sampled_from(["[1,2", "{a:1}", "${seed}", "${nothing}", "nca", "???"])
    )

    @share(0.004)
    @given(st.lists(st.tuples(key, value).map("=".join), min_size=1, max_size=2))
    def check(overrides: list[str]) -> None:
        tried("overrides", lambda: _composed(overrides), HydraException, OmegaConfBaseException, ValueError)

    check()


def _composed(overrides: list[str]) -> Any:
    check_choices(overrides)
    return composed(*overrides)


def network_folder() -> Path:
    folder = PLACE / "network"
    cell = GMLPCell(Lattice((3, 2, 2)), 4, hidden=4, heads=2)
    CellGraph(cell, in_features=4, surface_channels=1, num_steps=3).save_pretrained(folder)
    return folder


def test_model_folders() -> None:
    folder = network_folder()
    config, weights = (folder / "config.json").read_bytes(), (folder / "model.safetensors").read_bytes()
    changed = altered(json.loads(config)).map(lambda tree: (json.dumps(tree).encode(), weights))
    broken = st.one_of(
        damaged(config).map(lambda content: (content, weights)), damaged(weights).map(lambda content: (config, content))
    )

    @share(0.1)
    @given(st.one_of(changed, broken))
    def check(files: tuple[bytes, bytes]) -> None:
        written("network/config.json", files[0])
        written("network/model.safetensors", files[1])
        tried("model folder", lambda: load_network(folder))

    check()


def test_teacher_folders() -> None:
    folder = PLACE / "teacher"
    teacher = LSATeacher(width=2, min_texts=1)
    teacher.fit(["a heron eats", "an otter sleeps", "a badger digs", "a heron sleeps"])
    teacher.save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    told = json.loads(files["teacher.json"])

    @share(0.03)
    @given(
        st.one_of(
            st.sampled_from(sorted(files)).flatmap(lambda name: st.tuples(st.just(name), damaged(files[name]))),
            altered(told).map(lambda tree: ("teacher.json", json.dumps(tree).encode())),
        )
    )
    def check(change: tuple[str, bytes]) -> None:
        for name, content in files.items():
            written(f"teacher/{name}", content)
        written(f"teacher/{change[0]}", change[1])
        tried("teacher folder", lambda: load_teacher(folder).encode(["a heron"]))

    check()


def test_descriptions_of_runs() -> None:
    config = composed(*KINDS["automaton"])
    text = yaml.safe_dump(config).encode()

    @share(0.03)
    @given(st.one_of(damaged(text), ANY))
    def check(content: bytes) -> None:
        folder = RunFolder(written("described/config.yaml", content).parent)
        tried("description of a run", lambda: read_config(RunFolder.open(folder)))

    check()


def test_checkpoints() -> None:
    path = PLACE / "last.ckpt"
    state = {"state_dict": {"model.w": torch.arange(3.0)}, "global_step": 1, "callbacks": {"EMA": {"average": {}}}}
    torch.save(state, path)
    content = path.read_bytes()

    @share(0.08)
    @given(st.one_of(damaged(content), ANY))
    def check(changed: bytes) -> None:
        found = tried("checkpoint", lambda: read_checkpoint(written("last.ckpt", changed)))
        if found is not None:
            assert torch.equal(found["state_dict"]["model.w"], state["state_dict"]["model.w"])

    check()


def test_shards() -> None:
    keys = [embedding_key("f", text) for text in "abc"]
    content = write_shard(PLACE, "f", keys, torch.arange(6.0).reshape(3, 2), name="shard").read_bytes()

    @share(0.05)
    @given(st.one_of(damaged(content), ANY))
    def check(changed: bytes) -> None:
        path = PLACE / "changed.safetensors"
        write_atomically(path, changed)
        found = tried("shard of embeddings", lambda: read_embeddings(path, "f", 2), CorruptShardError)
        if found is not None:
            assert found.flatten().tolist() == [0, 1, 2, 3, 4, 5]
        tried("keys of a shard", lambda: read_keys(path, "f"), CorruptShardError)
        # Another name each time: files that are read row by row are kept open.
        tried("rows of a shard", lambda: StoredRows.of_files([path]), CorruptShardError)

    check()


def test_parts_of_a_network() -> None:
    nodes = {
        "lattice": {"_target_": "cellgraph.Lattice", "shape": [3, 2, 2], "neighbourhood": 6, "boundary": "open"},
        "cell": {
            "_target_": "cellgraph.NCACell",
            "channels": 4,
            "fire_rate": 0.5,
            "order": "synchronous",
            "memory_channels": 0,
        },
        "gated": {
            "_target_": "cellgraph.GMLPCell",
            "channels": 4,
            "hidden": 4,
            "heads": 2,
            "sharing": "shared",
            "gate_std": 0.1,
        },
    }
    lattice = Lattice((3, 2, 2))

    @share(0.04)
    @given(st.sampled_from(sorted(nodes)).flatmap(lambda name: altered(nodes[name])))
    def check(node: Any) -> None:
        target = node.get("_target_")
        if target in ("cellgraph.NCACell", "cellgraph.GMLPCell"):
            tried("cell", lambda: build({**node}, lattice=lattice))
        elif target == "cellgraph.Lattice":
            tried("lattice by its configuration", lambda: build(node))

    check()
