"""Every block of code in the README and the documentation does what it says, or is marked as output.

Python runs, the blocks of a page one after the other in one namespace and an empty folder. Commands are taken apart as
the command line would: their verbs, options, settings and files must be there. YAML is read, and a file if it is named.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import importlib
import itertools
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from few import few_updates
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from cellgraph.cli import VERBS
from cellgraph.cli.own_parts import opened

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))])
#: What a block may be; what is only read by people is text.
LANGUAGES = {"python", "bash", "yaml", "text"}
#: Pages whose blocks take longest.
LONG = {"elsewhere.md"}
FENCE = re.compile(r"^ *(```+)(.*)$", re.MULTILINE)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.name in LONG else [], id=page.name)
        for page in PAGES
        if page.exists()
    ],
)
def test_the_blocks_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CELLGRAPH_CACHE", str(tmp_path / "cache"))
    if page.name == "README.md":
        # What it says trains a cube; the other pages' settings are small as they stand there.
        few_updates(monkeypatch, 20)
    document = BLOCKS.parse(page)
    # Classes name the module that they are from.
    document.namespace["__name__"] = page.stem
    for example in document.examples():
        example.evaluate()


@pytest.mark.parametrize("page", [page for page in PAGES if page.exists()], ids=lambda page: page.name)
def test_every_block_says_what_it_is(page: Path) -> None:
    fences = FENCE.findall(page.read_text())
    opened = [language.strip() for number, (_, language) in enumerate(fences) if number % 2 == 0]
    assert len(fences) % 2 == 0
    directives = {language for language in opened if language.startswith("{")}
    assert set(opened) - directives <= LANGUAGES


@pytest.mark.parametrize(
    "command",
    [
        "cellgraph tarin",
        "cellgraph train training.rate=1",
        "cellgraph train lattice=huge",
        "cellgraph train --no-such-flag",
        "cellgraph ask RUN --no-such-option",
        "cellgraph export",
        "make no-such-target",
        "python examples/no_such_file.py",
        "pip install cellgraph[no_such_extra]",
        "no-such-program",
        "torchrun --nproc-per-node 2 -m cellgraph train lattice=huge",
        "torchrun --nproc-per-node 2 -m no_such_module",
    ],
)
def test_a_command_that_cannot_be_is_found(command: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        check_command(command)


def run_commands(example: Example) -> None:
    """Take the commands of a block apart."""
    for line in example.parsed.replace("\\\n", " ").splitlines():
        # Of a loop, what is in it.
        if line.strip() and not line.startswith(("#", "for ", "done")):
            check_command(line.strip())


def check_command(line: str) -> None:
    """Refuse a command that would be."""
    words = shlex.split(line, comments=True)
    if "&&" in words:
        cut = words.index("&&")
        check_command(shlex.join(words[:cut]))
        check_command(shlex.join(words[cut + 1 :]))
        return
    # What is set for the command alone stands before it.
    program, *arguments = itertools.dropwhile(lambda word: re.match(r"[A-Z_]+=", word), words)
    if program == "make":
        variables = [argument for argument in arguments if "=" in argument]
        for target in arguments:
            assert target in variables or re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program in ("pip", "python") and arguments[0] in ("-m", "install"):
        check_module(arguments[1]) if arguments[0] == "-m" else check_packages(arguments[1:])
    elif program == "python":
        assert (ROOT / arguments[0]).is_file()
    elif program in ("git", "tox", "uv"):
        pass
    elif program == "torchrun":
        program, *arguments = arguments[arguments.index("-m") + 1 :]
        assert program == "cellgraph"
        check_verb(*arguments)
    elif program == "cellgraph":
        check_verb(*arguments)
    elif program == "torchrun":
        place = arguments.index("-m")
        assert arguments[place + 1] == "cellgraph"
        check_verb(*arguments[place + 2 :])
    else:
        raise AssertionError(f"expected a known program, got {program}")


def check_module(name: str) -> None:
    """Refuse a module that cannot be run."""
    assert hasattr(importlib.import_module(name), "main")


def check_packages(requirements: list[str]) -> None:
    """Refuse extras that are none."""
    parts = configparser.ConfigParser()
    parts.read(ROOT / "setup.cfg")
    for requirement in requirements:
        for extra in re.findall(r"\[(.*)\]", requirement):
            assert set(extra.split(",")) <= set(parts["options.extras_require"])


def check_verb(verb: str, *arguments: str) -> None:
    """Refuse settings and options that do not exist."""
    if verb in ("train", "automaton"):
        check_settings(verb, *arguments)
    elif verb != "--help":
        assert verb in VERBS
        with parsed_only(), pytest.raises(Parsed):
            importlib.import_module(f"cellgraph.cli.{verb.replace('-', '_')}").main(arguments)


def check_settings(verb: str, *arguments: str) -> None:
    """Refuse settings that do not compose, each value of a sweep by itself."""
    given, search = [], []
    words = iter(arguments)
    for word in words:
        if word == "--config-dir":
            search = [f"hydra.searchpath=[file://{Path(next(words)).resolve()}]"]
        elif word not in ("-m", "--multirun", "--help"):
            assert not word.startswith("-"), word
            given.append(word)
    given = opened(given)
    automaton = verb == "automaton" or any(word.lstrip("+").startswith(("task=", "task.")) for word in given)
    kind = ["kind=automaton"] if automaton and not any(word.startswith("resume=") for word in given) else []
    sweep = [override for override in OverridesParser.create().parse_overrides(given) if override.is_sweep_override()]
    plain = [word for word in given if word not in {override.input_line for override in sweep}]
    choices = [[f"{each.get_key_element()}={value}" for value in each.sweep_string_iterator()] for each in sweep]
    with initialize_config_module("cellgraph.conf", version_base="1.3"):
        for words in zip(*choices, strict=False) if choices else [()]:
            compose("train", [*search, *kind, *plain, *words], return_hydra_config=True)
        for word in (word for values in choices for word in values):
            compose("train", [*search, *kind, *plain, word], return_hydra_config=True)


class Parsed(Exception):  # noqa: N818 - no error
    """The options of a verb are as it takes them."""


@contextlib.contextmanager
def parsed_only() -> Iterator[None]:
    """Stop a verb where it has read its options."""

    def stopping(parse: Callable[..., object]) -> Callable[..., None]:
        def stop(*arguments: object) -> None:
            parse(*arguments)
            raise Parsed

        return stop

    with pytest.MonkeyPatch.context() as patch:
        for name in ("parse_args", "parse_intermixed_args"):
            patch.setattr(argparse.ArgumentParser, name, stopping(getattr(argparse.ArgumentParser, name)))
        yield


def read_yaml(example: Example) -> None:
    """Read a block of YAML, and write it where a comment in it says that it is kept."""
    assert yaml.safe_load(example.parsed) is not None
    named = re.search(r"^# (\S+\.ya?ml)$", example.parsed, re.MULTILINE)
    if named:
        Path(named[1]).parent.mkdir(parents=True, exist_ok=True)
        Path(named[1]).write_text(example.parsed)


BLOCKS = Sybil(
    parsers=[
        PythonCodeBlockParser(),
        CodeBlockParser("bash", run_commands),
        CodeBlockParser("yaml", read_yaml),
        SkipParser(),
    ],
)
