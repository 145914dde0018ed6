"""TransformersTeacher on tiny real models, written to disk and read back like any other."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import constants
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from cellgraph.teacher import EmbeddingCache, Teacher, TransformersTeacher, load_teacher
from cellgraph.teacher.batches import batches_by_length
from cellgraph.teacher.pooling import pool

TEXTS = [
    "what is the time",
    "a",
    "the quick brown fox jumps over the lazy dog and then sleeps for a very long time in the warm sun",
    "how do cells talk",
    "cells talk to their neighbours, one step at a time.",
    "the quick brown fox",
    "what is the time",
    "unknownword",
]
SIZES: dict[str, Any] = {"vocab_size": 200, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def write_wordpiece(folder: Path, *, template: bool = True) -> None:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special))
    if template:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def write_wordlevel(folder: Path) -> None:
    """A decoder's tokenizer: no padding token, nothing put around a text."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(TEXTS[:-1], trainers.WordLevelTrainer(special_tokens=["<unk>", "<s>", "</s>"]))
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def write_model(kind: str, folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config: Any
    if kind == "llama":
        write_wordlevel(folder)
        config = transformers.LlamaConfig(
            **SIZES, hidden_size=16, num_key_value_heads=1, max_position_embeddings=64, initializer_range=0.5
        )
        # Written with its language-modelling head, as decoders are published.
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
    elif kind == "distilbert":
        write_wordpiece(folder)
        config = transformers.DistilBertConfig(
            vocab_size=200, dim=16, hidden_dim=32, n_layers=2, n_heads=2, max_position_embeddings=64
        )
        config.initializer_range = 0.5
        transformers.DistilBertModel(config).save_pretrained(folder)
    elif kind == "bert":
        write_wordpiece(folder)
        config = transformers.BertConfig(**SIZES, hidden_size=16, max_position_embeddings=64, initializer_range=0.5)
        transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    elif kind == "t5":
        write_wordpiece(folder)
        config = transformers.T5Config(vocab_size=200, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        transformers.T5Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: write_model(kind, root / kind) for kind in ("llama", "distilbert", "bert", "t5")}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def reference(folder: Path, text: str, pooling: str, max_length: int = 64) -> np.ndarray:
    """One text by itself, without padding, in float64."""
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float64).eval()
    ids = transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    if len(ids) > max_length:
        keep_last = ids[-1:] if "bert" in folder.name else []
        ids = ids[: max_length - len(keep_last)] + keep_last
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
    vector = {"mean": hidden.mean(axis=0), "last": hidden[-1], "cls": hidden[0]}[pooling]
    return vector / np.sqrt((vector**2).sum())


@pytest.mark.parametrize("pooling", ["mean", "last", "cls"])
@pytest.mark.parametrize("kind", ["llama", "distilbert", "bert", "t5"])
def test_embeddings_equal_those_of_single_unpadded_texts(folders: dict[str, Path], kind: str, pooling: str) -> None:
    teacher = TransformersTeacher(folders[kind], pooling=pooling, max_length=64, batch_size=4)
    embeddings = teacher.encode(TEXTS)
    expected = np.stack([reference(folders[kind], text, pooling) for text in TEXTS])
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (len(TEXTS), teacher.width) == (8, 16)
    np.testing.assert_allclose(embeddings.numpy(), expected, atol=2e-5)
    # Embeddings of different texts differ, or the comparison would say little (a causal first token sees itself only).
    if not (kind == "llama" and pooling == "cls"):
        assert torch.pdist(embeddings[[0, 1, 2, 3, 4, 5]]).min() > 1e-3


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_long_texts_are_cut(folders: dict[str, Path], kind: str) -> None:
    embedding = TransformersTeacher(folders[kind], max_length=7).encode(TEXTS)
    expected = np.stack([reference(folders[kind], text, "mean", 7) for text in TEXTS])
    np.testing.assert_allclose(embedding.numpy(), expected, atol=2e-5)


@pytest.mark.parametrize(("batch_size", "batch_tokens"), [(1, 4096), (3, 4096), (64, 10), (64, 1)])
def test_batches_do_not_change_embeddings(folders: dict[str, Path], batch_size: int, batch_tokens: int) -> None:
    whole = TransformersTeacher(folders["distilbert"], max_length=64).encode(TEXTS)
    teacher = TransformersTeacher(
        folders["distilbert"], max_length=64, batch_size=batch_size, batch_tokens=batch_tokens
    )
    torch.testing.assert_close(teacher.encode(TEXTS), whole, atol=1e-6, rtol=0)


