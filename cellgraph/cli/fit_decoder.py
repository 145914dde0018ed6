"""The verb ``fit-decoder``: a small language model that puts a run's answers into words."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cellgraph.answering import fitting
from cellgraph.answering.generator import GenerativeDecoder, train_tokenizer
from cellgraph.answering.run import BATCH, FinishedRun
from cellgraph.files import write_json
from cellgraph.retrieval import predict
from cellgraph.retrieval.embedded import dialogues_of


def main(arguments: Sequence[str]) -> None:
    """Fit the generative decoder of a run to its training answers; goes on where it was interrupted."""
    parser = argparse.ArgumentParser(prog="cellgraph fit-decoder", description=main.__doc__)
    parser.add_argument("run", type=Path, help="run folder of `cellgraph train`")
    parser.add_argument("--max-epochs", type=int, default=fitting.DecoderSettings.max_epochs, help="most passes")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    settings = fitting.DecoderSettings(max_epochs=given.max_epochs, seed=given.seed)
    run = FinishedRun.load(given.run)
    folder, report_file = run.folder.decoder, run.folder.decoder / "report.json"
    # Written last: a decoder without it was fitted by a process that was stopped before it had judged it.
    if report_file.exists():
        raise ValueError(f"{folder} holds a decoder already: remove it to fit another")
    texts = {part: [pair.answer for pair in pairs] for part, pairs in vars(run.pairs).items()}
    embeddings = {part: run.embed(answers) for part, answers in texts.items()}
    with run.folder.locked():
        decoder = _fitted(folder, texts, embeddings, settings)
    questions = run.read([pair.question for pair in run.pairs.test])
    sources = {
        "true answer": embeddings["test"],
        "lattice": predict(run.model, questions, dialogues=dialogues_of(run.pairs.test), batch_size=BATCH).embedding,
        "question (teacher alone)": run.embed([pair.question for pair in run.pairs.test]),
        "mean answer": embeddings["train"].mean(0).expand(len(questions), -1),
    }
    report = fitting.judge_decoder(decoder, texts["test"], sources)
    write_json(report_file, report)
    print(f"{len(questions):,} held-out answers, said from the embedding of")
    print(f"{'':<26}perplexity  token F1  chrF")
    for name, row in report.items():
        print(f"{name:<26}{row['perplexity']:>10.1f}  {row['token_f1']:>8.3f}  {row['chrf']:.3f}")


def _fitted(
    folder: Path, texts: dict[str, list[str]], embeddings: dict[str, Tensor], settings: fitting.DecoderSettings
) -> GenerativeDecoder:
    """The decoder of a folder, fitted where it was not before."""
    if (folder / "config.json").exists():
        decoder = GenerativeDecoder.from_pretrained(folder)
        fitting.check_begun(folder, decoder, settings)
        shutil.rmtree(folder / fitting.CHECKPOINTS, ignore_errors=True)
        return decoder
    torch.manual_seed(settings.seed)
    decoder = GenerativeDecoder(train_tokenizer(texts["train"]), embeddings["train"].size(1))
    decoder.standardise(embeddings["train"])
    parts = [(embeddings[part], decoder.tokens(texts[part])) for part in ("train", "validation")]
    return fitting.fit_decoder(decoder, *parts, folder=folder, settings=settings)
