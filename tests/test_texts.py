"""Texts against the definitions of Unicode and CommonMark, character by character."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgraph.texts import escaped_markdown, one_line, printable, well_formed

anything = st.text(st.characters(exclude_categories=()))


def halves(text: str) -> str:
    """The text with every half of a character that has no other half replaced, after ECMA-262's toWellFormed."""
    result, index = "", 0
    while index < len(text):
        first, second = ord(text[index]), ord(text[index + 1]) if index + 1 < len(text) else 0
        if 0xD800 <= first < 0xDC00 <= second < 0xE000:
            result += chr(0x10000 + (first - 0xD800) * 0x400 + second - 0xDC00)
            index += 2
            continue
        result += "\ufffd" if 0xD800 <= first < 0xE000 else chr(first)
        index += 1
    return result


@given(st.one_of(anything, st.text("\ud83d\ude00a", max_size=8)))
def test_halves_of_characters_are_joined_or_replaced(text: str) -> None:
    assert well_formed(text) == halves(text)
    well_formed(text).encode()


@given(st.text(st.characters(codec="utf-8")))
def test_what_json_escapes_comes_back(text: str) -> None:
    assert well_formed(json.loads(json.dumps(text, ensure_ascii=True))) == text


@given(anything)
def test_nothing_shown_acts_on_the_terminal(text: str) -> None:
    shown = printable(text)
    assert {c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")} <= {"\n", "\t"}
    turning = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    assert not any(unicodedata.bidirectional(c) in turning for c in shown)
    assert printable(shown) == shown
    assert "\n" not in one_line(text)


def test_what_is_shown_of_a_text() -> None:
    assert printable("a\r\nb\tc\rd\x1b[31me\x9b0mf") == "a\nb\tc\ufffdd\ufffd[31me\ufffd0mf"
    # Joiners make emoji and scripts, and stay.
    assert printable("\U0001f469\u200d\U0001f52c क्\u200dष") == "\U0001f469\u200d\U0001f52c क्\u200dष"
    assert one_line("a\n\n  b\u2028c") == "a b c"
    assert one_line("abcdef", 6) == "abcdef"
    assert one_line("abcdefg", 6) == "abcde…"


@pytest.mark.parametrize(
    "text", ["[a](b)", "<b>", "**x**", "`x`", "a|b", "# a", "~~a~~", "&lt;", "$x$", "a\\b", "__a__"]
)
def test_no_markup_is_left(text: str) -> None:
    html = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable(["table", "strikethrough"])
    rendered = html.render(f"- **{escaped_markdown(text)}**")
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert rendered == f"<ul>\n<li><strong>{escaped}</strong></li>\n</ul>\n"
