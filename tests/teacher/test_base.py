"""Teachers of one's own: what saves them and brings them back, and by what their embeddings are known."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from cellgraph.teacher import BaseTeacher, EmbeddingCache, Teacher, check_teacher, load_teacher

CODE = """
import torch
from cellgraph.teacher import BaseTeacher

class Counts(BaseTeacher):
    def __init__(self, letters="abc", *, scale=1.0):
        self.letters, self.scale = letters, scale
        self.width = len(letters)
        self.mean = torch.zeros(self.width)
    def counts(self, texts):
        return torch.tensor([[float(text.count(letter)) for letter in self.letters] for text in texts])
    def fit(self, texts):
        self.mean = self.counts(texts).mean(0)
    def encode(self, texts, *, progress=False):
        return self.scale * (self.counts(texts) - self.mean)
    def state_dict(self):
        return {"mean": self.mean}
    def load_state_dict(self, state):
        self.mean = state["mean"]
"""
TEXTS = ["abc", "aab", "cc"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("own_teachers", None)
    BaseTeacher.kinds.pop("own_teachers.Counts", None)


def written(place: Path, code: str = CODE) -> ModuleType:
    """The module with this code, as a new process would import it."""
    (place / "own_teachers.py").write_text(code)
    sys.modules.pop("own_teachers", None)
    BaseTeacher.kinds.pop("own_teachers.Counts", None)
    importlib.invalidate_caches()
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        return importlib.import_module("own_teachers")
    finally:
        sys.dont_write_bytecode = before


def test_a_teacher_comes_back_as_it_was_saved(place: Path) -> None:
    teacher = written(place).Counts("ac", scale=2.0)
    teacher.fit(TEXTS)
    assert check_teacher(teacher) is teacher
    assert isinstance(teacher, Teacher)
    # By hand: 3 a and 3 c in three texts.
    assert teacher.encode(["aac"]).tolist() == [[2.0, 0.0]]
    teacher.save_pretrained(place / "saved")
    again = load_teacher(place / "saved")
    assert torch.equal(again.encode(TEXTS), teacher.encode(TEXTS))
    assert again.fingerprint == teacher.fingerprint
    cache = EmbeddingCache(place / "cache")
    assert torch.equal(cache.embed(again, TEXTS), teacher.encode(TEXTS))


def test_the_fingerprint_is_of_arguments_what_was_learned_and_code(place: Path) -> None:
    module = written(place)
    known = {module.Counts().fingerprint, module.Counts("abd").fingerprint, module.Counts(scale=2.0).fingerprint}
    fitted = module.Counts()
    fitted.fit(TEXTS)
    known.add(fitted.fingerprint)
    assert len(known) == 4
    same = module.Counts("abc", scale=1.0).fingerprint
    assert same in known
    # Neither comments nor what stands beside the class.
    told = CODE.replace("    def fit", "    # learns\n\n    def fit") + "\nOTHER = 1\n"
    assert written(place, told).Counts().fingerprint == same
    assert written(place, CODE.replace("self.scale *", "-self.scale *")).Counts().fingerprint not in known


def test_a_teacher_whose_code_is_another_is_not_taken_for_it(place: Path) -> None:
    written(place).Counts().save_pretrained(place / "saved")
    written(place, CODE.replace("- self.mean", "+ self.mean"))
    with pytest.raises(ValueError, match=r"own_teachers\.Counts is not what it was when .* was written"):
        load_teacher(place / "saved")


def test_code_that_was_typed_in_is_told_apart() -> None:
    def typed(answer: str, width: int = 1) -> str:
        told = f"""
class Typed(BaseTeacher):
    width = {width}
    def encode(self, texts, *, progress=False):
        return torch.tensor([[{answer}] for text in texts])
"""
        scope = {"BaseTeacher": BaseTeacher, "torch": torch, "__name__": "typed_in"}
        exec(told, scope)
        return scope["Typed"]().fingerprint

    assert typed("1.0") == typed("1.0")
    others = ("2.0", "-1.0", "float(len(text))", "float(max(map(len, texts)))", "float(text in {'a', 'b'})")
    assert len({typed("1.0"), typed("1.0", width=2), *map(typed, others)}) == 7


def test_what_could_not_be_made_again_is_refused_when_it_is_made() -> None:
    class Many(BaseTeacher):
        def __init__(self, *widths: int) -> None: ...

        def encode(self, texts: list[str], *, progress: bool = False) -> torch.Tensor: ...

    class Placed(Many):
        def __init__(self, width: int, /) -> None: ...

    class Named(Many):
        def __init__(self, place: Path) -> None: ...

    with pytest.raises(ValueError, match=r"Many must take its arguments by name.* not so widths"):
        Many(1, 2)
    with pytest.raises(ValueError, match=r"Placed must take its arguments by name.* not so width"):
        Placed(1)
    with pytest.raises(ValueError, match=r"Named must be made of plain values.*Path"):
        Named(Path("here")).fingerprint  # noqa: B018


def test_what_is_unknown_or_damaged_is_told(place: Path) -> None:
    written(place).Counts().save_pretrained(place / "saved")
    (place / "saved" / "teacher.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"teacher\.safetensors is damaged"):
        load_teacher(place / "saved")
    state = json.loads((place / "saved" / "teacher.json").read_text())
    (place / "saved" / "teacher.json").write_text(json.dumps({**state, "options": None}))
    with pytest.raises(ValueError, match="says nothing of how its teacher is made"):
        load_teacher(place / "saved")
    del BaseTeacher.kinds["own_teachers.Counts"]
    with pytest.raises(ValueError, match=r"if it is yours, import own_teachers before it is loaded"):
        load_teacher(place / "saved")


def test_what_lacks_something_is_no_teacher() -> None:
    class Half:
        width = 3

        def encode(self, texts: list[str]) -> None: ...

    with pytest.raises(ValueError, match=r"teacher must have .* lacks fingerprint, fit, save_pretrained"):
        check_teacher(Half())


def test_what_was_learned_may_be_of_any_dtype(tmp_path: Path) -> None:
    class Half(BaseTeacher):
        width = 2

        def fit(self, texts: list[str]) -> None:
            self.learned = {"a": torch.full((2, 2), len(texts), dtype=torch.bfloat16).T, "b": torch.ones(()).bool()}

        def encode(self, texts: list[str], *, progress: bool = False) -> torch.Tensor:
            return torch.ones(len(texts), 1) @ self.learned["a"][:1].float()

        def state_dict(self) -> dict[str, torch.Tensor]:
            return self.learned

        def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
            self.learned = dict(state)

    teacher, other = Half(), Half()
    teacher.fit(TEXTS)
    other.fit(TEXTS[1:])
    assert teacher.fingerprint != other.fingerprint
    teacher.save_pretrained(tmp_path)
    again = load_teacher(tmp_path)
    assert again.fingerprint == teacher.fingerprint
    assert torch.equal(again.encode(["a"]), torch.full((1, 2), 3.0))
