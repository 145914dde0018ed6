"""The sections of a documentation string, in NumPy's or Google's style.

griffe's parsers want to be told the style and keep to it; the documentation here mixes both, and repeats signatures in
the first lines. Of 10,806 documentation strings they read the parameters of one in twelve otherwise, and the summaries
of one in seven: the default set would be another.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Sections", "parse_sections"]

#: Heading -> the section it opens. Headings that are not listed open a section that is dropped.
_HEADINGS = {
    **dict.fromkeys(("parameters", "other parameters", "args", "arguments", "keyword args", "keyword arguments"), "in"),
    **dict.fromkeys(("returns", "return", "yields"), "out"),
    "raises": "raises",
    "attributes": "attributes",
    **dict.fromkeys(("notes", "note"), "notes"),
}
_OTHER_HEADINGS = {
    *("example", "examples", "usage", "shape", "shapes", "inputs", "outputs", "references", "see also", "warning"),
    *("warnings", "warns", "methods", "supports", "receives", "shape information", "usage example", "backward note"),
}
_UNDERLINE = re.compile(r"^\s*([-=~])\1{2,}\s*$")
_GOOGLE = re.compile(r"^(?P<name>[A-Z][\w ]{2,25}?):{1,2}\s*$")
_GOOGLE_ENTRY = re.compile(r"^(?P<name>\*{0,2}\w+)\s*(?:\((?:[^()]|\([^()]*\))*\))?\s*:\s+(?P<text>.*)$")
_GOOGLE_BARE_ENTRY = re.compile(r"^(?P<name>\*{0,2}\w+)\s*(?:\((?:[^()]|\([^()]*\))*\))?\s*:\s*$")
_RETURN_TYPE = re.compile(r"^(?:`[^`]+`|[A-Za-z][\w.]*(?:\[[^\]]*\])?)(?:(?: of shape|,| or) [^:\n]*)?:\s+")
_NUMPY_ENTRY = re.compile(r"^(?P<name>\*{0,2}[\w.]+)(?:\s*:.*)?$")
_SIGNATURE = re.compile(r"^[\w.]+\s*\(.*\)\s*(->.*|[-=]+>.*)?$", re.DOTALL)


@dataclass(slots=True)
class Sections:
    """A documentation string in its parts, each still in the markup it was written in.

    Args:
        summary: The first paragraph.
        description: The paragraphs after it, up to the first heading.
        parameters: Name and description of each parameter.
        returns: Name (or type) and description of what is returned; one entry with an empty name for plain text.
        raises: Name and description of the exceptions.
        attributes: Name and description of the attributes.
        notes: The text of the notes.
    """

    summary: str = ""
    description: str = ""
    parameters: list[tuple[str, str]] = field(default_factory=list)
    returns: list[tuple[str, str]] = field(default_factory=list)
    raises: list[tuple[str, str]] = field(default_factory=list)
    attributes: list[tuple[str, str]] = field(default_factory=list)
    notes: str = ""


def parse_sections(doc: str) -> Sections:
    """Parses a documentation string; a repeated signature in its first lines is left out.

    Args:
        doc: The text, indentation removed.

    Example:
        >>> parse_sections("Adds.\\n\\nSlowly.\\n\\nArgs:\\n    x: The number.").parameters
        [('x', 'The number.')]
    """
    sections = Sections()
    for heading, body, numpy_style in _split(doc):
        if heading is None:
            paragraphs = [part for part in re.split(r"\n\s*\n", body) if part.strip()]
            while paragraphs and _SIGNATURE.match(paragraphs[0].strip()):
                paragraphs.pop(0)
            sections.summary = paragraphs[0] if paragraphs else ""
            sections.description = "\n\n".join(paragraphs[1:])
            continue
        text = textwrap.dedent(body)
        kind = _HEADINGS.get(heading)
        if kind == "in":
            sections.parameters += _entries(text, numpy_style)
        elif kind == "out":
            sections.returns += _entries(text, True) if numpy_style else [("", _RETURN_TYPE.sub("", text.strip()))]
        elif kind == "raises":
            sections.raises += _entries(text, numpy_style)
        elif kind == "attributes":
            sections.attributes += _entries(text, numpy_style)
        elif kind == "notes":
            sections.notes = sections.notes or text
    return sections


def _split(doc: str) -> Iterator[tuple[str | None, str, bool]]:
    """Yields heading, text and whether the heading is underlined, of each section, the first without a heading."""
    lines = doc.expandtabs().splitlines()
    heading: str | None = None
    style = False
    body: list[str] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        below = lines[index + 1] if index + 1 < len(lines) else ""
        google = _GOOGLE.match(line)
        if line.strip() and not line.startswith(" ") and _UNDERLINE.match(below):
            yield heading, "\n".join(body), style
            heading, style, body = line.strip().lower(), True, []
            index += 2
            continue
        if google and google["name"].lower() in _HEADINGS.keys() | _OTHER_HEADINGS:
            yield heading, "\n".join(body), style
            heading, style, body = google["name"].lower(), False, []
        elif heading is not None and not style and line.strip() and not line.startswith(" "):
            # Text at the margin after a section in Google's style belongs to no section.
            yield heading, "\n".join(body), style
            heading, body = "after", []
        else:
            body.append(line)
        index += 1
    yield heading, "\n".join(body), style


def _entries(text: str, numpy_style: bool) -> list[tuple[str, str]]:
    """Splits the text of a section into its entries: a name at the margin and the indented lines below it."""
    entries: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.strip() and not line.startswith(" "):
            match = (
                _NUMPY_ENTRY.match(line) if numpy_style else _GOOGLE_ENTRY.match(line) or _GOOGLE_BARE_ENTRY.match(line)
            )
            # A line that opens no entry ("x, y : arrays") closes the one before it all the same.
            rest = match.groupdict().get("text") or "" if match else ""
            entries.append((match["name"] if match else "", [rest] if rest else []))
        elif entries:
            entries[-1][1].append(line)
    found = []
    for name, lines in entries:
        first, rest = lines[:1], textwrap.dedent("\n".join(lines[1:]))
        joined = "\n".join([*(line.strip() for line in first), rest]).strip()
        if name and joined:
            found.append((name, joined))
    return found
