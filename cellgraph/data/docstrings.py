"""The default set: question-answer pairs from the documentation of the installed scientific libraries."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice

from cellgraph.numbers import integer
from cellgraph.texts import words

from .libraries import LIBRARIES
from .pairs import QAPair, normalise_text
from .phrasing import pairs_of
from .quality import clean_pairs
from .sources import DocumentedObject, documented_objects

__all__ = ["docstring_pairs"]

#: Largest number of pairs about one topic, so that no group outweighs the others when the set is split.
_PER_TOPIC = 20
#: Largest number of pairs from one source file, for those that document hundreds of unrelated objects.
_PER_MODULE = 60
#: Largest number of pairs about one object, and about parameters or methods of one name: `random_state` says the same
#: of every class.
_PER_OBJECT = 3
_PER_WORD = 6


def docstring_pairs(
    *, limit: int | None = 3000, minimum: int = 2500, packages: Sequence[str] | None = None
) -> list[QAPair]:
    """Makes question-answer pairs from the documentation strings of installed packages.

    Questions ask what functions, classes and modules do, how to do something, and what parameters mean or calls
    return; answers are sentences of the documentation. The topic of a pair is the module that defines its object.
    Source files are parsed, nothing of the packages runs and nothing is downloaded. For given versions of the packages
    the pairs and their order are always the same.

    Args:
        limit: Number of pairs wanted at most, taken in turn from the packages; ``None`` gives all there are.
        minimum: Number of pairs below which the set is refused as too small; a smaller limit lowers it.
        packages: Names of packages among :data:`~cellgraph.data.libraries.LIBRARIES` (``"python"`` is the standard
            library), all by default; those that are not installed are left out.

    Raises:
        ValueError: If a package is unknown, a number is out of range, or fewer pairs than the minimum come out.
    """
    limit, minimum = None if limit is None else integer("limit", limit), integer("minimum", minimum)
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    if minimum < 0:
        raise ValueError(f"minimum must not be negative, got {minimum}")
    packages = tuple(LIBRARIES) if packages is None else packages
    if isinstance(packages, str) or not packages:
        raise ValueError(f"packages must be a list of names, got {packages!r}")
    unknown = sorted(set(packages) - LIBRARIES.keys())
    if unknown:
        raise ValueError(f"packages must be among {sorted(LIBRARIES)}, got {unknown}")

    pairs = _in_turn({package: _chosen(package) for package in sorted(set(packages))}, limit)
    needed = minimum if limit is None else min(minimum, limit)
    if len(pairs) < needed:
        raise ValueError(
            f"the documentation of {', '.join(sorted(set(packages)))} gives {len(pairs)} pairs, expected at least "
            f"{needed}; install more of these packages or read a file of your own"
        )
    return pairs


def _in_turn(sources: Mapping[str, Iterator[QAPair]], limit: int | None) -> list[QAPair]:
    """Takes pairs from the package that has given fewest, a topic at a time, until there are enough.

    A pair is passed over if its question has been asked before, or its answer begins like an earlier one, numbers and
    the words of the question aside: "the number of jobs" of twenty classes is one answer.
    """
    taken: dict[str, list[QAPair]] = {package: [] for package in sources}
    waiting = {package: groupby(source, key=lambda pair: pair.topic) for package, source in sources.items()}
    questions: set[str] = set()
    answers: set[str] = set()
    left = sys.maxsize if limit is None else limit
    while left and waiting:
        package = min(waiting, key=lambda name: (len(taken[name]), name))
        _, group = next(waiting[package], ("", None))
        if group is None:
            del waiting[package]
            continue
        for pair in islice(group, _PER_TOPIC):
            question, gist = normalise_text(pair.question), _gist(pair)
            if left and question not in questions and answers.isdisjoint(gist):
                questions.add(question)
                answers.update(gist)
                taken[package].append(pair)
                left -= 1
    return [pair for package in taken for pair in taken[package]]


def _gist(pair: QAPair) -> set[str]:
    """Returns how an answer begins, without the name that a "how" is told: as it is, and without numbers and the words
    of its question."""
    text = pair.answer.partition(". ")[2] if pair.category.endswith("how") else pair.answer
    # Without any sign: what begins alike but for those is one answer.
    told, said = (words(unicodedata.normalize("NFKC", one).casefold()) for one in (text, pair.question))
    return {" ".join(told[:12]), " ".join([word for word in told if word not in said and not word.isdigit()][:9])}


def _chosen(package: str) -> Iterator[QAPair]:
    """Yields clean pairs of a package, no more of a topic, an object or a parameter name than the largest numbers."""
    topics: Counter[str] = Counter()
    words: Counter[str] = Counter()
    named: set[str] = set()
    for objects in documented_objects(package):
        found = 0
        for thing in objects:
            if found >= _PER_MODULE or thing.name in named:
                continue
            named.add(thing.name)
            for pair in islice(_clean(thing), _PER_OBJECT):
                word = re.search(r"`(\w+)`", pair.question)
                key = word[1] if word else ""
                if topics[thing.topic] < _PER_TOPIC and (not key or words[key] < _PER_WORD):
                    found += 1
                    topics[thing.topic] += 1
                    words[key] += 1
                    yield pair


def _clean(thing: DocumentedObject) -> list[QAPair]:
    return clean_pairs(
        pairs_of(thing),
        min_question_chars=12,
        max_question_chars=200,
        min_answer_chars=30,
        max_answer_chars=520,
        unique_answers=True,
    )
