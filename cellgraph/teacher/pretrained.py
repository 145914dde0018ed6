"""Configurations, tokenizers and models of transformers, read from a folder and never from anywhere else."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cellgraph.reading import first_line
from cellgraph.teacher.hub import weight_files

QUANTIZATIONS = ("8bit", "4bit")


@dataclass(frozen=True)
class Dispatch:
    """How accelerate spreads a model's weights over devices, see :class:`~cellgraph.teacher.TransformersTeacher`.

    Raises:
        ValueError: If something is said of it without a ``device_map``, that is another than ``"auto"``, or accelerate
            is not installed.
    """

    device_map: str | None = None
    max_memory: Mapping[int | str, int | str] | None = None
    offload_folder: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.device_map not in (None, "auto"):
            raise ValueError(f"device_map must be 'auto' or None, got {self.device_map!r}")
        if self.device_map is None:
            if self.max_memory is not None or self.offload_folder is not None:
                raise ValueError("max_memory and offload_folder are of device_map='auto', got them without it")
        elif importlib.util.find_spec("accelerate") is None:
            raise ValueError("device_map 'auto' needs the package accelerate: pip install cellgraph[llama]")

    def options(self) -> dict[str, Any]:
        """Arguments for transformers."""
        if self.device_map is None:
            return {}
        given = {"max_memory": self.max_memory and dict(self.max_memory), "offload_folder": self.offload_folder}
        return {"device_map": self.device_map, **{name: value for name, value in given.items() if value is not None}}


def read_config(folder: Path) -> Any:
    """The configuration of a model; code that comes with it is not run.

    Raises:
        ValueError: If it cannot be read, or the model is made of such code.
    """
    from transformers import AutoConfig

    with _reading(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    # A configuration may name an attention kernel to be fetched and run: take the default implementation.
    config._attn_implementation = None
    return config


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model.

    Raises:
        ValueError: If it cannot be read.
    """
    from transformers import AutoTokenizer

    with _reading(folder):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def special_token(tokenizer: Any, config: Any, *names: str) -> int:
    """The first of the special tokens that the tokenizer has and the model knows, or else any token."""
    # A padding token may have been added to the tokenizer alone, and lie beyond the model's embedding.
    known = [getattr(tokenizer, name) for name in names]
    return next((token for token in known if token is not None and token < config.get_text_config().vocab_size), 0)


def read_model(
    folder: Path,
    config: Any,
    *,
    dtype: torch.dtype,
    quantization: str | None,
    device: torch.device,
    dispatch: Dispatch = Dispatch(),
) -> torch.nn.Module:
    """The model itself, frozen and in evaluation mode; of an encoder-decoder model, the encoder.

    Args:
        folder: Folder with the weights, preferably safetensors; pickled tensors are read as data only.
        config: What :func:`read_config` returned.
        dtype: Arithmetic of the model.
        quantization: ``"8bit"`` or ``"4bit"`` weights, or ``None``.
        device: Where the model runs.
        dispatch: How its weights are spread over several.

    Raises:
        ValueError: If the weights cannot be read or some are missing.
    """
    from transformers import AutoModel

    # Reading may draw random numbers (for parts that are not in the files); whether an embedding came from the
    # model or from a cache must not change what is drawn afterwards.
    with _reading(folder), torch.random.fork_rng(devices=[]):
        model, report = AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=weight_files(folder)[0].suffix == ".safetensors",
            output_loading_info=True,
            **{**({} if quantization is None else _quantized(quantization, dtype, device)), **dispatch.options()},
        )
    # A pooler on top is not used here; anything else that is missing would be random. What lies on the disk is read.
    offloaded = "disk" in getattr(model, "hf_device_map", {}).values()
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key or offloaded)
    if missing:
        raise ValueError(
            f"the weights in {folder} lack {len(missing)} of the model's tensors, the first is {missing[0]}"
        )
    if config.is_encoder_decoder:
        model = model.get_encoder()
    if quantization is None and dispatch.device_map is None:
        model = model.to(device)
    return model.requires_grad_(False).eval()


def find_device(device: str | torch.device | None) -> torch.device:
    """The named device; without a name the accelerator, if there is one, or else the CPU.

    Raises:
        ValueError: If torch does not know the name, or this machine has no such device.
    """
    if device is None or device == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device must be one that torch knows, got {device!r}") from error
    if found.type in ("cuda", "mps", "xpu"):
        count = getattr(torch, found.type).device_count()
        if (found.index or 0) >= count:
            there = torch.accelerator.current_accelerator(check_available=True)
            names = [] if there is None else [f"{there.type}:{n}" for n in range(torch.accelerator.device_count())]
            raise ValueError(
                f"device must be one of this machine, which has {' and '.join(['cpu', *names])}; got {str(found)!r}"
            )
    return found


def check_quantization(quantization: str, device: torch.device) -> None:
    """See to it that quantised weights can be had.

    Raises:
        ValueError: If the quantisation is unknown, the device is no CUDA GPU or bitsandbytes is not installed.
    """
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization must be one of {QUANTIZATIONS} or None, got {quantization!r}")
    if device.type != "cuda":
        raise ValueError(f"quantization {quantization!r} needs a CUDA GPU, the device is {str(device)!r}")
    for package in ("bitsandbytes", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"quantization {quantization!r} needs the package {package}, which is not installed")


def _quantized(quantization: str, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return {"quantization_config": config, "device_map": {"": device}}


@contextlib.contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Silence while files are read; whatever goes wrong is the files' fault and becomes one line."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    # Readers of configurations, tokenizers and weights raise nearly every kind of error over a broken file.
    except Exception as error:
        raise ValueError(f"the model in {folder} cannot be read: {first_line(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
