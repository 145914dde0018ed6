"""Question answering: texts to embeddings to a network to a table beside its baselines."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from cellgraph.data import QAPair, Split, group_numbers, read_pairs, save_pairs
from cellgraph.ends import check_start
from cellgraph.folder import RunFolder
from cellgraph.model import CellGraph
from cellgraph.numbers import plain_numbers
from cellgraph.progress import progress_bar
from cellgraph.retrieval.baselines import closed_forms
from cellgraph.retrieval.embedded import EmbeddedPairs
from cellgraph.retrieval.evaluation import Evaluation, evaluate
from cellgraph.retrieval.lexical import BM25
from cellgraph.retrieval.nearest import nearest_answers
from cellgraph.retrieval.objectives import Objective
from cellgraph.retrieval.prediction import Prediction, Scores
from cellgraph.retrieval.settings import TrainSettings
from cellgraph.retrieval.stages import ADAPTERS_ALONE, NAMES, Stages, Trained, check_trained
from cellgraph.retrieval.systems import Embedded, answered, with_words
from cellgraph.retrieval.table import print_evaluation, save_evaluation
from cellgraph.retrieval.task import Retrieval
from cellgraph.retrieval.trials import Trials, check_settings
from cellgraph.retrieval.twins import with_chain, without_lateral_messages
from cellgraph.sequence import SequenceGraph
from cellgraph.teacher import EmbeddingCache, Teacher, TokenReader, TokenStates, load_teacher
from cellgraph.training import Job

PARTS = ("train", "validation", "test")

#: Names in the table.
LATTICE, WORDS = "lattice", "BM25"

#: Where the settings of the first stage of training differ; there is none unless it is given updates.
ADAPTERS_FIRST: Mapping[str, Any] = MappingProxyType({"max_steps": 0, "batch_size": 128, "lr": 1e-3})


class QuestionAnswering(Retrieval):
    """From texts to a network judged beside its baselines.

    Args:
        split: Gives the pairs, in three parts, where the run folder has none.
        teacher: The frozen encoder; the run folder's instead where it has one.
        cache: Where its embeddings are kept.
        objective: What the network and the trained baselines are trained for.
        start: How the adapters start, see :meth:`~cellgraph.CellGraph.fit_adapters`.
        adapters_first: Settings in which a first stage of training differs, in which the lattice, which a new network
            passes unchanged, is left out: the adapters learn cheaply what they can do alone. With ``max_steps`` 0, or
            without settings, there is no such stage. The trained baselines start from where it ends.
        control_trials: Values to try, by setting, such as ``{"lr": [1e-3, 3e-3]}``: each trained baseline is the best
            by validation of all the combinations. With none they have the network's settings. Beside settings of
            training there may be the objective's temperature, ``"objective": {"temperature": [...]}``, and
            ``"mlp": {"hidden": [...], "layers": [...], "dropout": [...]}``, with which there is one more baseline: the
            best perceptron of all these sizes and the one of equal size.
        on_disk: Whether the embeddings of the training pairs stay on the disk, for sets larger than memory; closed
            forms are then computed from some of them.
        lattice_controls: Whether to train the two baselines that have a lattice, too: one whose cell stays random and
            one without lateral messages. Each takes as long as the network.
        tokens: Arguments of the :class:`~cellgraph.teacher.TokenReader` that reads questions token by token, for
            networks that take them so; without them a question is one vector.
        front_controls: Chains of blocks by name, see :func:`~cellgraph.retrieval.twins.with_chain`: each is one more
            trained baseline.

    Attributes:
        texts: The pairs, once prepared.
        test: The embedded held-out pairs, once prepared.
    """

    @plain_numbers
    def __init__(
        self,
        split: Callable[[], Split],
        teacher: Teacher,
        objective: Objective,
        *,
        cache: EmbeddingCache | None = None,
        start: str = "identity",
        adapters_first: Mapping[str, Any] | None = ADAPTERS_FIRST,
        control_trials: Mapping[str, Any] | None = None,
        lattice_controls: bool = False,
        tokens: Mapping[str, Any] | None = None,
        front_controls: Mapping[str, Any] | None = None,
        on_disk: bool = False,
    ) -> None:
        super().__init__(objective)
        self.split, self.teacher = split, teacher
        self.cache = cache if cache is not None else EmbeddingCache()
        self.start, self.adapters_first = start, {} if adapters_first is None else adapters_first
        check_settings(self.adapters_first, "adapters_first", optional=True)
        self.control_trials = Trials({} if control_trials is None else control_trials)
        self.control_trials.check(objective)
        if not isinstance(front_controls, Mapping | None):
            raise ValueError(f"front_controls must be chains of blocks by name, got {front_controls!r}")
        self.lattice_controls, self.on_disk = bool(lattice_controls), bool(on_disk)
        self.tokens, self.front_controls = tokens, dict(front_controls or {})
        if self.on_disk and self.tokens:
            raise ValueError("on_disk=true is for questions that are one vector, not for those read token by token")
        self.texts = Split([], [], [])
        self.test: EmbeddedPairs | None = None
        self.make: Callable[..., Any] | None = None

    def check(self, make: Callable[..., Any], settings: TrainSettings) -> None:
        """Refuse a network that cannot be made, and settings that fit no part of it or of its baselines."""
        taken = sorted(self.front_controls.keys() & {*NAMES, LATTICE, WORDS, *closed_forms()})
        taken += [name for name in self.front_controls if str(name).endswith(f" + {WORDS}")]
        if taken:
            raise ValueError(f"front_controls must have names of their own, got {', '.join(map(repr, taken))}")
        for name in self.front_controls:
            RunFolder("").stage(name)
        with torch.random.fork_rng([]):
            model = copy.deepcopy(make)(in_features=self.teacher.width)
            check_start(self.start, model)
            if self.lattice_controls and not isinstance(model, CellGraph):
                raise ValueError(f"lattice_controls are of a CellGraph, the network is a {type(model).__name__}")
            if self.lattice_controls:
                without_lateral_messages(model)
            chains = {name: with_chain(model, chain) for name, chain in self.front_controls.items()}
            differ: dict[str, Any] = {"first": self.adapters_first, "trials": self.control_trials, "chains": chains}
            check_trained(model, self.objective, settings, **differ)
        self._check_front(model, chains)

    def _check_front(self, model: Any, chains: Mapping[str, SequenceGraph]) -> None:
        """Refuse a network that does not take what questions are read as."""
        by_token = isinstance(model, SequenceGraph) and model.over == "tokens"
        if by_token != bool(self.tokens):
            takes = "token states: give tokens" if by_token else "one vector a question: leave tokens out"
            raise ValueError(f"a {type(model).__name__} as it is here takes {takes}")
        if self.tokens:
            longest = self.reader(self.teacher).max_tokens
            for name, network in {"the network": model, **chains}.items():
                if network.capacity is not None and longest > network.capacity:
                    raise ValueError(
                        f"max_tokens is {longest}, and {name} takes {network.capacity} tokens at most: "
                        "make its surface larger, or max_tokens less"
                    )

    def prepare(self, job: Job) -> None:
        """Read or make the split, fit the teacher where it needs that and was not before, and embed every part."""
        folder = job.folder
        if all(folder.pairs(part).exists() for part in PARTS):
            self.texts = self.read(folder)
        else:
            self.texts = _checked_parts(self.split())
            for part in PARTS:
                save_pairs(folder.pairs(part), getattr(self.texts, part))
        job.say("pairs: " + ", ".join(f"{len(getattr(self.texts, part)):,} {part}" for part in PARTS))
        if not folder.has_teacher:
            self.teacher.fit([text for pair in self.texts.train for text in (pair.question, pair.answer)])
            self.teacher.save_pretrained(folder.teacher)
        self.pairs, self.validation, self.test = (
            self.embed(getattr(self.texts, part), folder, on_disk=self.on_disk and part == "train") for part in PARTS
        )

    def read(self, folder: RunFolder) -> Split:
        """The pairs of a run folder."""
        return Split(**{part: read_pairs(folder.pairs(part)) for part in PARTS})

    def embed(self, pairs: Sequence[QAPair], folder: RunFolder, *, on_disk: bool = False) -> EmbeddedPairs:
        """Pairs embedded by the teacher of a run folder; their embeddings in memory, or left on the disk."""
        if folder.has_teacher:
            self.teacher = load_teacher(folder.teacher)
        questions, answers = [pair.question for pair in pairs], [pair.answer for pair in pairs]
        dialogue, turn = [pair.dialogue for pair in pairs], [pair.turn for pair in pairs]
        if on_disk:
            with progress_bar(len({*questions, *answers}), enabled=True) as advance:
                rows = [self.cache.rows(self.teacher, texts, advance=advance) for texts in (questions, answers)]
            return EmbeddedPairs(*rows, dialogue=dialogue, turn=turn)
        both = self.cache.embed(self.teacher, answers if self.tokens else questions + answers, progress=True)
        question: Any = both[: len(pairs)]
        if self.tokens:
            question = self.reader(self.teacher).read(questions, progress=True)
        return EmbeddedPairs(question, both[len(both) - len(pairs) :], dialogue=dialogue, turn=turn)

    def reader(self, teacher: Teacher) -> TokenReader:
        """What gives the token states of questions."""
        return TokenReader.of(teacher, self.tokens, self.cache.folder)

    def build(self, make: Callable[..., Any], job: Job) -> Any:
        """A new network, its adapters fitted and taken through the first stage."""
        self.make = make
        model, errors = self._new_model(make, job.settings)
        counts = ", ".join(f"{name} {count:,}" for name, count in model.parameter_counts().items())
        job.say(f"parameters: {counts}")
        job.say(", ".join(f"{name.replace('_', ' ')} {error:.4f}" for name, error in errors.items()))
        # A run that goes on has been through it.
        if not job.folder.last.exists():
            self.stages(job).take_first(model)
        return model

    def load(self, make: Callable[..., Any], folder: RunFolder) -> Any:
        """The trained network of a run folder."""
        self.make = make
        return super().load(make, folder)

    def judge(self, model: nn.Module, job: Job, training: Mapping[str, Any]) -> Evaluation:
        """Judge the network on the held-out pairs beside its baselines; write and show the table."""
        assert isinstance(model, CellGraph | SequenceGraph)
        assert self.pairs is not None
        assert self.validation is not None
        assert self.test is not None
        questions, answers = zip(*((pair.question, pair.answer) for pair in self.texts.test), strict=True)
        networks = self._networks(model, job, training["seconds"])
        predictions = answered(networks, self.pairs, self.test.question, self.test.dialogues)
        words = Scores(BM25(answers).scores(questions))
        parts = Embedded(self.texts.validation, self.validation), Embedded(self.texts.test, self.test)
        both = {
            f"{name} + {WORDS}": with_words(networks[name], predictions[name], words, *parts)
            for name in (ADAPTERS_ALONE, LATTICE)
        }
        systems: dict[str, Prediction | Scores] = {WORDS: words, **both, **predictions}
        evaluation = evaluate(
            systems,
            self.test.answer,
            answers_train=self.pairs.some().answer,
            pairs_train=len(self.pairs),
            to_surface=model.target_surface,
            answer_texts=answers,
            groups=torch.from_numpy(group_numbers(self.texts.test)),
            reference=LATTICE,
        )
        ours = predictions[LATTICE]
        examples = nearest_answers(ours.query, ours.key(self.test.answer), questions, answers)
        # First, so that they are not lost where they cannot be written.
        print_evaluation(evaluation, examples, console=job.console)
        save_evaluation(evaluation, job.folder, examples)
        return evaluation

    def predictions(
        self,
        model: CellGraph | SequenceGraph,
        question: Tensor | TokenStates,
        job: Job,
        *,
        dialogues: Sequence[Sequence[int]] | None = None,
        seconds_train: float = 0.0,
    ) -> dict[str, Prediction]:
        """What the baselines and the network answer to questions.

        Args:
            model: The trained network.
            question: Embeddings of the questions, ``[num_questions, in_features]``, or their token states.
            job: The experiment; trained baselines are kept in its folder.
            dialogues: Numbers of the questions that are the turns of each dialogue, if they are.
            seconds_train: Time that training the network took.
        """
        assert self.pairs is not None
        return answered(self._networks(model, job, seconds_train), self.pairs, question, dialogues)

    def stages(self, job: Job) -> Stages:
        """What is trained beside the network."""

        def new() -> CellGraph:
            assert self.make is not None
            return self._new_model(self.make, job.settings)[0]

        return Stages(
            self,
            job,
            new,
            first=self.adapters_first,
            trials=self.control_trials,
            lattices=self.lattice_controls,
            fronts=self.front_controls,
            depends={"start": self.start, **({"tokens": dict(self.tokens)} if self.tokens else {})},
        )

    def _networks(self, model: CellGraph | SequenceGraph, job: Job, seconds_train: float) -> dict[str, Trained]:
        """The trained baselines and the network, with the seconds that each took."""
        first, baselines = self.stages(job).baselines()
        model.compile_step(compiling=False)
        trained = baselines | {LATTICE: Trained(model, seconds_train, float("nan"))}
        return {name: one._replace(seconds=first + one.seconds) for name, one in trained.items()}

    def _new_model(self, make: Callable[..., Any], settings: TrainSettings) -> tuple[Any, dict[str, float]]:
        # Who asks or looks at a network does without: it takes longer to import than all else.
        import lightning

        assert self.pairs is not None
        lightning.seed_everything(settings.seed, verbose=False)
        # A copy: what makes it holds a cell, which another network must not share.
        model = copy.deepcopy(make)(in_features=self.teacher.width)
        return model, model.fit_adapters(self.pairs.question, self.pairs.answer, start=self.start)


def _checked_parts(pairs: Split) -> Split:
    """The split, known to have pairs in every part."""
    counts = {part: len(getattr(pairs, part)) for part in PARTS}
    if not all(counts.values()):
        had = ", ".join(f"{count:,} for {part}" for part, count in counts.items())
        raise ValueError(
            "training, validation (data.validation) and test (data.test) need at least 1 pair each, "
            f"as a number or a fraction of all pairs; got {had}"
        )
    return pairs
