"""The main job: texts to embeddings to a trained lattice to a table beside its baselines, in one run folder."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning
import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text
from torch import Tensor, nn

from cellgraph.analysis.plots import plot_run, read_metrics
from cellgraph.answering import FinishedRun
from cellgraph.answering.questions import QuestionReport, judge_run, save_report
from cellgraph.answering.questions import markdown as questions_markdown
from cellgraph.data import QAPair, Split, read_pairs, save_pairs
from cellgraph.model import CellGraph
from cellgraph.retrieval import (
    AdaptersAlone,
    EmbeddedPairs,
    Evaluation,
    LinearMLP,
    Objective,
    Prediction,
    TrainSettings,
    evaluate,
    nearest_answers,
    predict,
    predict_closed_forms,
    print_evaluation,
    save_evaluation,
    train,
)
from cellgraph.teacher import EmbeddingCache, Teacher, load_teacher
from cellgraph.training import run_checkpoint, used_precision

PARTS = ("train", "validation", "test")

#: Names of the trained systems in the table.
LATTICE, ADAPTERS_ALONE, LINEAR_MLP = "lattice", "adapters alone", "linear + MLP"

#: The systems of the table by category, and their names there.
JUDGED = {"identity (raw)": "teacher alone", "ridge": "ridge", ADAPTERS_ALONE: ADAPTERS_ALONE, LATTICE: LATTICE}


@dataclass
class Experiment:
    """A run folder and the parts that fill it.

    The folder holds ``pairs/`` (the split), ``teacher/``, ``model/`` (the network), ``checkpoints/``, ``metrics.csv``,
    ``tensorboard/``, ``loss.png``, ``similarity.png``, ``evaluation.json`` and ``evaluation.md``.

    Attributes:
        folder: The run folder.
        teacher: The frozen encoder.
        cache: Where its embeddings are kept.
        model: Makes the network for a teacher's width.
        objective: What the network and the trained baselines are trained for.
        settings: How they are trained.
        start: How the adapters start, see :meth:`~cellgraph.CellGraph.fit_adapters`.
        adapters_first: Settings in which a first stage of training differs, in which the lattice, which a new network
            passes unchanged, is left out: the adapters learn cheaply what they can do alone. Without ``max_steps``
            there is no such stage. The trained baselines go through the same two stages.
        console: Where progress is told.
        validation_mrr: Mean reciprocal rank on the validation pairs, once trained.
    """

    folder: Path
    teacher: Teacher
    cache: EmbeddingCache
    model: Callable[..., CellGraph]
    objective: Objective
    settings: TrainSettings
    start: str = "identity"
    adapters_first: Mapping[str, Any] = field(default_factory=dict)
    console: Console | None = None
    validation_mrr: float = field(default=float("nan"), init=False)

    def __post_init__(self) -> None:
        # The baselines are trained as the network is, and both as the folder's run was that is gone on with.
        settings, last = self.settings, run_checkpoint(self.folder)
        precision = used_precision(settings.precision, settings.accelerator, last=last)
        self.settings = replace(settings, precision=precision)

    def run(self, split: Callable[[], Split], *, resume: bool = False) -> Evaluation:
        """Do the job from texts to table, or what is left of it.

        Args:
            split: Gives the pairs; a run that is resumed reads its own instead.
            resume: Go on from the folder's last checkpoint.

        Raises:
            ValueError: If the folder holds a run already and ``resume`` was not asked for.
        """
        last = run_checkpoint(self.folder)
        if last.exists() and not resume:
            raise ValueError(f"{self.folder} holds a run already ({last.name}): resume it or choose another folder")
        pairs = self.load_pairs() if resume and self._has_pairs() else self._keep_pairs(split())
        counts = ", ".join(f"{len(getattr(pairs, part)):,} {part}" for part in PARTS)
        self._say(f"pairs: {counts}")
        embedded = self.embed(pairs)
        seconds = self.train(embedded, resume=resume)
        return self.evaluate(pairs, embedded, seconds_train=seconds)

    def load_pairs(self) -> Split:
        """The pairs of the run folder."""
        return Split(**{part: read_pairs(self._pairs(part)) for part in PARTS})

    def embed(self, pairs: Split) -> dict[str, EmbeddedPairs]:
        """Fit the teacher to the training texts where it needs that and was not fitted before, and embed every part."""
        kept = self.folder / "teacher"
        if kept.exists():
            self.teacher = load_teacher(kept)
        else:
            self.teacher.fit([text for pair in pairs.train for text in (pair.question, pair.answer)])
            self.teacher.save_pretrained(kept)
        embedded = {}
        for part in PARTS:
            rows: Sequence[QAPair] = getattr(pairs, part)
            texts = [pair.question for pair in rows] + [pair.answer for pair in rows]
            both = self.cache.embed(self.teacher, texts, progress=True)
            dialogue, turn = [pair.dialogue for pair in rows], [pair.turn for pair in rows]
            embedded[part] = EmbeddedPairs(both[: len(rows)], both[len(rows) :], dialogue=dialogue, turn=turn)
        return embedded

    def train(self, embedded: dict[str, EmbeddedPairs], *, resume: bool = False) -> float:
        """Train the network and save it as ``model/``; the time it took, in seconds."""
        begin = time.perf_counter()
        model = self._new_model(embedded["train"])
        resume = resume and run_checkpoint(self.folder).exists()
        if not resume:
            self._train_adapters(model, embedded)
        before = time.perf_counter() - begin
        self._say(f"precision: {self.settings.precision}")
        result = train(
            model,
            copy.deepcopy(self.objective),
            embedded["train"],
            embedded["validation"],
            settings=self.settings,
            folder=self.folder,
            resume=resume,
            resume_hint=f"cellgraph train resume={self.folder}",
        )
        self.validation_mrr = result.metrics["val/mrr"]
        model.save_pretrained(self.folder / "model")
        plot_run(self.folder / "metrics.csv", self.folder)
        return before + result.seconds

    def evaluate(
        self, pairs: Split, embedded: dict[str, EmbeddedPairs], *, seconds_train: float | None = None
    ) -> Evaluation:
        """Judge the saved network on the held-out pairs beside its baselines; write and show the table.

        Args:
            pairs: The pairs.
            embedded: Their embeddings.
            seconds_train: Time that training took; that of the updates in ``metrics.csv`` by default.
        """
        if seconds_train is None:
            seconds_train = float(read_metrics(self.folder / "metrics.csv")["seconds"][1][-1])
        model = CellGraph.from_pretrained(self.folder / "model")
        model.cell.use_fused()
        fitted, test = embedded["train"], embedded["test"]
        predictions = self.predictions(model, embedded, test.question, seconds_train=seconds_train)
        evaluation = evaluate(
            predictions,
            test.answer,
            answers_train=fitted.answer,
            to_surface=model.target_surface,
            answer_texts=[pair.answer for pair in pairs.test],
            reference=LATTICE,
        )
        examples = nearest_answers(
            predictions[LATTICE].embedding,
            test.answer,
            [pair.question for pair in pairs.test],
            [pair.answer for pair in pairs.test],
        )
        save_evaluation(evaluation, self.folder, examples)
        print_evaluation(evaluation, examples, console=self.console)
        return evaluation

    def evaluate_questions(self, embedded: dict[str, EmbeddedPairs], asked: Sequence[QAPair]) -> QuestionReport:
        """Judge the saved network and its baselines on questions by category; write and show the tables.

        Args:
            embedded: Embeddings of the run's pairs.
            asked: The questions with their answers, see :func:`~cellgraph.answering.questions.judge_run`.
        """
        run = FinishedRun.load(self.folder, self.cache)

        def systems(question: Tensor) -> dict[str, Tensor]:
            predictions = self.predictions(run.model, embedded, question)
            return {shown: predictions[name].embedding for name, shown in JUDGED.items()}

        self._say("calibrating the confidence and asking")
        report = judge_run(run, asked, systems, trusted=LATTICE)
        save_report(report, self.folder)
        (self.console or Console()).print(Markdown(questions_markdown(report)))
        return report

    def predictions(
        self,
        model: CellGraph,
        embedded: dict[str, EmbeddedPairs],
        question: Tensor,
        *,
        seconds_train: float = 0.0,
    ) -> dict[str, Prediction]:
        """What the baselines, fitted and trained here and now, and the network answer to questions.

        Args:
            model: The trained network.
            embedded: Embeddings of the pairs.
            question: Embeddings of the questions, ``[num_questions, teacher_width]``.
            seconds_train: Time that training the network took.
        """
        fitted = embedded["train"]
        predictions = predict_closed_forms(fitted.question, fitted.answer, question)
        predictions |= self._controls(embedded, question)
        return predictions | {LATTICE: predict(model, question, seconds_train=seconds_train)}

    def _new_model(self, fitted: EmbeddedPairs) -> CellGraph:
        lightning.seed_everything(self.settings.seed, verbose=False)
        model = self.model(teacher_width=self.teacher.width)
        errors = model.fit_adapters(fitted.question, fitted.answer, start=self.start)
        counts = ", ".join(f"{name} {count:,}" for name, count in model.parameter_counts().items())
        self._say(f"parameters: {counts}")
        self._say(", ".join(f"{name.replace('_', ' ')} {error:.4f}" for name, error in errors.items()))
        return model

    def _train_adapters(self, model: CellGraph, embedded: dict[str, EmbeddedPairs]) -> float:
        """The first stage: the adapters of a new network by themselves."""
        if not self.adapters_first.get("max_steps"):
            return 0.0
        self._say("first stage: the adapters without the lattice")
        adapters = AdaptersAlone(model.question_adapter, model.answer_adapter)
        seconds = self._fit(adapters, embedded, replace(self._control_settings(adapters), **self.adapters_first))
        model.train()
        return seconds

    def _controls(self, embedded: dict[str, EmbeddedPairs], question: Tensor) -> dict[str, Prediction]:
        """The trained baselines: the same adapters, start, loss, stages and number of updates, but no lattice."""
        model = self._new_model(embedded["train"])
        first = self._train_adapters(model, embedded)
        counts = model.parameter_counts()
        hidden = LinearMLP.hidden_for(sum(counts.values()) - counts["adapters"], model.input_surface.width)
        adapters = model.question_adapter, model.answer_adapter
        controls: dict[str, AdaptersAlone] = {
            ADAPTERS_ALONE: AdaptersAlone(*copy.deepcopy(adapters)),
            LINEAR_MLP: LinearMLP(*copy.deepcopy(adapters), hidden=hidden),
        }
        predictions = {}
        for name, control in controls.items():
            self._say(f"baseline: {name}")
            seconds = first + self._fit(control, embedded, self._control_settings(control))
            predictions[name] = predict(control, question, seconds_train=seconds)
        return predictions

    def _control_settings(self, control: AdaptersAlone) -> TrainSettings:
        """The settings of the whole network, what they say of its cells said of the control's own parts."""
        parts = {name.split(".")[0] for name, _ in control.named_parameters()}
        multipliers: dict[str, float] = {}
        for name, factor in self.settings.lr_multipliers.items():
            own = [name] if "adapter" in name else sorted(part for part in parts if "adapter" not in part)
            multipliers |= dict.fromkeys(own, factor)
        return replace(self.settings, lr_multipliers=multipliers, compile=False)

    def _fit(self, model: nn.Module, embedded: dict[str, EmbeddedPairs], settings: TrainSettings) -> float:
        objective = copy.deepcopy(self.objective)
        return train(
            model, objective, embedded["train"], embedded["validation"], settings=settings, progress=False
        ).seconds

    def _keep_pairs(self, pairs: Split) -> Split:
        for part in PARTS:
            save_pairs(self._pairs(part), getattr(pairs, part))
        return pairs

    def _has_pairs(self) -> bool:
        return all(self._pairs(part).exists() for part in PARTS)

    def _pairs(self, part: str) -> Path:
        return self.folder / "pairs" / f"{part}.jsonl"

    def _say(self, line: str) -> None:
        (self.console or Console()).print(Text(line))


def describe_device() -> str:
    """The device that ``accelerator="auto"`` takes, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if torch.backends.mps.is_available():
        return "Apple GPU (mps)"
    return f"CPU, {torch.get_num_threads()} threads"