def test_texts_are_batched_by_length_within_both_limits() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 500).tolist()
    batches = batches_by_length(lengths, 16, 200)
    assert sorted(index for batch in batches for index in batch) == list(range(500))
    assert all(len(batch) <= 16 for batch in batches)
    assert all(len(batch) * max(lengths[i] for i in batch) <= 200 for batch in batches)
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)


def test_padding_that_is_not_finite_is_ignored() -> None:
    hidden = torch.randn(2, 3, 4)
    hidden[0, 2] = float("nan")
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    torch.testing.assert_close(pool(hidden, mask, "mean"), torch.stack([hidden[0, :2].mean(0), hidden[1].mean(0)]))
    torch.testing.assert_close(pool(hidden, mask, "last"), torch.stack([hidden[0, 1], hidden[1, 2]]))
    with pytest.raises(ValueError, match="pooling must be one of"):
        pool(hidden, mask, "max")


def test_unnormalised_embeddings_keep_their_length(folders: dict[str, Path]) -> None:
    raw = TransformersTeacher(folders["llama"], max_length=64, normalize=False).encode(TEXTS)
    unit = TransformersTeacher(folders["llama"], max_length=64).encode(TEXTS)
    assert (raw.norm(dim=1) - 1).abs().min() > 0.01
    torch.testing.assert_close(raw / raw.norm(dim=1, keepdim=True), unit)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(len(TEXTS)))


def test_lower_precision_is_close_and_comes_back_as_float32(folders: dict[str, Path]) -> None:
    exact = TransformersTeacher(folders["bert"], max_length=64).encode(TEXTS)
    rough = TransformersTeacher(folders["bert"], max_length=64, dtype="bfloat16").encode(TEXTS)
    assert rough.dtype == torch.float32
    assert 0 < (exact - rough).abs().max() < 0.1


def test_the_model_is_frozen_and_leaves_no_trace(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    random_state = torch.get_rng_state()
    level = transformers.utils.logging.get_verbosity()
    teacher = TransformersTeacher(folders["bert"], max_length=64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = teacher.encode(TEXTS)
    # BERT without its pooler on disk gets a random one, which must not shift the caller's random numbers.
    assert torch.equal(random_state, torch.get_rng_state())
    assert transformers.utils.logging.get_verbosity() == level
    assert not embedding.is_inference()
    assert not embedding.requires_grad
    assert not teacher._network._model.training
    assert not any(parameter.requires_grad for parameter in teacher._network._model.parameters())
    torch.testing.assert_close(embedding, TransformersTeacher(folders["bert"], max_length=64).encode(TEXTS))
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_on_request(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    TransformersTeacher(folders["bert"], max_length=64).encode(TEXTS, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "8/8" in err


def test_no_texts_and_empty_texts(folders: dict[str, Path]) -> None:
    for kind in ("llama", "bert"):
        teacher = TransformersTeacher(folders[kind], max_length=64)
        assert teacher.encode([]).shape == (0, 16)
        embedding = teacher.encode(["", "fox", ""])
        assert embedding.isfinite().all()
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))
        torch.testing.assert_close(embedding[0], embedding[2])


def test_a_padding_token_unknown_to_the_model_does_no_harm(tmp_path: Path) -> None:
    folder = write_model("llama", tmp_path / "llama")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    expected = TransformersTeacher(folder, max_length=64).encode(TEXTS)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    config = json.loads((folder / "config.json").read_text())
    tokenizer.save_pretrained(folder)
    # The model's embedding ends where the tokenizer's new token begins.
    size = tokenizer.pad_token_id
    model = transformers.LlamaForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(size)
    model.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == size < config["vocab_size"]
    torch.testing.assert_close(TransformersTeacher(folder, max_length=64).encode(TEXTS), expected)


def test_halves_of_characters_are_replaced(folders: dict[str, Path]) -> None:
    teacher = TransformersTeacher(folders["bert"], max_length=64)
    halves, whole = teacher.encode(["cut \ud83d", "a \ud83d\ude00"]), ["cut \N{REPLACEMENT CHARACTER}", "a \U0001f600"]
    assert torch.equal(halves, teacher.encode(whole))


def test_texts_must_be_strings(folders: dict[str, Path]) -> None:
    teacher = TransformersTeacher(folders["bert"], max_length=64)
    with pytest.raises(ValueError, match="got one str"):
        teacher.encode("one text")
    with pytest.raises(ValueError, match="text 1 is a float"):
        teacher.encode(["fine", float("nan")])  # type: ignore[list-item]


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


def test_quantisation_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
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
