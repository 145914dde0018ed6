"""What has come from a stranger: nothing in it is executed, and what would take too much is refused in a line."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

import cellgraph
from cellgraph import CellGraph, GMLPCell, Lattice, RunFolder, load
from cellgraph.answering.bank import read_answers
from cellgraph.answering.confidence import Confidence
from cellgraph.answering.generator import GenerativeDecoder
from cellgraph.data import read_pairs, save_pairs, starter_pairs
from cellgraph.integrations.inference import Inference
from cellgraph.retrieval.networks import load_network
from cellgraph.runs import load_experiment
from cellgraph.teacher import EmbeddingCache, LSATeacher, StoredRows, TokenReader, TransformersTeacher, load_teacher
from cellgraph.teacher.hub import weight_files
from cellgraph.teacher.shards import CorruptShardError
from cellgraph.training import read_checkpoint

SHELL = ("os.system", "posix.system", "subprocess.Popen", "builtins.eval", "cellgraph.cli.os.system")


class Planted:
    """What makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """What must not be there afterwards."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists(), "something was executed"


def refused(act: Callable[[], Any], kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as caught:
        act()
    assert type(caught.value) in (kind, FileNotFoundError), caught.value
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def model_folder(path: Path, /, **changed: Any) -> Path:
    """A tiny network's folder, some of its description changed."""
    model = CellGraph(
        GMLPCell(Lattice((3, 2, 2)), 4, hidden=4, heads=2), in_features=4, surface_channels=1, num_steps=3
    )
    model.save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    for key, value in changed.items():
        *outer, name = key.split("__")
        node = config
        for part in outer:
            node = node[part]
        node[name] = value
    (path / "config.json").write_text(json.dumps(config))
    return path


def run_folder(path: Path, /, **changed: Any) -> Path:
    """A run folder as somebody else would send it: a description, pairs, a teacher and a network."""
    model_folder(path / "model")
    pairs = starter_pairs()[:24]
    for part in ("train", "validation", "test"):
        save_pairs(path / "pairs" / f"{part}.jsonl", pairs)
    teacher = LSATeacher(width=4, min_texts=1)
    teacher.fit([text for pair in pairs for text in (pair.question, pair.answer)])
    teacher.save_pretrained(path / "teacher")
    config: dict[str, Any] = {
        "seed": 0,
        "model": {"_target_": "cellgraph.CellGraph", "_partial_": True, "num_steps": 3, "surface_channels": 1},
        "teacher": {"_target_": "cellgraph.teacher.LSATeacher", "width": 4},
        "objective": {"_target_": "cellgraph.retrieval.standard_objective"},
        "training": {"_target_": "cellgraph.retrieval.TrainSettings"},
        "data": {"source": {"_target_": "cellgraph.data.starter_pairs", "_partial_": True}, "test": 8, "validation": 8},
        "start": "identity",
        "adapters_first": {},
    }
    config["data"]["seed"] = 0
    cell = {"_target_": "cellgraph.GMLPCell", "channels": 4, "hidden": 4, "heads": 2}
    config["model"]["cell"] = {**cell, "lattice": {"_target_": "cellgraph.Lattice", "shape": [3, 2, 2]}}
    (path / "config.yaml").write_text(yaml.safe_dump({**config, **changed}))
    return path


def test_an_honest_run_folder_is_read(tmp_path: Path) -> None:
    # Or what is refused below might be refused for another reason.
    assert load(run_folder(tmp_path / "run")).cell.channels == 4
    load_experiment(tmp_path / "run")


@pytest.mark.parametrize(
    "place", ["model", "teacher", "training", "data", "objective", "cell", "task", "pool", "front"]
)
@pytest.mark.parametrize("target", SHELL)
def test_a_configuration_builds_nothing_but_the_librarys_parts(
    tmp_path: Path, mark: Path, place: str, target: str
) -> None:
    node: Any = {"_target_": target, "_args_": [f"mkdir {mark}"], "command": f"mkdir {mark}"}
    run = run_folder(tmp_path / "run", **{place: {"deeper": [node]} if place == "front" else node})
    assert (
        f"may only build parts of cellgraph, as you have not started this run here, got _target_: {target}"
        in refused(lambda: load_experiment(run))
    )
    if place in ("model", "front"):
        refused(lambda: load(run))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("seed: !!python/object/apply:os.mkdir [{mark}]", "could not determine a constructor"),
        ("!!python/object/new:os.mkdir [{mark}]", "could not determine a constructor"),
        (
            "seed: 0\na0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{10 * f'*a{n - 1},'}]\n" for n in range(1, 40)),
            "line 3 repeats another by an alias",
        ),
        ("seed: " + "[" * 100_000, "recursion"),
        ("seed: 0\nx: " + "{a: " * 5000 + "1" + "}" * 5000, "recursion"),
        ("\0", "special characters"),
    ],
)
def test_a_description_that_is_no_plain_data_is_refused(tmp_path: Path, mark: Path, text: str, reason: str) -> None:
    run = run_folder(tmp_path / "run")
    (run / "config.yaml").write_text(text.replace("{mark}", str(mark)))
    for act in (load, load_experiment):
        message = refused(lambda act=act: act(run))
        assert message.startswith(f"{run / 'config.yaml'} is damaged: ")
        assert reason in message


