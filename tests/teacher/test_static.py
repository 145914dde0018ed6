"""StaticTeacher against Arora et al.'s formulas in NumPy, on a tiny model that is on the disk."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from cellgraph.teacher import StaticTeacher, Teacher, load_teacher

TEXTS = [
    "what is the time",
    "the quick brown fox jumps over the lazy dog",
    "how do cells talk to the cells",
    "the time is the time of the fox",
    "a dog and a fox talk",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(TEXTS, trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"]))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    config.initializer_range = 0.5
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def reference(folder: Path, texts: list[str], weighting: str, remove: int, fitted: list[str]) -> np.ndarray:
    model = transformers.AutoModel.from_pretrained(folder)
    table = model.get_input_embeddings().weight.detach().double().numpy()
    vocabulary = transformers.AutoTokenizer.from_pretrained(folder).get_vocab()
    counts = Counter(word for text in fitted for word in text.split())
    total = sum(counts.values())

    def weight(word: str) -> float:
        if weighting == "sif":
            return 1e-3 / (1e-3 + counts[word] / total)
        if weighting == "idf":
            return float(np.log((1 + len(fitted)) / (1 + sum(word in text.split() for text in fitted))) + 1)
        return 1.0

    def mean(text: str) -> np.ndarray:
        return np.mean([weight(word) * table[vocabulary[word]] for word in text.split()], axis=0)

    rows = np.stack([mean(text) for text in texts])
    if remove:
        right = np.linalg.svd(np.stack([mean(text) for text in fitted]))[2][:remove]
        rows = rows - rows @ right.T @ right
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("weighting", ["sif", "idf", "none"])
@pytest.mark.parametrize("remove", [0, 1, 2])
def test_embeddings_equal_the_definition(folder: Path, weighting: str, remove: int) -> None:
    teacher = StaticTeacher(folder, weighting=weighting, remove=remove)
    teacher.fit(TEXTS[:4])
    assert isinstance(teacher, Teacher)
    assert teacher.width == 8
    expected = reference(folder, TEXTS[:4], weighting, remove, TEXTS[:4])
    np.testing.assert_allclose(teacher.encode(TEXTS[:4]).numpy(), expected, atol=1e-5)


def test_a_saved_teacher_comes_back_and_knows_its_files(folder: Path, tmp_path: Path) -> None:
    teacher = StaticTeacher(folder)
    with pytest.raises(ValueError, match="must be fitted"):
        teacher.encode(TEXTS)
    with pytest.raises(ValueError, match="must be fitted"):
        _ = teacher.fingerprint
    teacher.fit(TEXTS)
    teacher.save_pretrained(tmp_path / "saved")
    again = load_teacher(tmp_path / "saved")
    assert again.fingerprint == teacher.fingerprint
    assert torch.equal(again.encode(TEXTS), teacher.encode(TEXTS))
    # What it learned, and how, is part of what an embedding is known by.
    other = StaticTeacher(folder)
    other.fit(TEXTS[:3])
    plain = StaticTeacher(folder, weighting="none", remove=0)
    assert len({teacher.fingerprint, other.fingerprint, plain.fingerprint}) == 3


def test_texts_without_tokens_are_zero_and_an_empty_list_is_none(folder: Path) -> None:
    teacher = StaticTeacher(folder, weighting="none", remove=0)
    embedding = teacher.encode(["", "the fox"])
    assert embedding.norm(dim=1).tolist() == pytest.approx([0.0, 1.0])
    assert teacher.encode([]).shape == (0, 8)


def test_bad_arguments_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="weighting must be one of"):
        StaticTeacher(folder, weighting="best")
    with pytest.raises(ValueError, match="a must be positive"):
        StaticTeacher(folder, a=0.0)
    with pytest.raises(ValueError, match="at least one text"):
        StaticTeacher(folder).fit([])
