"""Fitting the generative decoder to a run's training answers, and judging what it says on the held-out ones."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from cellgraph.answering.generator import IGNORED, GenerativeDecoder
from cellgraph.files import write_json
from cellgraph.generators import own_generators
from cellgraph.numbers import settle_numbers
from cellgraph.reading import read_json
from cellgraph.training.checkpoint import read_checkpoint
from cellgraph.training.saving import AtomicCheckpointIO
from cellgraph.training.trainer import quiet

CHECKPOINTS, SETTINGS = "checkpoints", "settings.json"


@dataclass(frozen=True)
class DecoderSettings:
    """How to fit a decoder.

    Attributes:
        max_epochs: Most passes over the training answers.
        patience: Passes without a better validation after which to stop.
        batch_size: Answers a batch.
        lr: Learning rate of AdamW.
        weight_decay: Its weight decay.
        noise: Norm of the noise on the unit embeddings, so that the decoder bears with embeddings that are near a true
            one only.
        seed: Seed of the order, of the noise and of what the decoder drops.

    Raises:
        ValueError: If a number is out of range.
    """

    max_epochs: int = 40
    patience: int = 3
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.1
    noise: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        settle_numbers(self)
        for name in ("max_epochs", "patience", "batch_size", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("weight_decay", "noise"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


def fit_decoder(
    decoder: GenerativeDecoder,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    *,
    folder: Path,
    settings: DecoderSettings | None = None,
    console: Console | None = None,
) -> GenerativeDecoder:
    """Fit a decoder, or go on from the last finished pass of a fit that was interrupted in the same folder.

    Args:
        decoder: A new decoder.
        train: Answer embeddings and tokens to learn from.
        validation: The same, to tell when to stop.
        folder: Where checkpoints are kept while it lasts, and the decoder afterwards.
        settings: How to fit.
        console: Where progress is shown; standard error by default.

    Returns:
        The decoder with the weights of the best validation, saved in the folder.

    Raises:
        ValueError: If the fit in the folder was begun with other settings.
    """
    settings = settings if settings is not None else DecoderSettings()
    console = console if console is not None else Console(stderr=True)
    checkpoints = folder / CHECKPOINTS
    last = checkpoints / "last.ckpt"
    if last.exists():
        check_begun(folder, decoder, settings)
    write_json(folder / SETTINGS, _told(decoder, settings))
    with quiet(), own_generators(cuda=True):
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=1,
            max_epochs=settings.max_epochs,
            gradient_clip_val=1.0,
            callbacks=[
                EarlyStopping("loss", patience=settings.patience),
                _Progress(console),
                ModelCheckpoint(checkpoints, "best", monitor="loss", save_last=True, enable_version_counter=False),
            ],
            logger=False,
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
        )
        module = _Fit(decoder, train, validation, settings)
        trainer.fit(module, ckpt_path=last if last.exists() else None)
    module.load_state_dict(read_checkpoint(checkpoints / "best.ckpt")["state_dict"])
    decoder.cpu().eval().save_pretrained(folder)
    shutil.rmtree(checkpoints)
    return decoder


def check_begun(folder: Path, decoder: GenerativeDecoder, settings: DecoderSettings) -> None:
    """Refuse to go on in a folder with other settings than its decoder was begun with.

    Raises:
        ValueError: If a setting differs.
    """
    begun = read_json(folder / SETTINGS) if (folder / SETTINGS).exists() else {}
    told = _told(decoder, settings)
    other = [f"{name}={begun[name]}" for name in told if name in begun and begun[name] != told[name]]
    if other:
        raise ValueError(f"{folder} holds a decoder begun with {', '.join(other)}: give the same, or remove it")


def judge_decoder(
    decoder: GenerativeDecoder, texts: list[str], sources: Mapping[str, Tensor], *, batch_size: int = 64
) -> dict[str, dict[str, float]]:
    """How well a decoder says held-out answers, from each of several embeddings of them.

    ``perplexity`` is a token's, given the embedding and the tokens before it; ``token_f1`` the overlap in words of the
    text it generates with the true one (Rajpurkar et al. 2016, `arXiv 1606.05250
    <https://arxiv.org/abs/1606.05250>`_), ``chrf`` that in runs of up to six letters (Popović 2015, `doi
    10.18653/v1/W15-3049 <https://doi.org/10.18653/v1/W15-3049>`_), both from 0 to 1 and computed by torchmetrics.

    Args:
        decoder: The decoder.
        texts: The true answers.
        sources: By name, embeddings to say them from, ``[num_texts, width]``.
        batch_size: Texts at a time.
    """
    from torchmetrics.functional.text import chrf_score, squad

    tokens = decoder.tokens(texts)
    # What cannot be said within the longest text is not asked for.
    cut = [" ".join(text.split()) for text in _texts(decoder, tokens)]
    batches = [(name, rows) for name in sources for rows in torch.arange(len(texts)).split(batch_size)]
    nats: dict[str, float] = dict.fromkeys(sources, 0.0)
    said: dict[str, list[str]] = {name: [] for name in sources}
    for name, rows in track(batches, "judging", console=Console(stderr=True), transient=True):
        with torch.no_grad():
            loss = decoder.loss(sources[name][rows], tokens[rows])
        nats[name] += float(loss) * int((tokens[rows] != IGNORED).sum())
        said[name] += decoder.generate(sources[name][rows])
    report = {}
    for name in sources:
        predictions: list[Any] = [{"prediction_text": text, "id": str(i)} for i, text in enumerate(said[name])]
        truths: list[Any] = [
            {"answers": {"answer_start": [0], "text": [text]}, "id": str(i)} for i, text in enumerate(cut)
        ]
        chrf = chrf_score(said[name], [[text] for text in cut])
        report[name] = {
            "perplexity": math.exp(nats[name] / int((tokens != IGNORED).sum())),
            "token_f1": float(squad(predictions, truths)["f1"]) / 100,
            "chrf": float(cast(Tensor, chrf)),
        }
    return report


def _told(decoder: GenerativeDecoder, settings: DecoderSettings) -> dict[str, Any]:
    return {**dataclasses.asdict(settings), **decoder.options, "vocabulary": decoder.tokenizer.get_vocab_size()}


def _texts(decoder: GenerativeDecoder, tokens: Tensor) -> list[str]:
    return decoder.tokenizer.decode_batch([row[row != IGNORED].tolist() for row in tokens])


class _Fit(lightning.LightningModule):
    def __init__(
        self,
        decoder: GenerativeDecoder,
        train: tuple[Tensor, Tensor],
        validation: tuple[Tensor, Tensor],
        settings: DecoderSettings,
    ) -> None:
        super().__init__()
        self.decoder, self.settings = decoder, settings
        self.train_pairs, self.validation_pairs = TensorDataset(*train), TensorDataset(*validation)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        settings = self.settings
        return torch.optim.AdamW(self.decoder.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)

    def train_dataloader(self) -> DataLoader:
        """A new order for every pass, the same after a break."""
        generator = torch.Generator().manual_seed(self.settings.seed + self.current_epoch)
        # Drawn once: a loader that shuffles does so anew whenever it is begun, which a break changes.
        order = torch.randperm(len(self.train_pairs), generator=generator).tolist()
        return DataLoader(self.train_pairs, self.settings.batch_size, sampler=order, generator=generator)

    def on_train_epoch_start(self) -> None:
        """Noise, and what is dropped, are those of the pass, also after a break."""
        torch.manual_seed(self.settings.seed + self.current_epoch)

    def val_dataloader(self) -> DataLoader:
        """The validation answers in order."""
        return DataLoader(self.validation_pairs, self.settings.batch_size)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss with noise on the embeddings."""
        embedding, tokens = batch
        unit = torch.nn.functional.normalize(embedding, dim=1)
        noise = torch.randn_like(unit) * (self.settings.noise / unit.size(1) ** 0.5)
        return self.decoder.loss(unit + noise, tokens)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """The loss of a token, without noise."""
        embedding, tokens = batch
        count = int((tokens != IGNORED).sum())
        self.log("loss", self.decoder.loss(embedding, tokens), on_epoch=True, batch_size=count)


class _Progress(lightning.Callback):
    """A bar with the validation perplexity."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("decoder"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, TextColumn("{task.fields[shown]}"), console=console)
        self.task: Any = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Draw the bar."""
        total = (trainer.max_epochs or 0) * int(trainer.num_training_batches)
        self.task = self.bar.add_task("", total=total, completed=trainer.global_step, shown="")
        self.bar.start()

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any) -> None:
        """Move on."""
        self.bar.update(self.task, completed=trainer.global_step)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Show the perplexity."""
        shown = f"validation perplexity {math.exp(float(trainer.callback_metrics['loss'])):.1f}"
        self.bar.update(self.task, shown=shown)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Leave the terminal as it was."""
        self.bar.stop()

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self.bar.stop()
