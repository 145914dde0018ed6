"""Whole runs in this process: what they write and show."""

from __future__ import annotations

import signal

import pytest
from lines import Line, columns, lattice_model, quick
from on_pairs import module, plain_objective, train_pairs
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cellgraph.folder import RunFolder
from cellgraph.retrieval import Retrieval
from cellgraph.training import Interrupted, TrainingProgress, build_trainer, fit, read_checkpoint


def test_the_log_has_every_term_by_name(pairs, tmp_path):
    settings = quick(max_steps=10, val_every=5, log_every=4, ema=0.9)
    train_pairs(
        lattice_model(),
        plain_objective(internal=0.1, turn=0.1),
        *pairs,
        settings=settings,
        folder=tmp_path,
        progress=False,
    )
    rows = columns(tmp_path)
    assert [(row["step"], bool(row["train/loss"]), bool(row["val/mrr"])) for row in rows] == [
        ("4", True, False),
        ("5", False, True),
        ("8", True, False),
        ("10", True, False),
        ("10", False, True),
    ]
    terms = ("loss", "surface", "internal", "internal_overflow", "internal_variance", "dialogue", "turn")
    assert {f"{part}/{term}" for term in terms for part in ("train", "val")} <= rows[0].keys()
    more = ("grad_norm", "lr", "samples_per_second", "num_steps", "temperature")
    assert all(float(rows[0][f"train/{name}"]) > 0 for name in more)
    assert float(rows[2]["epoch"]) == 1.4
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    total = float(rows[0]["train/surface"]) + 0.1 * float(rows[0]["train/internal"]) + float(rows[0]["train/dialogue"])
    assert float(rows[0]["train/loss"]) == pytest.approx(total + 0.1 * float(rows[0]["train/turn"]), rel=1e-5)


@pytest.mark.parametrize("killed_at", [3, 7])
def test_tensorboard_shows_a_run_once_that_was_killed_and_went_on(pairs, tmp_path, killed_at):
    class KilledError(Exception):
        pass

    class Once(Line):
        def forward(self, *args, **options):
            if self.training and self.calls == killed_at:
                raise KilledError
            return super().forward(*args, **options)

    options = {"settings": quick(max_steps=9, checkpoint_every=5, log_every=1, val_every=9), "progress": False}
    with pytest.raises(KilledError):
        train_pairs(Once(), plain_objective(), *pairs, folder=tmp_path, **options)
    resume = (tmp_path / "checkpoints" / "last.ckpt").exists()
    assert resume == (killed_at > 5)
    train_pairs(Line(), plain_objective(), *pairs, folder=tmp_path, resume=resume, **options)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [*range(1, 10)]


def test_interrupted_where_a_checkpoint_is_due_the_one_before_is_kept(pairs, tmp_path):
    class Asked(Line):
        def forward(self, *args, **options):
            if not self.training and self.calls == 6:
                # Once: a second signal would end the process.
                self.calls += 1
                signal.raise_signal(signal.SIGTERM)
            return super().forward(*args, **options)

    settings = quick(max_steps=9, checkpoint_every=3, val_every=3)
    with pytest.raises(Interrupted):
        train_pairs(Asked(), plain_objective(), *pairs, settings=settings, folder=tmp_path, progress=False)
    kept = [read_checkpoint(tmp_path / "checkpoints" / f"{name}.ckpt")["global_step"] for name in ("previous", "last")]
    assert kept == [3, 6]


@pytest.mark.parametrize(("terminal", "shown"), [(True, "12/12"), (False, "update 12/12")])
def test_progress_names_the_losses(pairs, tmp_path, terminal, shown):
    console = Console(record=True, force_terminal=terminal, width=200, file=(tmp_path / "out").open("w"))
    told = {"max_steps": 12, "val_every": 4, "accelerator": "cpu", "ema": 0.0, "log_every": 1, "batch_size": 8}
    learner = module(Line(), plain_objective(), *pairs, **told)
    trainer = build_trainer(RunFolder(tmp_path), learner.settings, shown=Retrieval.shown, keep=False)
    found = next(c for c in trainer.callbacks if isinstance(c, TrainingProgress))
    found.console = console
    fit(learner, trainer)
    text = console.export_text()
    assert shown in text
    for name in ("loss ", "surface ", "dialogue ", "val/mrr ", "samples/s"):
        assert name in text
    if not terminal:
        assert text.count("\n") == 1
