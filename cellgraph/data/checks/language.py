"""Languages: rows that are in another one than the rest."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ..pairs import QAPair
from .finding import Finding
from .settings import CheckSettings

__all__ = ["language_faults"]

#: A language is told from so many characters: more make it no surer.
_MOST_CHARS = 600


def language_faults(
    pairs: Iterable[tuple[int, QAPair]],
    settings: CheckSettings,
    *,
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[list[Finding], dict[str, Any]]:
    """Finds the rows in another language than the one expected, and counts the languages.

    Languages are told from question and answer together by `py3langid <https://pypi.org/project/py3langid/>`_ (`Lui
    and Baldwin 2012 <https://aclanthology.org/P12-3005>`_). Short texts and names mislead it: texts of fewer than
    ``min_language_chars`` characters are not judged, and less than ``language_confidence`` is no finding.

    Args:
        pairs: Pairs with their rows.
        settings: Which language is expected, and how sure one has to be.
        progress: Called with the share that is done.

    Raises:
        ValueError: If the package py3langid is missing, or the language expected is none that it knows.
    """
    identifier = _identifier()
    known = identifier.labels() if callable(identifier.labels) else identifier.labels
    if settings.language is not None and settings.language not in known:
        raise ValueError(f"language must be one of {', '.join(sorted(known))}, got {settings.language!r}")
    texts = [(row, f"{pair.question}\n{pair.answer}") for row, pair in pairs]
    told: dict[int, tuple[str, float]] = {}
    for number, (row, text) in enumerate(texts, start=1):
        if len(text) >= settings.min_language_chars:
            language, probability = identifier.classify(text[:_MOST_CHARS])
            if probability >= settings.language_confidence:
                told[row] = language, float(probability)
        progress(number / len(texts))
    counts = Counter(language for language, _ in told.values())
    expected = settings.language or (counts.most_common(1)[0][0] if counts else None)
    found = [
        Finding(
            row, "language", f"is in {language!r}, not {expected!r}: probability {probability:.3f}", None, probability
        )
        for row, (language, probability) in told.items()
        if language != expected
    ]
    numbers = {"expected": expected, "rows": dict(counts.most_common()), "not_judged": len(texts) - len(told)}
    return found, numbers


@functools.cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise ValueError("the check language needs the package py3langid (pip install cellgraph[data])") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
