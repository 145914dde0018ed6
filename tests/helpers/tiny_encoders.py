"""Tiny real transformers models, written to disk like any other, and what they give for a text by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

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
