"""Planted faults: each is found where it stands, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from inspected import GOOD, found

from cellgraph.data import QAPair, Rows, clean_pairs, normalise_text, read_rows
from cellgraph.data.checks import CheckSettings, inspect_pairs
from cellgraph.data.checks.coherence import Coherence
from cellgraph.data.checks.near import shingles

pytest.importorskip("datasketch")
pytest.importorskip("ftfy")
pytest.importorskip("py3langid")


def bag(texts: list[str]) -> np.ndarray:
    """Embeddings that a test can follow: how often each word of all the texts stands in a text."""
    words = sorted({word for text in texts for word in normalise_text(text).split()})
    place = {word: number for number, word in enumerate(words)}
    counts = np.zeros((len(texts), len(words)))
    for row, text in enumerate(texts):
        for word in normalise_text(text).split():
            counts[row, place[word]] += 1
    return counts


def inspected(planted: list[QAPair], **options: object) -> list[tuple[int, str, int | None]]:
    """What is found beyond the good pairs, which stand before the planted ones."""
    return found(inspect_pairs([*GOOD, *planted], CheckSettings(**options)))  # type: ignore[arg-type]


NEW = len(GOOD)
FIRST = GOOD[0]


def test_good_pairs_have_no_findings() -> None:
    assert inspected([]) == []


@pytest.mark.parametrize(
    ("pair", "kinds"),
    [
        (QAPair("?", "A question needs more than a sign to be one."), {"length"}),
        (QAPair("How long may an answer be?", "x" * 20_001), {"length"}),
        (QAPair("Who guards the guards?", "who guards THE guards"), {"echo"}),
        (QAPair("Where is the cafÃ© of the old town?", "Beside the station."), {"mojibake"}),
        (QAPair("What does the apprentice say?", "He doesnâ€™t say a word."), {"mojibake"}),
        (QAPair("What rings\x07 twice?", "The bell of the post."), {"control"}),
        (QAPair("What is in\u200bvisible?", "A space without width."), {"control"}),
        (QAPair("What begins a file?", "\ufeffA mark of byte order."), {"control"}),
        (QAPair("Which way is it read?", "From the \u202eend."), {"control"}),
        (QAPair("Which letter is none?", "This one: \ufdd0."), {"control"}),
        (QAPair("What was lost?", "A charac\ufffder."), {"replacement"}),
        (QAPair("What was cut?", "Half of \ud83d an emoji."), {"replacement"}),
        (QAPair("What is left of a page?", "Signs &amp; numbers."), {"markup"}),
        (QAPair("What is left of a table?", "Cells<br/>and rows."), {"markup"}),
        (
            QAPair(
                "Wie beschreibt der Meister seinem Lehrling die Arbeit?",
                "Er erzählt ihm von den langen Wintern und zeigt ihm die Werkzeuge der alten Werkstatt.",
            ),
            {"language"},
        ),
    ],
)
def test_a_row_by_itself(pair: QAPair, kinds: set[str]) -> None:
    assert inspected([pair]) == [(NEW, kind, None) for kind in kinds]


@pytest.mark.parametrize(
    "pair",
    [
        QAPair("What does the “quoted” word mean — really?", "It\u2019s naïve: façade, Übermut, ﬁne."),
        QAPair("What are 2 < 3 and 4 > 3?", "Both are true; x<y and y>z, AT&T."),
        QAPair("Which joiner does this emoji need?", "👩\u200d🔬 needs one."),
        QAPair("Was ist das?", "Ein Ei."),
    ],
)
def test_what_is_no_fault(pair: QAPair) -> None:
    assert inspected([pair]) == []


def test_repetitions() -> None:
    planted = [
        QAPair(FIRST.question.upper().replace("?", " !"), FIRST.answer.replace(",", ";")),
        QAPair(FIRST.question, "Nobody knows that, not even the guild."),
        QAPair("Which craft takes two winters?", FIRST.answer),
        QAPair(FIRST.question.replace("expert", "experts"), FIRST.answer.replace("studies", "studied")),
    ]
    assert inspected(planted) == [
        (NEW, "exact", 0),
        (NEW + 1, "question", 0),
        (NEW + 2, "answer", 0),
        (NEW + 3, "near", 0),
    ]


def test_likeness_is_the_jaccard_index_of_runs_of_five_letters() -> None:
    def runs(text: str) -> set[str]:
        text = normalise_text(text)
        return {text[i : i + 5] for i in range(max(1, len(text) - 4))}

    texts = [pair.question for pair in GOOD] + [pair.answer for pair in GOOD] + ["no", "été", "日本語の文章です"]
    for text in texts:
        assert len(shingles(text)) == len(runs(text))
    one, other = GOOD[0], QAPair(GOOD[0].question.replace("river", "rivers"), GOOD[0].answer)
    wanted = len(runs(one.question) & runs(other.question)) / len(runs(one.question) | runs(other.question))
    only = {"without": ("encoding", "language")}
    for threshold, kinds in ((wanted - 0.01, {"answer", "near"}), (wanted + 0.01, {"answer"})):
        result = inspect_pairs([one, other], CheckSettings(near=threshold, **only))  # type: ignore[arg-type]
        assert {finding.kind for finding in result.findings} == kinds
        assert [f.value for f in result.findings if f.kind == "near"] == [pytest.approx(wanted)] * ("near" in kinds)


def test_near_duplicates_are_those_of_a_comparison_of_each_with_each() -> None:
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghij "))
    pairs: list[QAPair] = []
    for _ in range(60):
        base = "".join(rng.choice(letters, 120))
        for errors in (0, 2, 4, 8, 16):
            changed = list(base)
            for place in rng.permutation(len(base))[:errors]:
                changed[place] = "z"
            # Its own question, as far from the others as can be.
            pairs.append(QAPair(f"{''.join(changed[:60])} question", "".join(changed[60:])))
    threshold = 0.6
    result = inspect_pairs(pairs, CheckSettings(near=threshold, without=("encoding", "language", "exact")))

    def runs(text: str) -> set[str]:
        text = normalise_text(text)
        return {text[i : i + 5] for i in range(len(text) - 4)}

    def likeness(one: str, other: str) -> float:
        return len(runs(one) & runs(other)) / len(runs(one) | runs(other))

    # Single letters tell questions apart, and random texts are full of them: those that hold none of their own.
    wanted, kept = [], []
    for row, pair in enumerate(pairs):
        marks = {word for word in normalise_text(pair.question).split() if len(word) == 1 and word not in "ai"}
        best = max(
            (
                (min(likeness(pair.question, q.question), likeness(pair.answer, q.answer)), -other)
                for other, q, its in kept
                if its == marks
            ),
            default=(0.0, 0),
        )
        if best[0] >= threshold:
            wanted.append((row, "near", -best[1]))
        else:
            kept.append((row, pair, marks))
    near = [each for each in found(result) if each[1] == "near"]
    assert 60 < len(wanted) < 240
    assert len(set(near) ^ set(wanted)) <= 0.02 * len(wanted)


def test_numbers_and_letters_tell_questions_apart() -> None:
    pairs = [
        QAPair(f"Which symptoms of the hereditary {kind} are seen most often?", f"Those of the hereditary disease {n}.")
        for kind in ("type 1", "type 2", "type II", "type b")
        for n in ("here",)
    ]
    result = inspect_pairs(pairs, CheckSettings(near=0.5, without=("encoding", "language")))
    assert result.counts() == {"answer": 3}


def test_what_is_nearly_a_pair_of_another_topic_is_told_of() -> None:
    def pair(name: str, topic: str) -> QAPair:
        question = f"Which symptoms of the hereditary disease of {name} are seen most often in children?"
        return QAPair(
            question, f"Those that are common to hereditary diseases like that of {name}, and few others.", topic
        )

    planted = [pair("Alma", "Alma"), pair("Elma", "Elma"), pair("Elmar", "Elma"), pair("Elmo", "")]
    only = {"near": 0.7, "without": ("encoding", "language")}
    result = inspect_pairs(planted, CheckSettings(**only))  # type: ignore[arg-type]
    assert found(result) == [(1, "neighbour", 0), (2, "near", 1), (3, "near", 1)]
    assert "is nearly row 1, of another topic" in result.findings[0].reason
    strict = inspect_pairs(planted, CheckSettings(**only, actions={"neighbour": "remove"}))  # type: ignore[arg-type]
    # Nothing repeats what is gone.
    assert all(finding.repeats not in strict.removed for finding in strict.findings)
    parted = inspect_pairs(Rows(planted, parts=["test", *["train"] * 3]), CheckSettings(**only))  # type: ignore[arg-type]
    assert {(f.row, f.kind) for f in parted.findings if f.repeats == 0} == {(1, "shared")}


def test_what_is_removed_for_its_own_fault_is_not_repeated() -> None:
    pairs = [QAPair("Who is there?", "x" * 50), QAPair("Who is there?", "x" * 50)]
    result = inspect_pairs(pairs, CheckSettings(max_answer_chars=49, without=("encoding", "language")))
    assert found(result) == [(0, "length", None), (1, "length", None)]


def test_short_turns_of_a_dialogue_are_no_fault() -> None:
    turns = [("Is it far to the sea?", "k"), ("k", "Yes."), ("Yes.", "yes"), ("How far is it?", "?")]
    dialogue = [QAPair(*texts, dialogue="sea", turn=turn) for turn, texts in enumerate(turns)]
    settings = CheckSettings(min_answer_chars=3, without=("encoding", "language"))
    assert found(inspect_pairs(dialogue, settings)) == []
    longer = CheckSettings(max_answer_chars=3, without=("encoding", "language"))
    assert [kind for _, kind, _ in found(inspect_pairs(dialogue, longer))].count("length") == 1
    assert inspect_pairs(dialogue, longer).clean() == []


def test_a_repaired_pair_is_compared_repaired() -> None:
    pairs = [QAPair("Where is the café?", "Over there."), QAPair("Where is the cafÃ©?", "Over there.")]
    result = inspect_pairs(pairs)
    assert found(result) == [(1, "mojibake", None), (1, "exact", 0)]
    assert result.clean() == pairs[:1]
    alone = inspect_pairs(pairs[1:])
    assert alone.clean() == pairs[:1]
    assert list(alone.repaired) == [0]
    kept = inspect_pairs(pairs[1:], CheckSettings(actions={"mojibake": "note"}))
    assert kept.clean() == pairs[1:]
    assert kept.is_clean


def test_dialogues_stay_or_go_as_a_whole() -> None:
    pairs = [
        QAPair("Hello there", "Good day", dialogue="a"),
        QAPair("Good day", "How are you?", dialogue="a", turn=1),
        QAPair("Hello there", "Good day", dialogue="b"),
        QAPair("Good day", "How are you?", dialogue="b", turn=1),
        QAPair("Hello there", "Good day", dialogue="c"),
        QAPair("Good day", "", dialogue="c", turn=1),
        QAPair("Hello there", "Good day", dialogue="d"),
        QAPair("Good day", "Fine weather", dialogue="d", turn=1),
    ]
    result = inspect_pairs(pairs)
    assert found(result) == [(2, "exact", 0), (3, "exact", 1), (4, "dialogue", None), (5, "unreadable", None)]
    assert result.clean() == [*pairs[:2], *pairs[6:]]


def test_neighbours_and_coherence_against_cosines_by_hand() -> None:
    stranger = QAPair("Which bird sings before dawn?", "Purple theorems divide quietly.")
    twin = QAPair("in practice, the river: How would an expert measure?", " ".join(FIRST.answer.split()[::-1]))
    pairs = [*GOOD, stranger, twin]
    result = inspect_pairs(pairs, CheckSettings(neighbour=0.99), embed=bag)
    assert found(result) == [(NEW, "incoherent", None), (NEW + 1, "neighbour", 0)]
    texts = [text for pair in pairs for text in (pair.question, pair.answer)]
    vectors = bag(texts)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    own = (vectors[::2] * vectors[1::2]).sum(1)
    assert result.findings[0].value == pytest.approx(own[NEW], abs=1e-6)
    assert result.findings[1].value == pytest.approx(min(vectors[-2] @ vectors[0], vectors[-1] @ vectors[1]), abs=1e-6)
    told = result.numbers["coherence"]
    assert told["own"]["0.5"] == pytest.approx(np.median(own), abs=1e-6)
    every = vectors[::2] @ vectors[1::2].T
    strangers = every[~np.eye(len(pairs), dtype=bool)]
    # Ten strangers each stand for all of them.
    assert told["threshold"] == pytest.approx(np.median(strangers), abs=0.02)
    wins = (own[:, None] > strangers).mean() + (own[:, None] == strangers).mean() / 2
    assert told["own_before_stranger"] == pytest.approx(wins, abs=0.02)


def test_neighbours_are_near_in_question_and_answer() -> None:
    first = QAPair("Where does the heron sleep at night?", "In the reeds of the lake.")
    same_question = QAPair("At night, where does the heron sleep?", "Nobody has ever seen that.")
    same_answer = QAPair("Which place do otters avoid?", "Of the lake, in the reeds.")
    result = inspect_pairs([*GOOD, first, same_question, same_answer], embed=bag)
    assert "neighbour" not in {kind for row, kind, _ in found(result) if row >= NEW}


def test_what_training_would_part_is_told_of() -> None:
    twins = [QAPair(" ".join(p.question.split()[::-1]), " ".join(p.answer.split()[::-1])) for p in GOOD]
    settings = CheckSettings(neighbour=0.99, test=0.3, validation=0.2)
    result = inspect_pairs([*GOOD, *twins], settings, embed=bag)
    counts = result.counts()
    assert counts["neighbour"] == NEW
    shared = [finding for finding in result.findings if finding.kind == "shared"]
    # Twins land independently: 1 - 0.5^2 - 0.3^2 - 0.2^2 of them in two parts.
    assert len(shared) / NEW == pytest.approx(0.62, abs=0.25)
    assert all(finding.repeats == finding.row - NEW for finding in shared)


def test_without_a_teacher_it_is_said_what_was_not_looked_at() -> None:
    assert inspect_pairs(GOOD).undone == dict.fromkeys(("coherence", "neighbours"), "there is no teacher")


def test_the_clean_pairs_are_clean() -> None:
    planted = [
        QAPair("?", "!"),
        QAPair(FIRST.question, FIRST.answer),
        QAPair("Where is the cafÃ©?", "There\u200b."),
        QAPair(GOOD[3].question.replace("expert", "experts"), GOOD[3].answer),
    ]
    result = inspect_pairs([*GOOD, *planted], embed=bag)
    assert set(result.removed) == {NEW, NEW + 1, NEW + 3}
    assert inspect_pairs(result.clean(), embed=bag).is_clean


def test_what_cannot_be_judged_is_none_and_no_number_that_json_lacks() -> None:
    nothing = np.empty(0)
    assert Coherence(nothing.astype(int), nothing, nothing, 0.0).to_dict()["own_before_stranger"] is None


def test_lengths_are_those_of_clean_pairs() -> None:
    settings = CheckSettings()
    defaults = {name: value for name, value in clean_pairs.__kwdefaults__.items() if name != "unique_answers"}
    assert defaults == {name: vars(settings)[name] for name in defaults}
    assert defaults


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"near": 1.5}, "near must be above 0 and at most 1, got 1.5"),
        ({"min_answer_chars": 9, "max_answer_chars": 8}, "min_answer_chars must not exceed max_answer_chars"),
        ({"without": ("nothing",)}, "without must be one of encoding, length"),
        ({"actions": {"exact": "repair"}}, "exact cannot be repaired"),
        ({"actions": {"exactly": "note"}}, "a kind must be one of unreadable"),
        ({"actions": {"unreadable": "note"}}, "unreadable can only be removed"),
        ({"language": "xx"}, "language must be one of .* got .xx"),
    ],
)
def test_wrong_settings(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        inspect_pairs(GOOD, CheckSettings(**options))  # type: ignore[arg-type]


MEDQUAD = Path(os.environ.get("CELLGRAPH_DATA", "data")) / "medquad" / "medquad.jsonl"


@pytest.mark.skipif(not MEDQUAD.is_file(), reason="MedQuAD is not here")
def test_medquad() -> None:
    rows = read_rows(MEDQUAD)
    result = inspect_pairs(rows, CheckSettings(without=("near", "language")))
    lines = [json.loads(line) for line in MEDQUAD.read_text().splitlines()]
    words = [(normalise_text(line["question"]), normalise_text(line["answer"])) for line in lines]
    assert [f.row for f in result.findings if f.kind == "echo"] == [i for i, (q, a) in enumerate(words) if q == a]
    echoes = result.counts()["echo"]
    assert echoes == 4
    asked = [q for q, a in words if q != a]
    assert result.counts()["question"] == len(asked) - len(set(asked))
