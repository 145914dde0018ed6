"""The experiment: a model trained for a task in a run folder, judged on held-out data and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor, nn

from cellgraph import processes, training
from cellgraph.analysis.plots import plot_run, read_metrics
from cellgraph.answering import FinishedRun
from cellgraph.answering.questions import QuestionReport, judge_run, save_report
from cellgraph.answering.questions import markdown as questions_markdown
from cellgraph.data import QAPair
from cellgraph.files import write_json
from cellgraph.folder import RunFolder
from cellgraph.model import CellGraph
from cellgraph.reading import faults, read_json
from cellgraph.retrieval import Prediction, QuestionAnswering
from cellgraph.retrieval.question_answering import LATTICE
from cellgraph.retrieval.stages import ADAPTERS_ALONE
from cellgraph.sequence import SequenceGraph
from cellgraph.teacher import TokenStates
from cellgraph.training import Job, RunSettings, Task, TrainResult, used_precision
from cellgraph.training.accelerator import check_accelerator
from cellgraph.training.optimizer import check_optimizer

#: The systems of the table by category, and their names there.
JUDGED = {"identity (raw)": "teacher alone", "ridge": "ridge", ADAPTERS_ALONE: ADAPTERS_ALONE, LATTICE: LATTICE}


@dataclass
class Experiment:
    """A run folder and the parts that fill it, whatever the task.

    Attributes:
        folder: The run folder.
        task: What the model is trained for.
        model: The model, or what the task makes it from.
        settings: How it is trained.
        console: Where progress is told.
        score: The validation figure that chose the weights, once trained.
    """

    folder: RunFolder
    task: Task
    model: Any
    settings: RunSettings
    console: Console = field(default_factory=lambda: Console(quiet=processes.rank() > 0))
    score: float = field(default=float("nan"), init=False)

    def __post_init__(self) -> None:
        # Baselines are trained as the network is, and all as the folder's run was that is gone on with.
        settings, last = self.settings, self.folder.last
        precision = used_precision(settings.precision, settings.accelerator, last=last)
        self.settings = replace(settings, precision=precision)

    def run(self, *, resume: bool = False) -> Any:
        """Prepare, train, judge and draw, or what is left of it; the figures.

        Of several processes that train together, the first one does all but the updates, and has the figures.

        Args:
            resume: Go on from the folder's last checkpoint, or begin where there is none yet.

        Raises:
            ValueError: If the folder holds a trained run and ``resume`` was not asked for, another process trains in
                it, or a setting does not fit.
            Interrupted: After SIGINT or SIGTERM.
        """
        go_on = self.folder.command("train", resume=self.folder)
        with self.folder.locked():
            model = self.train(resume=resume, go_on=go_on).model
            if processes.rank():
                # What is left is the first one's.
                return None
            with processes.alone():
                return self.judge(model, go_on=go_on)

    def train(self, *, resume: bool = False, progress: bool = True, go_on: str) -> TrainResult[Any]:
        """Prepare, train and draw; what training came to.

        Args:
            resume: Go on from the folder's last checkpoint, or begin where there is none yet.
            progress: Whether to show progress.
            go_on: What goes on after an interruption.

        Raises:
            ValueError: If the folder holds a trained run and ``resume`` was not asked for, another process trains in
                it, or a setting does not fit.
            Interrupted: After SIGINT or SIGTERM.
        """
        with self.folder.locked():
            if self.folder.last.exists() and not resume:
                raise ValueError(f"{self.folder} holds a run already: resume it or choose another folder")
            check_accelerator(self.settings.accelerator)
            check_optimizer(self.settings.optimizer)
            self.task.check(self.model, self.settings)
            job = self._job(go_on)
            processes.first_then_others(lambda: self.task.prepare(job))
            model = processes.first_then_others(lambda: self.task.build(self.model, job))
            job.say(f"precision: {self.settings.precision}")
            last = resume and self.folder.last.exists()
            result = training.train(
                model, self.task, self.settings, folder=self.folder, resume=last, progress=progress, go_on=job.go_on
            )
            self.score = result.metrics.get(f"val/{self.task.monitor}", self.score)
            if processes.rank():
                return result
            self.task.save(model, self.folder)
            write_json(self.folder.training, result.to_dict())
            plot_run(self.folder.metrics, self.folder)
            return result

    def judge(self, model: nn.Module, *, go_on: str) -> Any:
        """Judge a trained model on the held-out data of the prepared task: write, show and return the figures.

        Args:
            model: The model.
            go_on: What goes on after an interruption.
        """
        return self.task.judge(model, self._job(go_on), self._training())

    def evaluate(self) -> Any:
        """Judge the trained model of the folder again: write, show and return the figures.

        Raises:
            ValueError: If the folder holds none.
        """
        model = self.load()
        go_on = self.folder.command("evaluate", self.folder)
        self.task.prepare(self._job(go_on))
        return self.judge(model, go_on=go_on)

    def evaluate_questions(self, asked: Sequence[QAPair]) -> QuestionReport:
        """Judge the trained network and its baselines on questions by category; write and show the tables.

        Args:
            asked: The questions with their answers, see :func:`~cellgraph.answering.questions.judge_run`.

        Raises:
            ValueError: If the task is none of questions and answers, or the folder holds no trained network.
        """
        task = self.question_answering()
        model = self.load()
        job = self._job(self.folder.command("evaluate", self.folder))
        task.prepare(job)
        run = FinishedRun.load(self.folder, task.cache)

        def systems(question: Tensor | TokenStates, dialogues: list[list[int]]) -> dict[str, Prediction]:
            assert isinstance(model, CellGraph | SequenceGraph)
            predictions = task.predictions(model, question, job, dialogues=dialogues)
            return {shown: predictions[name] for name, shown in JUDGED.items()}

        job.say("calibrating the confidence and asking")
        report = judge_run(run, asked, systems, trusted=LATTICE)
        # First, so that they are not lost where they cannot be written.
        self.console.print(Markdown(questions_markdown(report)))
        save_report(report, self.folder.path)
        return report

    def load(self) -> nn.Module:
        """The trained model of the folder, in evaluation mode.

        Raises:
            ValueError: If the folder holds none.
        """
        return self.task.load(self.model, self.folder)

    def question_answering(self) -> QuestionAnswering:
        """The task, if it is one of questions and answers.

        Raises:
            ValueError: If it is not.
        """
        if not isinstance(self.task, QuestionAnswering):
            raise ValueError(f"{self.folder} is the run of an automaton: it has no questions and answers")
        return self.task

    def _job(self, go_on: str) -> Job:
        return Job(self.folder, self.settings, self.console, go_on)

    def _training(self) -> dict[str, Any]:
        """What training came to; runs of earlier versions have it elsewhere."""
        if self.folder.training.exists():
            told = read_json(self.folder.training)
        else:
            told = read_json(self.folder.evaluation).get("training") if self.folder.evaluation.exists() else None
        if told is not None:
            with faults(str(self.folder.training)):
                return {**told, "updates": int(told["updates"]), "seconds": float(told["seconds"])}
        rows = read_metrics(self.folder.metrics)
        return {"updates": int(rows["seconds"][0][-1]), "seconds": float(rows["seconds"][1][-1])}
