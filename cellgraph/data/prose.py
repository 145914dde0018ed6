"""Plain sentences from the markup of documentation strings."""

from __future__ import annotations

import re
import textwrap

__all__ = ["plain_sentences", "plain_text"]

#: Paragraphs that may be left out without losing the thread, and paragraphs after which nothing can be taken.
_SKIPPED_PARAGRAPH = re.compile(r"\s*(\.\. (versionadded|versionchanged|seealso|index|_|currentmodule|testsetup)|<Tip)")
_LAST_PARAGRAPH = re.compile(r"\s*(\.\. |>>>|[-*+•] |\d+[.)] |```|\||#|\$|@|[=~^+-]{3}|:\w+ ?\w*:(?!`))")
_BULLET_LINE = re.compile(r"\n\s*([-*+•] |\d+[.)] |[=~^-]{4}|>>>|\.\. |:\w+ \w+:|\|)")
#: Sentences that send the reader elsewhere or belong to the page: left out, the ones around them are kept.
_SKIPPED_SENTENCE = re.compile(
    r"^(Read more|Refer to|See |Please (see|refer|check|read|have a look)|For (more|further|an? |details|additional)"
    r"|More (details|information)|Added in|New in|Changed in|Check (the|out)|Examples? |This (inherits|superclass|model"
    r" (inherits|is also))|Note that this (documentation|section)|Taken from|Adapted from|Copied from"
    r"|\(?Default)|https?:|User Guide|documentation|tutorial|below|following|above\b|as follows|PEP \d|RFC ?\d|Eq\."
    r"|Figure|\bsee\b.*\bfor\b|\bTODO|\bFIXME|XXX|deprecated|[Ss]ee also|see :",
    re.IGNORECASE,
)
#: What no plain sentence contains: markup that was not understood, formulas, fields to be filled in, code.
_MARKUP = re.compile(
    r"[`|\\\x00$^]|::|>>>|\{\{|\}\}|\{[A-Za-z_]\w*\}|%\(|</?[a-z]\w*>|\.\. |\[\w*\]_|:\w+:|\*\*|==|[-=]>|\[\d+\]|[;{]$"
    r"|--|,\.|[=<>/*+]\s[\w.()]+\s[=<>/*+]|\b(Args|Returns?|Raises|Yields|Notes?|Examples?|Parameters|Usage|Keyword|Arguments):"
    # A sentence that breaks off because a formula or list comes next.
    r"|\b(as|by|is|are|i\.e|e\.g|that|the|an?|of|with|where|and|or|form|to|like|for|from|in|be|than|when|if)[.,]?$"
)
_ABBREVIATIONS = re.compile(
    r"\b(e\.g|i\.e|etc|cf|vs|resp|approx|al|Fig|Figs|Eq|Eqs|No|Vol|Ref|Sec|w\.r\.t|Dr|St|pp?)\.$"
)
_BOUNDARY = re.compile(r"(?<=[.!?])[\"')]?\s+(?=[A-Z\"'(])")
_ROLE = re.compile(r":[a-zA-Z]\w*(?::\w+)*:`([^`]+)`")
_IDENTIFIER = re.compile(r"^\w*[_.\d(]\w*|^[a-z]+[A-Z]")


