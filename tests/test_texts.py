"""Texts against the definitions of Unicode and CommonMark, character by character."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellgraph.texts import escaped_markdown, marks, one_line, printable, well_formed, words

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


@given(
    st.text(
        st.one_of(st.sampled_from("abé_1 -क\u093fक\u094dा\u0301\u0e31\ufe0f❤\n日"), st.characters(codec="utf-8")),
        max_size=30,
    )
)
@settings(deadline=None)
def test_words_are_runs_of_letters_digits_and_their_marks(text: str) -> None:
    expected, word = [], ""
    for c in text:
        mark = unicodedata.category(c).startswith("M") and not (0xFE00 <= ord(c) <= 0xFE0F or ord(c) >= 0xE0100)
        if c.isalnum() or c == "_" or (mark and word):
            word += c
            continue
        expected, word = [*expected, word], ""
    expected = [word for word in [*expected, word] if word]
    assert words(text) == expected
    assert words(text, single=False) == [word for word in expected if len(word) > 1]


def test_all_marks_are_known() -> None:
    # Whatever Unicode has of them now, but for selectors of variants.
    every = {chr(code) for code in range(0x110000) if unicodedata.category(chr(code)).startswith("M")}
    selectors = {*map(chr, range(0xFE00, 0xFE10)), *map(chr, range(0xE0100, 0xE01F0))}
    assert set(marks()) == every - selectors
