"""A finished run, ready to be asked: its network, its teacher, and what its pairs are good for."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cellgraph.answering.bank import AnswerBank
from cellgraph.answering.confidence import PRECISION, Confidence, check_precision, score_features
from cellgraph.answering.lexical import Lexical
from cellgraph.answering.relevance import equivalence_threshold, relevant
from cellgraph.configuration import admit, read_config
from cellgraph.data import QAPair, Split, read_pairs
from cellgraph.files import write_json
from cellgraph.folder import RunFolder
from cellgraph.model import CellGraph
from cellgraph.numbers import number
from cellgraph.reading import read_json
from cellgraph.retrieval import first_right, predict
from cellgraph.retrieval.blend import Blend
from cellgraph.retrieval.controls import Control
from cellgraph.retrieval.embedded import dialogues_of
from cellgraph.retrieval.lexical import BM25
from cellgraph.retrieval.networks import load_network
from cellgraph.sequence import SequenceGraph
from cellgraph.teacher import EmbeddingCache, Teacher, TokenReader, TokenStates, load_teacher

if TYPE_CHECKING:
    from cellgraph.answering.generator import GenerativeDecoder

PARTS = ("train", "validation", "test")
#: Questions predicted at a time: the state of a few large cubes fits a processor's caches, that of 64 does not.
BATCH = 8


@dataclass(frozen=True)
class FinishedRun:
    """What a run folder of ``cellgraph train`` holds.

    Attributes:
        folder: The run folder.
        model: The network.
        teacher: The teacher it was trained with.
        pairs: The pairs of the split.
        cache: Where embeddings are kept.
        tokens: How questions are read token by token, see :class:`~cellgraph.teacher.TokenReader`; ``None`` where a
            question is one vector.
    """

    folder: RunFolder
    model: CellGraph | SequenceGraph
    teacher: Teacher
    pairs: Split
    cache: EmbeddingCache
    tokens: dict[str, Any] | None = None

    @classmethod
    def load(cls, run: str | os.PathLike[str], cache: EmbeddingCache | None = None) -> FinishedRun:
        """Read a run folder; nothing in it is executed.

        Raises:
            ValueError: If it is no folder of a finished run, or something in it is damaged.
        """
        folder = RunFolder(run)
        for needed in (folder.model / "config.json", folder.teacher / "teacher.json", folder.pairs("train")):
            if not needed.is_file():
                missing = needed.relative_to(folder.path)
                raise ValueError(
                    f"{folder} is no folder of a finished run of questions and answers: {missing} is missing"
                )
        tokens = None
        if folder.config.is_file():
            config = read_config(folder)
            admit([config.get("model"), config.get("teacher"), config.get("front")], folder)
            front = config.get("front")
            tokens = front.get("tokens") if isinstance(front, dict) else None
        model = load_network(folder.model)
        if isinstance(model, Control):
            raise ValueError(f"{folder} holds a {type(model).__name__}, expected a network that can be asked")
        model.compile_step(compiling=False)
        return cls(
            folder=folder,
            model=model,
            teacher=load_teacher(folder.teacher),
            pairs=Split(**{part: read_pairs(folder.pairs(part)) for part in PARTS}),
            cache=cache if cache is not None else EmbeddingCache(),
            tokens=tokens,
        )

    def embed(self, texts: list[str]) -> Tensor:
        """The teacher's embeddings, through the cache: ``[num_texts, width]``."""
        return self.cache.embed(self.teacher, texts, progress=True)

    def read(self, questions: list[str]) -> Tensor | TokenStates:
        """What the network is given of questions: embeddings, ``[num_questions, width]``, or the states of tokens."""
        reader = self.reader
        return self.embed(questions) if reader is None else reader.read(questions, progress=True)

    @property
    def reader(self) -> TokenReader | None:
        """What reads questions token by token; ``None`` where a question is one vector."""
        if self.tokens is None:
            return None
        return TokenReader.of(self.teacher, self.tokens, self.cache.folder)

    def answers(self) -> list[str]:
        """The answers of all three parts, training first."""
        return [pair.answer for part in PARTS for pair in getattr(self.pairs, part)]

    def bank(self, texts: list[str] | None = None, *, approximate: bool = False) -> AnswerBank:
        """A bank of answers: those of all the run's pairs, held-out ones included, unless others are given."""
        texts = self.answers() if texts is None else texts
        return AnswerBank(texts, self.embed(texts), approximate=approximate)

    def equivalence_threshold(self) -> float:
        """The cosine from which on answers are equivalent, see :func:`equivalence_threshold`."""
        return equivalence_threshold(self.pairs.train, self.embed([pair.answer for pair in self.pairs.train]))

    def lexical(self, bank: AnswerBank, *, use_memory: bool = True, num_steps: int | None = None) -> Lexical:
        """The words of a bank's answers, weighed on the validation pairs; the weight is kept in the run folder.

        The validation questions are asked as for :meth:`confidence`.
        """
        path = self.folder.lexical(self._key(bank, use_memory, num_steps))
        if path.is_file():
            try:
                return Lexical(bank, Blend(number("weight", read_json(path)["weight"])))
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{path} is damaged, remove it to have it made again: {error}") from None
        pairs = self.pairs.validation
        whole, target, scores = self._asked(bank, pairs, use_memory, num_steps)
        words = BM25(whole.texts).scores([pair.question for pair in pairs])
        blend = Blend.fit(scores, words, target)
        write_json(path, asdict(blend))
        return Lexical(bank, blend)

    def confidence(
        self,
        bank: AnswerBank,
        *,
        precision: float = PRECISION,
        lexical: Lexical | None = None,
        use_memory: bool = True,
        num_steps: int | None = None,
    ) -> Confidence:
        """How far to trust answers from a bank, learned on the validation pairs and kept in the run folder.

        The validation questions are asked of the bank to which their own answers are added: their true answer is
        there, among the same others as at asking. They are to be asked as the network will be: a session without
        memory has a confidence of its own, and so has a network that takes another number of steps.

        Args:
            bank: The bank to be asked.
            precision: Share of the known answers that is to be relevant.
            lexical: Has the words count, too, from :meth:`lexical`, asked in the same way.
            use_memory: Whether a network that remembers is asked dialogues turn by turn, or every question alone.
            num_steps: Steps of the rollout, if not the network's own.

        Raises:
            ValueError: If the precision is no share.
        """
        check_precision(precision)
        words = () if lexical is None else (repr(lexical.blend),)
        path = self.folder.confidence(self._key(bank, use_memory, num_steps, repr(precision), *words))
        if path.is_file():
            return Confidence.load(path)
        threshold = self.equivalence_threshold()
        features, right = self._judged(
            bank, self.pairs.validation, threshold, lexical, use_memory=use_memory, num_steps=num_steps
        )
        confidence = Confidence.fit(features, right, precision=precision, equivalence=threshold)
        confidence.save(path)
        return confidence

    def decoder(self) -> GenerativeDecoder:
        """The generative decoder that ``cellgraph fit-decoder`` made.

        Raises:
            ValueError: If there is none, or it is damaged.
        """
        if not (self.folder.decoder / "config.json").is_file():
            fit = self.folder.command("fit-decoder", self.folder)
            raise ValueError(f"{self.folder} has no generative decoder yet: {fit}")
        # It brings the language models of transformers along.
        from cellgraph.answering.generator import GenerativeDecoder

        return GenerativeDecoder.from_pretrained(self.folder.decoder)

    def _key(self, bank: AnswerBank, use_memory: bool, num_steps: int | None, *more: str) -> str:
        """Of all that what was learned on the validation pairs depends on."""
        key = hashlib.sha256()
        # Until then what remembers was learned without memory.
        by_turn = ("turn by turn",) if self.model.remembers and use_memory else ()
        own = self.model.num_steps[1] if isinstance(self.model, CellGraph) else None
        steps = () if num_steps in (None, own) else (f"{num_steps} steps",)
        for part in (bank.fingerprint, self.teacher.fingerprint, *more, *by_turn, *steps):
            key.update(part.encode())
        for name in ("config.json", "model.safetensors"):
            key.update((self.folder.model / name).read_bytes())
        return key.hexdigest()[:16]

    def _asked(
        self, bank: AnswerBank, pairs: list[QAPair], use_memory: bool = True, num_steps: int | None = None
    ) -> tuple[AnswerBank, Tensor, Tensor]:
        """The bank with the answers of pairs in it, where each of them is, and what the network says of them all."""
        answers = self.embed([pair.answer for pair in pairs])
        whole = AnswerBank([*bank.texts, *(pair.answer for pair in pairs)], torch.cat([bank.raw, answers]))
        questions = self.read([pair.question for pair in pairs])
        dialogues = dialogues_of(pairs) if use_memory else None
        prediction = predict(self.model, questions, dialogues=dialogues, batch_size=BATCH, num_steps=num_steps)
        return whole, whole.position[len(bank) :], whole.by(prediction.key).scores(prediction.query)

    def _judged(
        self, bank: AnswerBank, pairs: list[QAPair], threshold: float, lexical: Lexical | None = None, **how: Any
    ) -> tuple[Tensor, Tensor]:
        """Features of the first answers to pairs, and whether the first is a relevant one."""
        whole, target, scores = self._asked(bank, pairs, **how)
        if lexical is not None:
            scores = Lexical(whole, lexical.blend).scores([pair.question for pair in pairs], scores)
        right = relevant(whole, self.embed([pair.answer for pair in pairs]), target, threshold=threshold)
        return score_features(scores.topk(2, dim=1).values), first_right(scores, right) <= 1