def plain_text(markup: str) -> str:
    """Returns a piece of reStructuredText or Markdown as running text; what cannot be rendered becomes ``\\0``.

    Args:
        markup: Text with inline markup.

    Example:
        >>> plain_text("If :obj:`True`, calls :class:`~torch.nn.Linear` with ``bias`` [1]_.")
        'If True, calls Linear with bias.'
    """
    text = " ".join(markup.split())
    text = re.sub(r"\s*\[[\w.+-]+\]_", "", text)
    text = re.sub(r"^(?::\w+:)?`[\w.\[\], ]+`:\s+", "", text)  # the type in front of a property's description
    text = re.sub(r":math:`([^`]*)`", _formula, text)
    text = _ROLE.sub(_role, text)
    text = re.sub(r"\[`([^`\]]+)`\](\([^)]*\))?", lambda match: _last_part(match[1]), text)
    text = re.sub(r"\[([^\]`]+)\]\((?:https?:|\.|/|#)[^)]*\)", r"\1", text)
    text = re.sub(r"`\"?([^`<]+?)\"?\s*<[^>`]+>`__?", r"\1", text)
    text = re.sub(r"``([^`]+)``", r"\1", text)
    text = re.sub(r"`([^`]+)`__?(?!\w)", r"\1", text)
    text = re.sub(r"`([^`]+)`", lambda match: _last_part(match[1]), text)
    text = re.sub(r"(?<![\w*])\*\*([^*\s](?:[^*]*[^*\s])?)\*\*(?![\w*])", r"\1", text)
    text = re.sub(r"(?<![\w*/])\*([^*\s](?:[^*]*[^*\s])?)\*(?![\w*])", r"\1", text)
    text = (
        text.replace("\\ ", "")
        .replace("\\*", "*")
        .replace("\\_", "_")
        .replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        .replace(" -- ", " - ")
    )
    text = re.sub(r"\s*\(\s*default(s to)?[:=]?[^()]*(\([^()]*\))?[^()]*\)", "", text, flags=re.IGNORECASE)
    text = re.sub(r"\s*\(functional name: [^)]*\)|\N{HUGGING FACE} ", "", text)
    text = re.sub(r"^\((\w+, )?optional\)\s*", "", text)
    return re.sub(r"\s+([.,;:!?])(?=\s|$)", r"\1", text).replace("..", ".").strip() if "..." not in text else text


def plain_sentences(markup: str, *, limit: int = 3, max_chars: int = 420) -> list[str]:
    """Returns the leading plain sentences of a text, none if it does not begin with one.

    Pointers elsewhere ("See the User Guide") are left out. The rest ends at the first list, formula, example or
    sentence with markup that is not understood, for what comes after may lean on it.

    Args:
        markup: Paragraphs of a documentation string.
        limit: Number of sentences at most.
        max_chars: Number of characters at most, all sentences together; the first is given if it fits alone.

    Example:
        >>> plain_sentences("Fits ``x``. See the docs for more.\\n\\n    >>> fit(1)")
        ['Fits x.']
    """
    sentences: list[str] = []
    for paragraph in re.split(r"\n\s*\n", textwrap.dedent(markup).strip("\n")):
        if _SKIPPED_PARAGRAPH.match(paragraph):
            continue
        if _LAST_PARAGRAPH.match(paragraph) or paragraph.startswith("    "):
            return sentences
        listed = _BULLET_LINE.search(paragraph)
        for sentence in _sentences(plain_text(paragraph[: listed.start()] if listed else paragraph)):
            if _SKIPPED_SENTENCE.search(sentence) or " " not in sentence:
                if sentence.endswith(":"):
                    return sentences
                continue
            whole = sentence[0].upper() + sentence[1:] if not _IDENTIFIER.match(sentence) else sentence
            whole = whole if whole[-1] in ".!?" else f"{whole.rstrip(',;')}."
            total = sum(map(len, sentences)) + len(sentences) + len(whole)
            if not _is_plain(sentence) or total > max_chars or len(sentences) == limit:
                return sentences
            sentences.append(whole)
        if listed:
            return sentences
    return sentences


def _sentences(text: str) -> list[str]:
    parts: list[str] = []
    for part in _BOUNDARY.split(text):
        if parts and _ABBREVIATIONS.search(parts[-1]):
            parts[-1] += f" {part}"
        elif part:
            parts.append(part)
    return parts


def _is_plain(sentence: str) -> bool:
    return (
        not _MARKUP.search(sentence)
        and not sentence.endswith(":")
        and sentence.count("(") == sentence.count(")")
        and sentence.count("{") == sentence.count("}")
        and sentence.count("[") == sentence.count("]")
        and sentence.count('"') % 2 == 0
        and (sentence[0].isalnum() or sentence[0] in "\"'(")
        and len(sentence) <= 320
        and sum(c.isalpha() or c == " " for c in sentence) >= 0.8 * len(sentence)
    )


def _formula(match: re.Match[str]) -> str:
    """Keeps a formula that reads as text (``n``, ``(0, 1)``), marks any other."""
    formula = match[1].strip()
    return formula if re.fullmatch(r"[\w\s,.()\[\]+-]*", formula) and "_" not in formula else "\0"


def _role(match: re.Match[str]) -> str:
    titled = re.match(r"(.+?)\s*<[^>]*>$", match[1])
    return titled[1] if titled else _last_part(match[1].lstrip("!"))


def _last_part(name: str) -> str:
    return name.rpartition(".")[2].lstrip("~") if name.startswith("~") else name
