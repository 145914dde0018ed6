"""The README's snippets on use elsewhere run as they stand, one after the other."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_the_snippets_of_use_elsewhere_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = README.read_text().split("## Use it elsewhere\n")[1].split("\n## ")[0]
    snippets = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len(snippets) == 4
    if importlib.util.find_spec("onnxruntime") is None:
        snippets[0] = snippets[0].replace("export_onnx(model", "print(model")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(snippet, names)
    assert (tmp_path / "layer" / "model.safetensors").is_file()
    assert (tmp_path / "cube.pt2").is_file()
    assert names["output"].states.shape[0] == 2  # type: ignore[attr-defined]
    assert float(names["regressor"].score(names["X"], names["y"])) > 0.7  # type: ignore[attr-defined]