def test_a_link_that_leads_out_of_a_run_folder_is_refused(tmp_path: Path) -> None:
    private = tmp_path / "private.txt"
    private.write_text("mine")
    for name in (".holder", "loss.png", "metrics.csv", "model/more.json"):
        run = run_folder(tmp_path / "run")
        (run / name).symlink_to(private)
        for act in (load, load_experiment):
            message = refused(lambda act=act, run=run: act(run))
            assert f"{run / name} leads out of the run folder" in message
        shutil.rmtree(run)
    run = run_folder(tmp_path / "run")
    (run / "checkpoints").symlink_to(tmp_path, target_is_directory=True)
    refused(lambda: load(run))
    (run / "checkpoints").unlink()
    # What stays within is the user's own business, and so is where the folder itself lies.
    (run / "again").symlink_to(run / "model")
    (tmp_path / "elsewhere").symlink_to(run)
    load(tmp_path / "elsewhere")
    # Whoever takes the lock writes who it is, and follows no link.
    (run / ".holder").symlink_to(private)
    with RunFolder(run).locked():
        assert (run / ".holder").read_text().startswith("process ")
    assert private.read_text() == "mine"


@pytest.mark.parametrize("name", ["../up", "..", "/tmp/x", "a/b", "a\\b", "", " ", "a\0b", 3, None])
def test_a_name_of_a_stage_stays_in_the_folder(name: Any) -> None:
    refused(lambda: RunFolder("run").stage(name))


def huge_header(path: Path, size: int) -> None:
    path.write_bytes(struct.pack("<Q", size) + b"{}")


@pytest.mark.parametrize("kind", ["pickle", "header", "longer than the file", "offsets", "shape", "text", "nothing"])
def test_weights_that_are_none_are_refused(tmp_path: Path, mark: Path, kind: str) -> None:
    folder = model_folder(tmp_path / "model")
    path = folder / "model.safetensors"

    def with_head(**described: Any) -> bytes:
        head = json.dumps({"cell.position": described}).encode()
        return struct.pack("<Q", len(head)) + head + bytes(64)

    match kind:
        case "pickle":
            path.write_bytes(pickle.dumps(Planted(mark)))
        case "header":
            huge_header(path, 2**63)
        case "longer than the file":
            huge_header(path, 10**8)
        case "offsets":
            path.write_bytes(with_head(dtype="F32", shape=[10**9], data_offsets=[0, 4 * 10**9]))
        case "shape":
            path.write_bytes(with_head(dtype="F32", shape=[2**40, 2**40], data_offsets=[0, 64]))
        case "text":
            path.write_text("weights")
        case "nothing":
            path.write_bytes(b"")
    assert "is damaged" in refused(lambda: CellGraph.from_pretrained(folder))
    assert "is damaged" in refused(lambda: load_network(folder))


@pytest.mark.parametrize(
    "changed",
    [
        {"lattice__shape": [100_000, 100_000, 10]},
        {"lattice__shape": [2**40, 2, 2]},
        {"lattice__shape": [10**30, 1, 1]},
        {"cell__hidden": 10**9},
        {"cell__channels": 2**33},
        {"in_features": 10**12},
        {"surface_channels": 10**9},
        {"num_steps": [1, "x"]},
        {"num_steps": -1},
        {"cell__kind": "os.system"},
        {"cell__kind": ["GMLPCell"]},
        {"cell__kind": "cellgraph.nn.os.system"},
        {"cell__wdith": 1},
        {"cell": None},
        {"lattice": []},
        {"adapter": {"name": "os.system"}},
        {"path": {"a": 1}},
        {"key": 3},
        {"readout": 1.5},
        {"input_nodes": [[True]]},
        {"unknown": 1},
    ],
    ids=lambda changed: json.dumps(changed)[:40],
)
def test_a_description_of_a_network_asks_for_no_more_than_its_weights(tmp_path: Path, changed: dict[str, Any]) -> None:
    folder = model_folder(tmp_path / "model", **changed)
    refused(lambda: CellGraph.from_pretrained(folder))


