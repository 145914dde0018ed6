"""Where TransformersTeacher finds its model: in a folder or the hub's cache, whole, and without running any code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from tiny_encoders import TEXTS

from cellgraph.teacher import TransformersTeacher

pytestmark = pytest.mark.usefixtures("offline")


def test_a_model_that_cannot_be_had_is_one_line_that_names_lsa(tmp_path: Path) -> None:
    teacher = TransformersTeacher("nobody/nothing")
    for use in (lambda: teacher.fingerprint, lambda: teacher.width, lambda: teacher.encode(["a"])):
        with pytest.raises(OSError, match=r"'nobody/nothing' cannot be had: .*teacher=lsa") as error:
            use()
        assert "\n" not in str(error.value)


def fill_hub_cache(folder: Path, cache: Path, name: str) -> None:
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    shutil.copytree(folder, repository / "snapshots" / "c0ffee")


def test_the_hub_cache_is_used_without_a_network(folders: dict[str, Path], tmp_path: Path) -> None:
    fill_hub_cache(folders["bert"], tmp_path / "hub", "someone/bert")
    teacher = TransformersTeacher("someone/bert", max_length=64)
    assert teacher.fingerprint == TransformersTeacher(folders["bert"], max_length=64).fingerprint
    assert torch.equal(teacher.encode(TEXTS), TransformersTeacher(folders["bert"], max_length=64).encode(TEXTS))
    with pytest.raises(OSError, match="teacher=lsa"):
        _ = TransformersTeacher("someone/bert", revision="other").width


def test_an_incomplete_hub_cache_is_not_used(folders: dict[str, Path], tmp_path: Path) -> None:
    fill_hub_cache(folders["bert"], tmp_path / "hub", "someone/bert")
    next((tmp_path / "hub").rglob("model.safetensors")).unlink()
    with pytest.raises(OSError, match="teacher=lsa"):
        _ = TransformersTeacher("someone/bert").width


def test_weights_in_several_files(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["llama"], tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    model = transformers.LlamaForCausalLM.from_pretrained(folders["llama"])
    model.save_pretrained(folder, max_shard_size="10KB")
    parts = sorted(folder.glob("model-*.safetensors"))
    assert len(parts) > 1
    teacher = TransformersTeacher(folder, max_length=64)
    torch.testing.assert_close(
        teacher.encode(TEXTS), TransformersTeacher(folders["llama"], max_length=64).encode(TEXTS)
    )
    assert set(teacher._weight_digests) == {part.name for part in parts}
    parts[0].unlink()
    with pytest.raises(OSError, match=f"lacks 1 of {len(parts)} weight files, the first is {parts[0].name}"):
        _ = TransformersTeacher(folder, max_length=64).width


def test_pickled_tensors_are_read_when_there_is_nothing_better(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["llama"], tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    state = transformers.LlamaForCausalLM.from_pretrained(folders["llama"]).state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    torch.testing.assert_close(
        TransformersTeacher(folder, max_length=64).encode(TEXTS),
        TransformersTeacher(folders["llama"], max_length=64).encode(TEXTS),
    )


class Payload:
    """Unpickling this would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_code_in_files_is_never_run(folders: dict[str, Path], tmp_path: Path) -> None:
    trace = tmp_path / "it_ran"
    pickled = shutil.copytree(folders["llama"], tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Payload(trace)}, pickled / "pytorch_model.bin")
    torch.load(pickled / "pytorch_model.bin", weights_only=False)
    trace.unlink()  # It would have.
    with pytest.raises(ValueError, match="cannot be read"):
        TransformersTeacher(pickled, max_length=64).encode(["a"])

    remote = shutil.copytree(folders["bert"], tmp_path / "remote")
    (remote / "code.py").write_text(f"import pathlib\npathlib.Path({str(trace)!r}).touch()\n")
    config = json.loads((remote / "config.json").read_text())
    config.update(model_type="novel", auto_map={"AutoConfig": "code.Config", "AutoModel": "code.Model"})
    (remote / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="cannot be read"):
        TransformersTeacher(remote, max_length=64).encode(["a"])
    assert not trace.exists()


def test_broken_models_are_one_line_each(folders: dict[str, Path], tmp_path: Path) -> None:
    def broken(name: str, **files: bytes | None) -> TransformersTeacher:
        folder = shutil.copytree(folders["bert"], tmp_path / name)
        for file, content in files.items():
            path = folder / file.replace("__", ".")
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
        return TransformersTeacher(folder, max_length=64)

    cases = [
        (broken("no_config", config__json=None), OSError, "has no config.json"),
        (broken("no_weights", model__safetensors=None), OSError, "has no weights"),
        (broken("adapter", adapter_config__json=b"{}"), OSError, "holds an adapter"),
        (broken("bad_config", config__json=b"{"), ValueError, "cannot be read"),
        (broken("bad_tokenizer", tokenizer__json=b"{"), ValueError, "cannot be read"),
        (broken("bad_weights", model__safetensors=b"\x08" + bytes(40)), ValueError, "cannot be read"),
    ]
    for teacher, kind, message in cases:
        with pytest.raises(kind, match=message) as error:
            teacher.encode(["a"])
        assert "\n" not in str(error.value)


def test_missing_tensors_are_refused_instead_of_drawn_at_random(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders["bert"], tmp_path / "lacking")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "layer.1.output.dense.weight" in name)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lack 1 of the model's tensors"):
        TransformersTeacher(folder, max_length=64).encode(["a"])
