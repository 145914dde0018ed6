"""The page, in a real browser: asked by keys, drawn, read by screen readers, and safe from what is in texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from browser import CHROMIUM, Browser, browsing
from served import served, small_run

from cellgraph.answering import AnswerBank, FinishedRun, Session
from cellgraph.serving.app import create_app
from cellgraph.serving.limits import Limits
from cellgraph.serving.respondent import Respondent
from cellgraph.teacher import EmbeddingCache

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")

HOSTILE = "<img src=x onerror=\"console.log('ran')\"><b>bold</b>"
QUESTION = "Where does the otter of the river sleep?"


def session_of(folder: Path, *more: str) -> Session:
    run = FinishedRun.load(folder, EmbeddingCache(folder / "cache"))
    bank = run.bank()
    confidence = run.confidence(bank)
    if more:
        bank = AnswerBank([*bank.texts, *more], torch.cat([bank.raw, run.embed(list(more))]))
    return Session(run.model, run.teacher, bank, confidence, top=len(bank))


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Servers of a network with memory, with a hostile answer among the others, and of one without."""
    place = tmp_path_factory.mktemp("runs")
    limits = Limits(chars=200)
    memory = session_of(small_run(place / "memory", memory=2), HOSTILE)
    plain = session_of(small_run(place / "plain"))
    with (
        served(create_app(Respondent(memory, limits), hosts=["127.0.0.1"])) as first,
        served(create_app(Respondent(replace(plain, top=3), replace(limits, batch=1)))) as second,
    ):
        yield {"memory": first, "plain": second}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as it:
        yield it


@pytest.fixture
def browser(running: Browser) -> Browser:
    running.size(1280)
    running.said.clear()
    return running


def ask(browser: Browser, question: str) -> None:
    """By the keyboard alone: the field has the focus."""
    browser.wait("document.activeElement.id === 'question' && about !== null")
    browser.value("document.activeElement.value = ''; cube = null")
    browser.write(question)
    browser.press("Enter")
    browser.wait("cube !== null && !busy")


def test_a_question_is_asked_and_answered_by_the_keyboard(ports: dict[str, int], browser: Browser) -> None:
    browser.open(f"http://127.0.0.1:{ports['plain']}/")
    assert browser.value("document.getElementById('answer').hidden && document.getElementById('cube').hidden")
    ask(browser, QUESTION)
    told = browser.value(
        f"fetch('ask', {{method: 'POST', headers: {{'Content-Type': 'application/json'}}, "
        f"body: JSON.stringify({{question: '{QUESTION}'}})}}).then((reply) => reply.json())"
    )
    shown = browser.value("[...document.querySelectorAll('#nearest li')].map((item) => item.lastChild.textContent)")
    assert shown == [answer["text"] for answer in told["answers"]]
    assert len(shown) == 3
    said = browser.value("document.getElementById('said').textContent")
    assert said.startswith(told["answers"][0]["text"] if told["known"] else "I do not know")
    assert f"{100 * told['confidence']:.0f}%" in said
    assert browser.value("document.getElementById('dialogue').hidden")
    assert browser.said == []


