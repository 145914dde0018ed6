"""The recipes of CONTRIBUTING.md, as they stand there, each in an empty folder with the package that is installed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from processes import environment, run_inside

CONTRIBUTING = Path(__file__).parents[1] / "CONTRIBUTING.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def sections() -> dict[str, list[tuple[str, str]]]:
    """The code of each section by its title: the language and the text of its blocks."""
    _, *parts = re.split(r"^##+ (.+)$", CONTRIBUTING.read_text(), flags=re.MULTILINE)
    return {title: BLOCK.findall(text) for title, text in zip(parts[::2], parts[1::2], strict=True)}


RECIPES = ("A cell", "A teacher", "An objective term", "A task")


def write(folder: Path, text: str) -> None:
    """A block that says in a comment which file it is."""
    name = re.search(r"^# (\S+\.\w+)$", text, re.MULTILINE)
    assert name is not None, text
    path = folder / name[1]
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def in_a_shell(commands: str, place: Path, variables: dict[str, str]) -> None:
    """Commands as they are typed; of one recipe, as each of them takes seconds to import what the tests have here."""
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), variables["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=place,
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_there_are_four_recipes_each_with_a_part_and_a_command() -> None:
    found = sections()
    for recipe in RECIPES:
        assert [language for language, _ in found[recipe]] == ["python", "bash"], recipe
        assert "_target_=my_" in found[recipe][1][1], recipe
    assert all(recipe in RECIPES for recipe, blocks in found.items() if any(kind == "python" for kind, _ in blocks))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_in_an_empty_folder(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = sections()
    place = tmp_path / "empty"
    place.mkdir()
    shared = [text for kind, text in found["Parts of your own"] if kind == "yaml"]
    (_, part), (_, commands) = found[recipe]
    for text in (*shared, part):
        write(place, text)
    if recipe == RECIPES[0]:
        in_a_shell(commands, place, environment(tmp_path))
    else:
        monkeypatch.setattr(sys, "path", [*sys.path])
        for line in commands.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line)
            assert program == "cellgraph"
            done = run_inside(place, *arguments)
            assert done.returncode == 0, done.stderr
    assert (place / "run" / "evaluation.json").stat().st_size > 0
    if recipe == "An objective term":
        assert "train/distance" in (place / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
