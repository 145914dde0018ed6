"""The generative decoder: its loss against transformers' own, learning, saving, going on, and its figures."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from cellgraph.answering import GenerativeDecoder
from cellgraph.answering.fitting import DecoderSettings, fit_decoder, judge_decoder
from cellgraph.answering.generator import END, IGNORED, PAD, train_tokenizer

TEXTS = [
    "The heron hunts by the river.",
    "An otter sleeps in the forest.",
    "The badger digs under a meadow.",
    "A falcon nests on the cliff.",
    "Beetles hide beneath bark.",
    "Salmon swim up the stream.",
]


def make(vocabulary: int = 320, **options: float) -> GenerativeDecoder:
    tokenizer = train_tokenizer(TEXTS, vocabulary=vocabulary)
    sizes: dict[str, int] = {"hidden": 32, "layers": 1, "heads": 2, "prefix": 2, "max_tokens": 24}
    return GenerativeDecoder(tokenizer, 6, **(sizes | options))


def test_any_text_comes_back_from_its_tokens() -> None:
    decoder = make(max_tokens=60)
    for text in [*TEXTS, "naïve — ünseen 漢字 text"]:
        row = decoder.tokens([text])[0]
        assert decoder.tokenizer.decode(row.tolist()) == text
    assert decoder.tokens(["word " * 200]).shape == (1, 60)


def test_a_text_may_speak_of_what_ends_one(tmp_path: Path) -> None:
    make(dropout=0.0).save_pretrained(tmp_path)
    kept = GenerativeDecoder.from_pretrained(tmp_path)
    assert kept.options["dropout"] == 0
    for decoder in (make(max_tokens=64), kept):
        row = decoder.tokens(["Use <pad> after the <end>."])[0].tolist()
        assert not {PAD, END} & {*row[:-1]}
        assert row[-1] == END
    decoded = decoder.tokenizer.decode(make(max_tokens=64).tokens(["Use <pad> after the <end>."])[0].tolist())
    assert decoded == "Use <pad> after the <end>."


def test_the_loss_is_that_of_transformers() -> None:
    decoder = make().eval()
    embedding, tokens = torch.randn(6, 6), decoder.tokens(TEXTS)
    words = decoder.model.transformer.wte(tokens.clamp(min=0))
    prefix = decoder._prefix(embedding)
    labels = torch.cat([torch.full(prefix.shape[:2], IGNORED), tokens], dim=1)
    expected = decoder.model(inputs_embeds=torch.cat([prefix, words], dim=1), labels=labels).loss
    assert decoder.loss(embedding, tokens).item() == pytest.approx(expected.item(), rel=1e-5)


def test_it_learns_to_say_what_each_embedding_stands_for(tmp_path: Path) -> None:
    decoder = make()
    embedding, tokens = torch.eye(6), decoder.tokens(TEXTS)
    decoder.standardise(embedding)
    pairs = embedding.repeat(8, 1), tokens.repeat(8, 1)
    settings = DecoderSettings(max_epochs=20, patience=20, batch_size=8, lr=1e-2, noise=0.1)
    decoder = fit_decoder(decoder, pairs, (embedding, tokens), folder=tmp_path, settings=settings)
    assert decoder.generate(embedding) == TEXTS
    again = GenerativeDecoder.from_pretrained(tmp_path)
    assert again.generate(embedding) == TEXTS
    assert torch.equal(again(embedding, tokens), decoder(embedding, tokens))
    assert not (tmp_path / "checkpoints").exists()

    report = judge_decoder(decoder, TEXTS, {"true": embedding, "mean": embedding.mean(0).expand(6, -1)}, batch_size=4)
    assert report["true"]["token_f1"] == report["true"]["chrf"] == pytest.approx(1)
    # One embedding for six texts: which of them it is costs ln 6 nats a text at least, the true embedding nothing.
    num_tokens = int((tokens != IGNORED).sum())
    assert report["mean"]["perplexity"] > math.exp(6 * math.log(6) / num_tokens)
    assert report["true"]["perplexity"] < 1.05
    assert report["mean"]["token_f1"] < 0.5
    logits = decoder(embedding, tokens).detach().double().log_softmax(-1)
    nats = [-float(logits[i, j, tokens[i, j]]) for i, j in (tokens != IGNORED).nonzero().tolist()]
    assert report["true"]["perplexity"] == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-4)


def test_an_interrupted_fit_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And comes to what it would have come to."""
    settings = DecoderSettings(max_epochs=4, batch_size=3)
    calls = []

    def interrupted(self: GenerativeDecoder, embedding: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        calls.append(len(tokens))
        if len(calls) == 8:  # in the third pass: two batches and two of validation each
            raise RuntimeError("the power went")
        return loss(self, embedding, tokens)

    def fit(folder: Path, settings: DecoderSettings = settings, **options: int) -> GenerativeDecoder:
        torch.manual_seed(0)
        decoder = make(**options)
        pairs = torch.eye(6), decoder.tokens(TEXTS)
        return fit_decoder(decoder, pairs, pairs, folder=folder, settings=settings)

    whole = fit(tmp_path / "whole").state_dict()
    loss = GenerativeDecoder.loss
    with monkeypatch.context() as patch:
        patch.setattr(GenerativeDecoder, "loss", interrupted)
        with pytest.raises(RuntimeError, match="the power went"):
            fit(tmp_path)
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()
    assert not (tmp_path / "config.json").exists()
    with pytest.raises(ValueError, match="holds a decoder begun with seed=0: give the same, or remove it"):
        fit(tmp_path, DecoderSettings(max_epochs=4, batch_size=3, seed=1))
    with pytest.raises(ValueError, match="begun with hidden=32"):
        fit(tmp_path, hidden=16)
    with pytest.raises(ValueError, match="begun with vocabulary=320: give the same"):
        fit(tmp_path, vocabulary=300)
    counted = []
    with monkeypatch.context() as patch:
        patch.setattr(GenerativeDecoder, "loss", lambda *given: counted.append(1) or loss(*given))
        again = fit(tmp_path).state_dict()
    assert 0 < len(counted) < 16  # four passes would be sixteen
    assert (tmp_path / "config.json").exists()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_epochs", 0), ("max_epochs", -1), ("patience", 0), ("batch_size", 0), ("lr", 0.0), ("noise", -1.0)],
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} must (be positive|not be negative), got {value}"):
        DecoderSettings(**{name: value})  # type: ignore[arg-type]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no generative decoder"):
        GenerativeDecoder.from_pretrained(tmp_path)
    make().save_pretrained(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:100])
    with pytest.raises(ValueError, match="is damaged"):
        GenerativeDecoder.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is damaged"):
        GenerativeDecoder.from_pretrained(tmp_path)