def test_the_cells_are_drawn_step_by_step_as_they_are(ports: dict[str, int], browser: Browser) -> None:
    browser.still()
    browser.open(f"http://127.0.0.1:{ports['plain']}/")
    ask(browser, QUESTION)
    # Every square has the colour of its value, for each step, on either scale.
    pixel = """((layer, row, column) => {
        const canvas = at('layers'), width = canvas.clientWidth, wide = Math.max(150, 40 * 3);
        const [x, y] = [layer * (wide + 14) + column * 40 + 20, 18 + row * 40 + 20];
        return [...canvas.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3).join();
    })"""
    wanted = """((layer, row, column, step, scale) => {
        const shown = scale === 'all' ? cube.steps.flat() : cube.steps[step];
        const [least, most] = [Math.min(...shown), Math.max(...shown)];
        const share = (cube.steps[step][layer * 9 + row * 3 + column] - least) / (most - least);
        return colour(share).slice(4, -1);
    })"""
    seen = set()
    for scale in ("all", "step"):
        browser.value(f"at('scale').value = '{scale}'; at('scale').dispatchEvent(new Event('change'))")
        browser.value("at('step').focus()")
        for _ in range(4):
            browser.press("ArrowLeft")
        for step in range(4):
            assert browser.value("at('step').value") == str(step)
            for layer, row, column in ((0, 0, 0), (1, 1, 1), (1, 2, 0), (2, 0, 2)):
                found = browser.value(f"{pixel}({layer}, {row}, {column})")
                assert found == browser.value(f"{wanted}({layer}, {row}, {column}, {step}, '{scale}')")
                seen.add(found)
            browser.press("ArrowRight")
    assert len(seen) > 10
    # The question has reached no cell but its layer before the first step.
    rows = browser.value(
        "[...document.querySelectorAll('#means tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    assert len(rows) == 4
    assert float(rows[0][1]) > 0
    assert [float(value) for value in rows[0][2:4]] == [0.0, 0.0]
    assert browser.said == []


def test_it_plays_and_pauses(ports: dict[str, int], browser: Browser) -> None:
    browser.still()
    browser.open(f"http://127.0.0.1:{ports['plain']}/")
    ask(browser, QUESTION)
    # Who wants nothing to move sees the last step.
    assert browser.value("at('step').value") == "3"
    browser.value("at('play').focus()")
    browser.press(" ")
    assert browser.value("at('play').textContent") == "Pause"
    browser.press(" ")
    assert browser.value("at('play').textContent") == "Play"
    assert browser.value("at('step').value") in "012"
    browser.press(" ")
    browser.wait("at('step').value === '3' && at('play').textContent === 'Play'")


def test_what_is_in_texts_is_shown_and_never_run(ports: dict[str, int], browser: Browser) -> None:
    browser.open(f"http://127.0.0.1:{ports['memory']}/")
    ask(browser, HOSTILE)
    shown = browser.value("document.getElementById('nearest').textContent")
    assert HOSTILE in shown
    assert HOSTILE in browser.value("document.getElementById('turns').textContent")
    assert browser.value("document.querySelectorAll('main img, main b').length") == 0
    assert browser.said == []
    # A script that got in would not run either.
    browser.value("document.body.insertAdjacentHTML('beforeend', `<img src=x onerror=\"console.log('ran')\">`)")
    browser.value("new Promise((done) => setTimeout(done, 200))")
    assert browser.said
    assert all("Content Security Policy" in line for line in browser.said)


def test_a_dialogue_is_carried_on_and_forgotten(ports: dict[str, int], browser: Browser) -> None:
    browser.open(f"http://127.0.0.1:{ports['memory']}/")
    scores = "document.getElementById('nearest').textContent"
    ask(browser, QUESTION)
    first = browser.value(scores)
    ask(browser, QUESTION)
    assert browser.value(scores) != first
    turns = "[...document.querySelectorAll('#turns li')].map((item) => item.textContent)"
    assert browser.value(turns) == [QUESTION, QUESTION]
    browser.value("at('forget').focus()")
    browser.press(" ")
    assert browser.value("document.getElementById('dialogue').hidden")
    ask(browser, QUESTION)
    assert browser.value(scores) == first
    assert browser.said == []


def test_turns_that_are_heard_no_more_are_told(ports: dict[str, int], browser: Browser) -> None:
    browser.open(f"http://127.0.0.1:{ports['memory']}/")
    browser.wait("about !== null")
    assert browser.value("about.limits.turns") == 32
    browser.value("about.limits.turns = 2")
    for hidden in (True, True, False):
        ask(browser, QUESTION)
        assert browser.value("at('unheard').hidden") == hidden
    assert browser.value("at('unheard').textContent").startswith("The next question hears the last 2 of these")
    browser.value("at('forget').click()")
    assert browser.value("at('unheard').hidden")
    assert browser.said == []


def test_what_is_forgotten_while_it_is_answered_stays_so(ports: dict[str, int], browser: Browser) -> None:
    browser.open(f"http://127.0.0.1:{ports['memory']}/")
    scores = "document.getElementById('nearest').textContent"
    ask(browser, QUESTION)
    first = browser.value(scores)
    # The next answer is held back until the turns have been forgotten.
    browser.value(
        "window.held = []; window.real = window.fetch; cube = null; "
        "window.fetch = (...given) => new Promise((go) => held.push(go)).then(() => real(...given)); 0"
    )
    browser.press("Enter")
    browser.wait("held.length === 1")
    browser.value("at('forget').click()")
    browser.value("window.fetch = real; held.forEach((go) => go())")
    browser.wait("cube !== null && !busy")
    assert browser.value(scores) != first
    assert browser.value("at('dialogue').hidden")
    browser.value("at('question').focus()")
    ask(browser, QUESTION)
    assert browser.value(scores) == first
    assert browser.said == []


@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_runs_over_the_edge_of_a_screen(ports: dict[str, int], browser: Browser, width: int) -> None:
    browser.size(width)
    browser.open(f"http://127.0.0.1:{ports['memory']}/")
    ask(browser, "w" * 190)
    browser.value("[...document.querySelectorAll('details')].forEach((each) => { each.open = true; })")
    assert browser.value("document.documentElement.scrollWidth") <= width
    beyond = browser.value(
        "[...document.querySelectorAll('section, p, li, input, button, select, canvas, .scroll')]"
        f".filter((each) => each.getBoundingClientRect().right > {width}).map((each) => each.outerHTML)"
    )
    assert beyond == []
    assert browser.value("at('layers').clientHeight") > 100
    assert browser.said == []


def test_a_screen_reader_finds_names_for_all_that_can_be_used(ports: dict[str, int], browser: Browser) -> None:
    browser.still()
    browser.open(f"http://127.0.0.1:{ports['memory']}/")
    ask(browser, QUESTION)
    roles = browser.roles()
    for wanted in (
        ("textbox", "Your question"),
        ("button", "Ask"),
        ("button", "Forget all turns"),
        ("button", "Play"),
        ("combobox", "Colours"),
        ("heading", "The cube at work"),
        ("list", "Nearest answers"),
    ):
        assert wanted in roles, roles
    assert any(role == "slider" and name.startswith("Step") for role, name in roles)
    assert any(role == "image" and "the most active of 3 layers" in name for role, name in roles)
    assert not [
        role for role, name in roles if role in ("button", "textbox", "combobox", "slider", "image") and not name
    ]
    # What came is told, and the page says which language it is in.
    assert browser.value("document.getElementById('heard').getAttribute('aria-live')") == "polite"
    assert "confidence" in browser.value("document.getElementById('heard').textContent")
    assert browser.value("document.documentElement.lang") == "en"


def test_what_was_refused_is_said(ports: dict[str, int], browser: Browser) -> None:
    browser.open(f"http://127.0.0.1:{ports['plain']}/")
    browser.wait("about !== null")
    browser.value("at('question').removeAttribute('maxlength')")
    browser.write("x" * 201)
    browser.press("Enter")
    browser.wait("at('status').classList.contains('wrong') && !busy")
    assert browser.value("at('status').textContent") == "Refused: expected at most 200 characters, got 201"
