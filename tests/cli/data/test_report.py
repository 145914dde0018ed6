"""``cellgraph data report`` as a user runs it, and its page in a browser at two widths."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from processes import run_inside

from cellgraph.data import save_pairs, starter_pairs

pytest.importorskip("textstat")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two reports: of one set, and of two side by side."""
    folder = tmp_path_factory.mktemp("report")
    pairs = starter_pairs()
    save_pairs(folder / "half <b>.jsonl", pairs[::2])
    save_pairs(folder / "some.jsonl", pairs[1:200:2])
    with (folder / "some.jsonl").open("a") as file:
        file.write('{"question": "Nobody answers?", "answer": ""}\n')
    for names in (["some.jsonl"], ["half <b>.jsonl", "some.jsonl"]):
        done = run_inside(folder, "data", "report", *names, "--out", f"{len(names)}")
        assert done.returncode == 0, done.stderr
        (folder / f"{len(names)}.txt").write_text(done.stdout)
    return folder


def test_the_table_and_the_figures_agree(folder: Path) -> None:
    printed, figures = (folder / "2.txt").read_text(), json.loads((folder / "2" / "report.json").read_text())
    assert "some.jsonl: 1 of 101 rows hold no pair and are left out, the first being row 101" in printed
    assert [each["name"] for each in figures["sets"]] == ["half <b>", "some"]
    for each in figures["sets"]:
        assert f"{each['diversity']['questions']['vendi']:.1f}" in printed
        assert each["diversity"]["equal_pairs"] == 100
        assert 1 < each["diversity"]["questions"]["vendi_of_equal_pairs"] < 100
        assert sum(each["questions"]["types"].values()) == pytest.approx(1)
    # Every other pair of a set sorted by category, and of its beginning alone.
    assert [each["balance"]["category"]["domains"] for each in figures["sets"]] == [5, 2]
    assert len({each["answers"]["of_words"] for each in figures["sets"]}) == 1


def test_the_page_is_whole_and_asks_for_nothing(folder: Path) -> None:
    for number, own in (("1", 9), ("2", 9)):
        page = (folder / number / "report.html").read_text()
        assert page.count("data:image/png;base64,") == own == len(list((folder / number).glob("*.png")))
        assert not re.search(r"(?:src|href)=[\"'](?!data:|#)", page)
        assert "http" not in re.sub(r"base64,[^\"]+|http-equiv", "", page)
    assert "half &lt;b&gt;" in page
    assert "half <b>" not in page


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium to open the page in")
@pytest.mark.parametrize("width", [375, 1280])
@pytest.mark.parametrize("number", [1, 2])
def test_nothing_runs_over_the_edge_of_a_screen(folder: Path, tmp_path: Path, width: int, number: int) -> None:
    # A window cannot be as narrow as a telephone, a frame can.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe id="f" src="{(folder / str(number) / "report.html").as_uri()}" style="width:{width}px;height:900px">'
        "</iframe><p id=out></p><script>onload = () => { const d = document.getElementById('f').contentDocument;"
        "const wide = [...d.querySelectorAll('section, img, h1, p, nav')].map(e => e.getBoundingClientRect().right);"
        "document.getElementById('out').textContent = `${d.documentElement.scrollWidth} ${Math.max(...wide)} "
        "${d.images.length} ${[...d.images].filter(i => i.naturalWidth).length}`; }</script>"
    )
    done = subprocess.run(
        [
            str(BROWSER),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-web-security",
            "--allow-file-access-from-files",
            "--enable-logging=stderr",
            "--window-size=1400,1000",
            "--virtual-time-budget=5000",
            f"--user-data-dir={tmp_path / 'browser'}",
            "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = re.search(r'id="out">([\d. ]+)<', done.stdout)
    assert found, done.stderr
    scrolled, rightmost, images, drawn = map(float, found[1].split())
    assert scrolled <= width
    assert rightmost <= width
    assert images == drawn == 9
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.jsonl"], "No such file or directory: 'none.jsonl'"),
        (["some.jsonl", "none.jsonl"], "No such file or directory: 'none.jsonl'"),
        (["some.jsonl", "--question", "q"], "some.jsonl: no column 'q' for the question"),
        (["some.txt"], "some.txt: cannot read files ending in '.txt'"),
        (["some.jsonl", "--out", "some.jsonl/in"], "cannot write the report in some.jsonl/in"),
        (["some.jsonl", "--teacher", "nobody"], "nobody"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder: Path, arguments: list[str], said: str) -> None:
    (folder / "some.txt").touch()
    done = run_inside(folder, "data", "report", *arguments)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("cellgraph data: ")
    assert said in line
    # What was measured is shown, whether or not the page can be written.
    assert ("effective number of questions" in done.stdout) == said.startswith("cannot write")
