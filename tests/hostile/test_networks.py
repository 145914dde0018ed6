"""A network from a stranger, an exported one too: it executes nothing and takes no more than its weights."""

from __future__ import annotations

import json
import pickle
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from planted import Planted, model_folder, refused

import cellgraph
from cellgraph import CellGraph
from cellgraph.answering.confidence import Confidence
from cellgraph.answering.generator import GenerativeDecoder
from cellgraph.integrations.inference import Inference
from cellgraph.retrieval.networks import load_network
from cellgraph.teacher import load_teacher


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
    # More than any memory holds: some versions of onnxruntime find out when they read it, others when they run it.
    assert re.search("is not this network's|is no model that", said(onnx_model(outputs, unfolds=2**46)))
    assert capfd.readouterr().err == ""


def test_no_exported_program_of_others_is_loaded() -> None:
    # torch.export.load unpickles what it finds: see docs/reliability.md.
    package = Path(cellgraph.__file__).parent
    loads = [line for path in package.rglob("*.py") for line in path.read_text().splitlines() if "export.load(" in line]
    assert loads == ["    program = torch.export.load(io.BytesIO(file.getvalue())).module()"]
