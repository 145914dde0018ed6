"""TransformersTeacher's options: its name among the cached, what it is saved as, and how its weights are held."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_encoders import TEXTS, write_model

from cellgraph.teacher import EmbeddingCache, Teacher, TransformersTeacher, load_teacher

pytestmark = pytest.mark.usefixtures("offline")


def test_fingerprint_names_everything_an_embedding_depends_on(folders: dict[str, Path], tmp_path: Path) -> None:
    base = TransformersTeacher(folders["bert"], max_length=64)
    assert isinstance(base, Teacher)
    assert len(base.fingerprint) == 64
    same = shutil.copytree(folders["bert"], tmp_path / "elsewhere")
    (same / "README.md").write_text("words")
    copy = TransformersTeacher(same, max_length=64, batch_size=3, batch_tokens=100, device="cpu")
    assert copy.fingerprint == base.fingerprint

    tokenized = shutil.copytree(same, tmp_path / "tokenized")
    (tokenized / "tokenizer.json").write_text((same / "tokenizer.json").read_text() + " ")
    others = [
        TransformersTeacher(folders["bert"], max_length=64, pooling="cls"),
        TransformersTeacher(folders["bert"], max_length=63),
        TransformersTeacher(folders["bert"], max_length=64, dtype="bfloat16"),
        TransformersTeacher(folders["bert"], max_length=64, normalize=False),
        TransformersTeacher(write_model("bert", tmp_path / "weights", seed=1), max_length=64),
        TransformersTeacher(tokenized, max_length=64),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 7


def test_cached_texts_need_no_weights(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = EmbeddingCache(tmp_path).embed(TransformersTeacher(folders["llama"], max_length=64), TEXTS)

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("the weights were asked for")

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", refuse)
    teacher = TransformersTeacher(folders["llama"], max_length=64)
    assert torch.equal(EmbeddingCache(tmp_path).embed(teacher, TEXTS[::-1]), first.flip(0))
    with pytest.raises(ValueError, match="the weights were asked for"):
        EmbeddingCache(tmp_path).embed(teacher, ["new"])


def test_save_and_load(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = shutil.copytree(folders["llama"], tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    teacher = TransformersTeacher("model", pooling="last", max_length=20, dtype="bfloat16", normalize=False)
    teacher.save_pretrained(tmp_path / "saved")
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["teacher.json"]
    monkeypatch.chdir("/")
    loaded = load_teacher(tmp_path / "saved")
    assert isinstance(loaded, TransformersTeacher)
    assert loaded.fingerprint == teacher.fingerprint
    monkeypatch.chdir(tmp_path)
    assert torch.equal(loaded.encode(TEXTS), teacher.encode(TEXTS))

    write_model("llama", model, seed=1)
    with pytest.raises(ValueError, match="have changed: expected fingerprint"):
        _ = load_teacher(tmp_path / "saved").fingerprint
    with pytest.raises(ValueError, match="have changed: expected fingerprint"):
        load_teacher(tmp_path / "saved").encode(TEXTS)


def test_damaged_descriptions_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    TransformersTeacher(folders["bert"], max_length=64).save_pretrained(tmp_path)
    path = tmp_path / "teacher.json"
    state = json.loads(path.read_text())
    for changed, message in (
        ({**state, "kind": "subprocess.run"}, "kind 'subprocess.run', expected one of"),
        ({**state, "options": {**state["options"], "trust_remote_code": True}}, "expected the options"),
        ({**state, "fingerprint": None}, "no fingerprint"),
        ([state], "describes no teacher"),
    ):
        path.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            load_teacher(tmp_path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"teacher\.json is damaged: Expecting"):
        load_teacher(tmp_path)
    path.unlink()
    with pytest.raises(OSError, match=r"teacher\.json"):
        load_teacher(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "pooling must be one of .* got 'max'"),
        ({"dtype": "int8"}, "dtype must be one of .* got 'int8'"),
        ({"max_length": 0}, "max_length must be a positive integer, got 0"),
        ({"batch_size": 0}, "batch_size must be a positive integer, got 0"),
        ({"device": "abacus"}, "device must be one that torch knows, got 'abacus'"),
        ({"quantization": "2bit", "device": "cpu"}, "quantization must be one of .* got '2bit'"),
        ({"quantization": "8bit", "device": "cpu"}, "needs a CUDA GPU, the device is 'cpu'"),
    ],
)
def test_unknown_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformersTeacher("anything", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "device"), [(0, "cuda"), (0, "mps"), (2, "cuda:7"), (2, torch.device("cuda", 2))])
def test_a_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, count: int, device: str | torch.device
) -> None:
    there = torch.device("cuda") if count else None
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setattr("torch.mps.device_count", lambda: 0)
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda check_available: there)
    monkeypatch.setattr("torch.accelerator.device_count", lambda: count)
    names = "cpu and cuda:0 and cuda:1" if count else "cpu"
    with pytest.raises(ValueError, match=f"one of this machine, which has {names}; got '{device}'"):
        TransformersTeacher("anything", device=device)


def test_quantisation_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("cellgraph.teacher.pretrained.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package bitsandbytes"):
        TransformersTeacher("anything", quantization="4bit", device="cuda")


@pytest.mark.parametrize(("quantization", "flag"), [("8bit", "load_in_8bit"), ("4bit", "load_in_4bit")])
def test_quantisation_reaches_the_model(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, quantization: str, flag: str
) -> None:
    seen: dict[str, object] = {}

    def record(folder: Path, **arguments: object) -> None:
        seen.update(arguments)
        raise RuntimeError("enough")

    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", record)
    monkeypatch.setattr("cellgraph.teacher.pretrained.importlib.util.find_spec", lambda name: object())
    # The configuration object wants the installed package's version, which this machine may not have.
    monkeypatch.setattr(transformers.BitsAndBytesConfig, "post_init", lambda self: None)
    teacher = TransformersTeacher(folders["llama"], max_length=64, quantization=quantization, device="cuda")
    with pytest.raises(ValueError, match="enough"):
        teacher.encode(["a"])
    assert getattr(seen["quantization_config"], flag) is True
    assert seen["device_map"] == {"": torch.device("cuda")}
    assert seen["trust_remote_code"] is False


def test_too_long_a_length_is_refused(folders: dict[str, Path]) -> None:
    for kind in ("llama", "distilbert", "bert"):
        with pytest.raises(ValueError, match="at most its 64 positions, got 65"):
            TransformersTeacher(folders[kind], max_length=65).encode(["a"])
    with pytest.raises(ValueError, match="must be over its 2 special tokens"):
        TransformersTeacher(folders["bert"], max_length=2).encode(["a"])


def test_building_a_teacher_touches_no_file(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        teacher = TransformersTeacher("nobody/nothing", max_length=128)
    assert repr(teacher) == "TransformersTeacher('nobody/nothing', pooling='mean', max_length=128)"
    teacher.fit(["nothing to learn"])
    assert not caplog.records


@pytest.mark.parametrize("kind", ["llama", "distilbert"])
def test_a_model_spread_by_accelerate_gives_the_same(folders: dict[str, Path], kind: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    whole = TransformersTeacher(folders[kind], max_length=64)
    spread = TransformersTeacher(folders[kind], max_length=64, device_map="auto")
    # So little that most of the weights lie on the disk and are read whenever they are needed.
    on_disk = TransformersTeacher(
        folders[kind], max_length=64, device_map="auto", max_memory={"cpu": "9KB"}, offload_folder=tmp_path
    )
    expected = whole.encode(TEXTS)
    torch.testing.assert_close(spread.encode(TEXTS), expected)
    torch.testing.assert_close(on_disk.encode(TEXTS), expected)
    assert "disk" in on_disk._network._model.hf_device_map.values()
    # Where weights lie changes no embedding, so it does not change its name.
    assert whole.fingerprint == spread.fingerprint == on_disk.fingerprint


def test_a_pooler_that_is_nowhere_cannot_lie_on_the_disk(folders: dict[str, Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"device_map": "auto", "max_memory": {"cpu": "9KB"}, "offload_folder": tmp_path}
    with pytest.raises(ValueError, match="lack 2 of the model's tensors, the first is pooler"):
        TransformersTeacher(folders["bert"], max_length=64, **options).encode(TEXTS)


def test_a_dispatch_that_cannot_be_is_refused(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="device_map must be 'auto' or None, got 'cpu'"):
        TransformersTeacher(folders["bert"], device_map="cpu")
    with pytest.raises(ValueError, match="are of device_map='auto', got them without it"):
        TransformersTeacher(folders["bert"], offload_folder="somewhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package accelerate: pip install cellgraph\[llama\]"):
        TransformersTeacher(folders["bert"], device_map="auto")