@pytest.mark.parametrize("content", ["[]", "null", "{", "\xff", "[" * 100_000, '{"lattice": ' * 3000, "1e999", "NaN"])
def test_a_description_that_is_no_json_object_is_refused(tmp_path: Path, content: str) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    refused(lambda: CellGraph.from_pretrained(folder))
    refused(lambda: load_network(folder))
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    (teacher / "teacher.json").write_bytes(content.encode("latin-1"))
    refused(lambda: load_teacher(teacher))
    (tmp_path / "confidence.json").write_bytes(content.encode("latin-1"))
    refused(lambda: Confidence.load(tmp_path / "confidence.json"))
    decoder = tmp_path / "decoder"
    decoder.mkdir()
    (decoder / "tokenizer.json").write_bytes(content.encode("latin-1"))
    (decoder / "config.json").write_bytes(content.encode("latin-1"))
    refused(lambda: GenerativeDecoder.from_pretrained(decoder))


def checkpoint(path: Path, **more: Any) -> Path:
    torch.save({"state_dict": {"model.w": torch.zeros(3)}, "global_step": 1, **more}, path)
    return path


def again(depth: int) -> list[Any]:
    nested: list[Any] = [0]
    for _ in range(depth):
        nested = [nested, nested]
    return nested


def deep(depth: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


def test_a_checkpoint_is_plain_and_no_larger_than_its_file(tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "last.ckpt"
    assert read_checkpoint(checkpoint(path))["global_step"] == 1
    for more in (
        {"planted": Planted(mark)},
        {"repeated": again(60)},
        {"state_dict": {"model.w": torch.zeros(1).expand(2**40)}},
        {"state_dict": {"model.w": [1]}},
        {"state_dict": []},
        {"global_step": "1"},
        {"update_state": []},
        {"sparse": torch.sparse_coo_tensor(torch.zeros(1, 1).long(), torch.ones(1), (2**40,))},
    ):
        checkpoint(path, **more)
        assert refused(lambda: read_checkpoint(path)).startswith(f"the checkpoint {path} is damaged (")
    read_checkpoint(checkpoint(path, repeated=again(3), nested=deep(50)))


@pytest.mark.parametrize("kind", ["compressed", "claimed", "overlapping", "pickle", "code"])
def test_an_archive_that_unfolds_is_refused(tmp_path: Path, mark: Path, kind: str) -> None:
    path = checkpoint(tmp_path / "last.ckpt")
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    if kind == "compressed":
        # A gigabyte of zeros in a megabyte.
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
            with archive.open("last/data/1", "w") as file:
                for _ in range(64):
                    file.write(bytes(2**24))
    elif kind == "claimed":
        content = bytearray(path.read_bytes())
        # The sizes in the central directory.
        place = content.index(b"PK\x01\x02")
        content[place + 20 : place + 28] = struct.pack("<II", 2**31, 2**31)
        path.write_bytes(content)
    elif kind == "overlapping":
        content = bytearray(path.read_bytes())
        places = [n for n in range(len(content)) if content[n : n + 4] == b"PK\x01\x02"]
        for place in places:
            content[place + 42 : place + 46] = content[places[0] + 42 : places[0] + 46]
        path.write_bytes(content)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": {}, "global_step": 1, "x": Planted(mark)}))
    else:
        # A TorchScript archive is code.
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    message = refused(lambda: read_checkpoint(path))
    assert message.startswith(f"the checkpoint {path} is damaged (")


def test_every_flipped_bit_is_seen_or_means_nothing(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "last.ckpt")
    content = path.read_bytes()
    whole, seen = read_checkpoint(path), 0
    places = range(0, len(content), 3)
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            found = read_checkpoint(path)
        except ValueError:
            seen += 1
        else:
            assert torch.equal(found["state_dict"]["model.w"], whole["state_dict"]["model.w"])
            assert found["global_step"] == 1
    assert seen > len(places) / 3


def test_a_transformers_folder_runs_no_code_and_unpickles_nothing(tmp_path: Path, mark: Path) -> None:
    from transformers import BertConfig, BertModel

    folder = tmp_path / "bert"
    small = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=8)
    BertModel(small).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Planted(mark)}, folder / "pytorch_model.bin")
    refused(lambda: TransformersTeacher(folder).encode(["x"]))
    (folder / "tricks.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "tricky", "auto_map": {"AutoConfig": "tricks.C", "AutoModel": "tricks.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["tricks.T", None]}}))
    refused(lambda: TransformersTeacher(folder).encode(["x"]))


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b", "..", "", "a\\b"])
def test_an_index_of_weights_names_files_beside_it(tmp_path: Path, name: str) -> None:
    save_file({"w": torch.zeros(1)}, tmp_path / "secret.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    index = {"weight_map": {"w": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert f"names {name!r}, expected files beside it" in refused(lambda: weight_files(folder), OSError)


@pytest.mark.parametrize("head", [b"\xff" * 8, struct.pack("<Q", 2**62), struct.pack("<Q", 10**9), b""])
def test_a_shard_with_a_head_of_any_length_is_no_shard(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "rows.safetensors"
    path.write_bytes(head + b"{}")
    refused(lambda: StoredRows.of_files([path]), CorruptShardError)


@pytest.mark.parametrize(
    "described",
    [
        {"shape": [10**12, 4], "data_offsets": [0, 16]},
        {"shape": [1], "data_offsets": [0, 16]},
        {"shape": [1, 4], "data_offsets": [0]},
        {"shape": [-1, 4], "data_offsets": [0, 16]},
        {"shape": ["1", 4], "data_offsets": [0, 16]},
        {"shape": [1, 4], "data_offsets": [10**12, 10**12 + 16]},
        {"shape": [1, 4]},
    ],
)
def test_a_shard_holds_what_its_head_says(tmp_path: Path, described: dict[str, Any]) -> None:
    head = json.dumps({"embeddings": {"dtype": "F32", **described}}).encode()
    path = tmp_path / "rows.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(16))
    refused(lambda: StoredRows.of_files([path]), CorruptShardError)


def test_a_planted_shard_of_the_cache_is_set_aside(tmp_path: Path, mark: Path) -> None:
    texts = ["a heron eats", "an otter sleeps", "a badger digs", "a heron sleeps"]
    teacher = LSATeacher(width=2, min_texts=1)
    teacher.fit(texts)
    expected = teacher.encode(texts)
    for number, content in enumerate([pickle.dumps(Planted(mark)), struct.pack("<Q", 2**60) + b"{}", b""]):
        place = tmp_path / str(number) / teacher.fingerprint
        place.mkdir(parents=True)
        (place / "planted.safetensors").write_bytes(content)
        found = EmbeddingCache(place.parent).embed(teacher, texts)
        assert torch.equal(found, expected)
        assert (place / "planted.safetensors.corrupt").is_file()


@pytest.mark.parametrize("kind", ["pickle", "head", "empty", "folder"])
def test_a_planted_file_of_token_states_is_made_again(tmp_path: Path, mark: Path, kind: str) -> None:
    class Letters:
        width, fingerprint = 1, "letters"

        def token_states(self, texts: Any, **options: Any) -> Any:
            return [torch.tensor([[float(ord(letter))] for letter in text]) for text in texts], 0

    reader = TokenReader(Letters(), folder=tmp_path / "tokens")
    whole = reader.read(["ab", "c"]).padded()
    (file,) = (tmp_path / "tokens").iterdir()
    planted = {"pickle": pickle.dumps(Planted(mark)), "head": struct.pack("<Q", 2**60) + b"{}", "empty": b""}
    if kind == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(planted[kind])
    assert torch.equal(reader.read(["ab", "c"]).padded(), whole)


def onnx_model(outputs: tuple[str, ...], *, elsewhere: str = "", unfolds: int = 4) -> bytes:
    """A file with the inputs and outputs of a network: a weight from another file, a constant of any size."""
    from onnx import TensorProto, helper

    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], [0.0] * 4)
    if elsewhere:
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": elsewhere, "length": "16"}.items():
            weight.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0),
        helper.make_node("Add", ["w", "sum"], ["all"]),
        *(helper.make_node("Add", ["question", "all"], [name]) for name in outputs),
    ]
    wanted = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("question", *outputs)]
    size = helper.make_tensor("size", TensorProto.INT64, [1], [unfolds])
    graph = helper.make_graph(nodes, "planted", wanted[:1], wanted[1:], [weight, size])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def test_an_onnx_file_executes_nothing_and_reads_no_other(
    tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from cellgraph.integrations.onnx_network import OnnxNetwork

    model = load_network(model_folder(tmp_path / "model"))
    assert isinstance(model, CellGraph)
    outputs = Inference(model).outputs
    (tmp_path / "secret.bin").write_bytes(struct.pack("<4f", 1, 2, 3, 4))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = tmp_path / "here" / "planted.onnx"

    def said(content: bytes) -> str:
        path.write_bytes(content)
        return refused(lambda: OnnxNetwork(path, model))

    honest = onnx_model(outputs)
    # Or what is refused below might be refused for another reason.
    assert "differs by" in said(honest)
    for content in (pickle.dumps(Planted(mark)), b"", honest[:-9], b"\xff" * 99):
        assert "is no model that onnxruntime can read" in said(content)
    for elsewhere in ("../secret.bin", str(tmp_path / "secret.bin"), "../../../../etc/passwd"):
        assert "is no model that onnxruntime can read" in said(onnx_model(outputs, elsewhere=elsewhere))
    # More than any memory holds.
    assert "is not this network's" in said(onnx_model(outputs, unfolds=2**46))
    assert capfd.readouterr().err == ""


def test_no_exported_program_of_others_is_loaded() -> None:
    # torch.export.load unpickles what it finds: see docs/reliability.md.
    package = Path(cellgraph.__file__).parent
    loads = [line for path in package.rglob("*.py") for line in path.read_text().splitlines() if "export.load(" in line]
    assert loads == ["    program = torch.export.load(io.BytesIO(file.getvalue())).module()"]


def test_a_small_table_that_unfolds_is_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "pairs.parquet"
    # A text of a megabyte a thousand times: a dictionary of one, and a count.
    text = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1000, pyarrow.int32()), ["x" * 2**20])
    pyarrow.parquet.write_table(pyarrow.table({"question": text, "answer": text}), path, compression="zstd")
    assert path.stat().st_size < 2**16
    assert "it unfolds into more than 1,000 times its size" in refused(lambda: read_pairs(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pairs.jsonl", b'{"question": ' * 100_000),
        ("pairs.jsonl", b'{"question": "a", "answer": ' + b"9" * 10_000 + b"}\n"),
        (
            "pairs.yml",
            b"a: &a [x]\nb: &b [" + b"*a," * 50 + b"]\nc: &c [" + b"*b," * 50 + b"]\nd: [" + b"*c," * 5000 + b"]\n",
        ),
        ("pairs.yml", b"conversations: !!python/object/apply:os.system ['true']\n"),
        ("pairs.yml", b"[" * 100_000),
        ("pairs.parquet", b"PAR1" + bytes(64) + struct.pack("<I", 2**31 - 1) + b"PAR1"),
        ("pairs.parquet", pickle.dumps({"question": 1})),
        ("pairs.csv", b'question,answer\n"' + b"x" * 200_000),
        ("pairs.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1)),
        ("pairs.zip", b"PK\x05\x06" + bytes(18)),
        ("pairs.pkl", pickle.dumps({"question": 1})),
    ],
    ids=lambda value: str(value)[:24],
)
def test_a_file_of_pairs_is_plain_data(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(lambda: read_pairs(tmp_path / name))
    refused(lambda: read_answers(tmp_path / name))


def test_a_folder_of_datasets_names_files_in_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"question": ["secret"], "answer": ["secret"]}).save_to_disk(tmp_path / "private")
    datasets.Dataset.from_dict({"question": ["a"], "answer": ["b"]}).save_to_disk(tmp_path / "set")
    assert len(read_pairs(tmp_path / "set")) == 1
    state = tmp_path / "set" / "state.json"
    told = json.loads(state.read_text())
    for name in ("../private/data-00000-of-00001.arrow", str(tmp_path / "private" / "data-00000-of-00001.arrow")):
        state.write_text(json.dumps({**told, "_data_files": [{"filename": name}]}))
        assert "expected files in the folder" in refused(lambda: read_pairs(tmp_path / "set"))
    for content in ("[" * 100_000, "[]", "{}"):
        state.write_text(content)
        refused(lambda: read_pairs(tmp_path / "set"))
    arrow = tmp_path / "set" / "data-00000-of-00001.arrow"
    state.write_text(json.dumps(told))
    # A text that begins far beyond the file's end, which Arrow would look for.
    whole = arrow.read_bytes()
    offsets = whole.rindex(struct.pack("<2i", 0, 1))
    arrow.write_bytes(whole[:offsets] + struct.pack("<2i", 2**30, 2**30 + 1) + whole[offsets + 8 :])
    assert "damaged or no set of datasets" in refused(lambda: read_pairs(tmp_path / "set"))
    arrow.write_bytes(b"\xff\xff\xff\xff" + struct.pack("<I", 2**31 - 1) + bytes(64))
    refused(lambda: read_pairs(tmp_path / "set"))
