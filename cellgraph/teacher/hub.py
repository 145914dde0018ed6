"""Model files: where they lie and what is in them, without loading any of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cellgraph.files import expanded
from cellgraph.reading import first_line, read_json

#: Files at the top of a model folder that no embedding depends on.
_UNRELATED = {
    "generation_config.json",
    # Belong to sentence-transformers, which is not used here: pooling and length are arguments of the teacher.
    "config_sentence_transformers.json",
    "data_config.json",
    "modules.json",
    "sentence_bert_config.json",
    # Traces of training and packaging.
    "all_results.json",
    "eval_results.json",
    "requirements.txt",
    "teacher.json",
    "train_results.json",
    "trainer_state.json",
}
#: Suffixes of configuration and vocabulary files.
_SUFFIXES = {".bpe", ".codes", ".json", ".model", ".spm", ".tiktoken", ".txt", ".vocab"}

_SMALL_FILES = [f"*{suffix}" for suffix in sorted(_SUFFIXES)]
#: Subfolders hold copies of the weights for other runtimes, and "consolidated" files copies in another layout.
_SKIPPED_FILES = ["*/*", "consolidated*"]


def locate_model(name_or_path: str, *, revision: str | None = None) -> Path:
    """Find the folder with a model's files: a local folder, the hub's cache on this machine, or the hub.

    A complete copy in the cache is used as it is, without asking the hub for a newer one.

    Args:
        name_or_path: Local folder or hub id.
        revision: Branch, tag or commit on the hub.

    Raises:
        OSError: If the files are nowhere to be had.
    """
    folder = expanded(name_or_path)
    if folder is not None and folder.is_dir():
        return folder
    reason = Exception()
    for weights, cached in (("*.safetensors", True), ("*.safetensors", False), ("pytorch_model*.bin", False)):
        snapshot = _snapshot(name_or_path, revision, weights, cached=cached)
        if isinstance(snapshot, Path):
            return snapshot
        reason = snapshot
    raise OSError(
        f"teacher {name_or_path!r} cannot be had: it is no local folder and the Hugging Face hub did not give it "
        f"({first_line(reason)}); teacher=lsa needs no weights"
    )


def _snapshot(name: str, revision: str | None, weights: str, *, cached: bool) -> Path | Exception:
    """A complete folder of the hub's cache, or why there is none."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=[*_SMALL_FILES, weights],
                ignore_patterns=_SKIPPED_FILES,
                local_files_only=cached,
            )
        )
        weight_files(folder)
        model_files(folder)
    # The hub's client raises errors of its own, of the HTTP library and of the system; all say: not to be had.
    except Exception as error:
        return error
    return folder


def weight_files(folder: Path) -> list[Path]:
    """The weight files that transformers would read, safetensors before pickled tensors.

    Raises:
        OSError: If there are none or one of several is missing.
    """
    for stem in ("model.safetensors", "pytorch_model.bin"):
        if (folder / stem).is_file():
            return [folder / stem]
        index = folder / f"{stem}.index.json"
        if index.is_file():
            try:
                names = sorted(map(str, {*read_json(index)["weight_map"].values()}))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise OSError(f"{index} is no index of weight files: {error}") from error
            outside = [name for name in names if name in ("", ".", "..") or {*name} & {*"/\\\0"}]
            if outside:
                raise OSError(f"{index} names {outside[0]!r}, expected files beside it")
            missing = [name for name in names if not (folder / name).is_file()]
            if missing:
                raise OSError(f"{folder} lacks {len(missing)} of {len(names)} weight files, the first is {missing[0]}")
            return [folder / name for name in names]
    raise OSError(f"{folder} has no weights: expected model.safetensors or pytorch_model.bin, whole or with an index")


def model_files(folder: Path) -> list[Path]:
    """The small files an embedding depends on: configuration, tokenizer and vocabulary.

    Raises:
        OSError: If there is no ``config.json``, or a lone adapter that would silently load a second model.
    """
    if not (folder / "config.json").is_file():
        raise OSError(f"{folder} is no model of transformers: it has no config.json")
    if (folder / "adapter_config.json").is_file():
        raise OSError(f"{folder} holds an adapter (adapter_config.json): merge it into its base model first")
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file()
        and path.suffix in _SUFFIXES
        and path.name not in _UNRELATED
        and not path.name.lower().startswith(("readme", "license"))
        and not path.name.endswith(".index.json")
    )


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
