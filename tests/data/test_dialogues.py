from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from cellgraph.data import QAPair, read_pairs

DATA = Path(os.environ.get("CELLGRAPH_DATA", Path(__file__).parents[3] / "shared" / "data"))


def message(path: Path) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        read_pairs(path)
    found = str(caught.value)
    assert "\n" not in found
    assert path.name in found
    return found


def test_dialogues(tmp_path: Path) -> None:
    file = tmp_path / "talk.yml"
    file.write_text(
        "categories:\n- small talk\n- weather\nconversations:\n"
        "- - Is it raining?\n  - yes\n  - Since when?\n  - 12\n"
        "- Alone\n- - One turn\n"
        "- - Nested\n  - - like\n    - this\n"
        "- - What now?\n  - Note: it is hot\n",
        encoding="utf-8",
    )
    category = "small talk, weather"
    assert read_pairs(file) == [
        QAPair("Is it raining?", "yes", category=category, dialogue="talk-0", turn=0),
        QAPair("yes", "Since when?", category=category, dialogue="talk-0", turn=1),
        QAPair("Since when?", "12", category=category, dialogue="talk-0", turn=2),
        QAPair("Nested", "like", category=category, dialogue="talk-3", turn=0),
        QAPair("like", "this", category=category, dialogue="talk-3", turn=1),
        QAPair("What now?", "Note: it is hot", category=category, dialogue="talk-4", turn=0),
    ]


def test_dialogue_folder(tmp_path: Path) -> None:
    for name, turns in (("b.yml", ["1", "2"]), ("a.yaml", ["3", "4"]), ("a.yml", ["5", "6"])):
        (tmp_path / name).write_text(yaml.safe_dump({"conversations": [turns]}), encoding="utf-8")
    (tmp_path / "README.md").write_text("no dialogue", encoding="utf-8")
    pairs = read_pairs(tmp_path)
    assert [(pair.dialogue, pair.question) for pair in pairs] == [("a-0", "3"), ("a-1", "5"), ("b-0", "1")]
    (tmp_path / "empty").mkdir()
    assert "expected a folder of .yml or .yaml dialogues, found none" in message(tmp_path / "empty")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("conversations: [\n", "line 2: invalid YAML"),
        ("- a\n- b\n", "expected a mapping with 'conversations', got list"),
        ("categories: [a]\n", "expected a mapping with 'conversations', got 'categories'"),
        ("conversations: text\n", "'conversations' must be a list, got str"),
        ("conversations:\n- - a\n  - b\n- - c\n  -\n", "conversation 2: a turn is missing or empty"),
        ("conversations:\n- - alone\n", "no question-answer pairs"),
        ("conversations:\n- - a\n  - b\n---\nconversations: []\n", "line 4: invalid YAML: expected one document"),
        (
            "conversations:\n- - a\n  - b\nconversations: []\n",
            "line 4: the key 'conversations' is there more than once",
        ),
        ("conversations:\n- - Note: a\n    Note: b\n", "line 3: the key 'Note' is there more than once"),
        ("conversations:\n- ? [a]\n  : b\n", "invalid YAML: a key must be text, got a list"),
        ("conversations:\n- " + "[" * 900 + "a" + "]" * 900, "line 2: more than 100 lists or mappings in one another"),
        ("conversations:\n- " + "[" * 99_000 + "]" * 99_000, ", line 2: "),
        ("conversations:\n- &talk [a, *talk]\n", "line 2: invalid YAML: nothing before it is called 'talk'"),
    ],
)
def test_bad_dialogues(tmp_path: Path, content: str, expected: str) -> None:
    file = tmp_path / "talk.yml"
    file.write_text(content, encoding="utf-8")
    assert expected in message(file)


def test_aliases_are_what_they_name(tmp_path: Path) -> None:
    file = tmp_path / "talk.yml"
    text = "conversations:\n- &talk [&hi Hello, *hi]\n- *talk\n- [*talk, Bye]\n"
    file.write_text(text, encoding="utf-8")
    turns = [pair for talk in yaml.safe_load(text)["conversations"][:2] for pair in pairwise(talk)]
    turns += [("Hello", "Hello"), ("Hello", "Bye")]
    assert [(pair.question, pair.answer) for pair in read_pairs(file)] == turns


@pytest.mark.parametrize("leaf", ["lol", "[]", "{k: lol}"])
def test_aliases_of_aliases_do_not_fill_the_memory(tmp_path: Path, leaf: str) -> None:
    file = tmp_path / "talk.yml"
    lines = [f"l0: &l0 [{', '.join([leaf] * 10)}]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 30)]
    file.write_text("\n".join([*lines, "conversations: [[a, b], *l29]"]), encoding="utf-8")
    assert "its aliases repeat the file more than 10 times over" in message(file)


def test_dialogues_may_be_taken_as_single_pairs(tmp_path: Path) -> None:
    file = tmp_path / "talk.yml"
    file.write_text("categories: [c]\nconversations:\n- [a, b, c]\n", encoding="utf-8")
    expected = [QAPair("a", "b", category="c"), QAPair("b", "c", category="c", turn=1)]
    assert read_pairs(file, dialogue="") == expected
    assert read_pairs(file, category="")[1] == QAPair("b", "c", dialogue="talk-0", turn=1)
    assert read_pairs(tmp_path, dialogue="", turn="", category="") == [QAPair("a", "b"), QAPair("b", "c")]


@pytest.mark.skipif(not (DATA / "chatterbot").is_dir(), reason="needs the ChatterBot dialogues in CELLGRAPH_DATA")
def test_chatterbot_dialogues() -> None:
    folder = DATA / "chatterbot"
    pairs = read_pairs(folder)
    expected = 0
    for file in folder.glob("*.yml"):
        conversations = yaml.safe_load(file.read_text(encoding="utf-8"))["conversations"]
        expected += sum(len(turns) - 1 for turns in conversations if isinstance(turns, list))
    assert len(pairs) == expected > 2000
    greeting = [pair for pair in pairs if pair.dialogue == "conversations-1"]
    assert [pair.turn for pair in greeting] == list(range(12))
    assert all(before.answer == after.question for before, after in pairwise(greeting))
