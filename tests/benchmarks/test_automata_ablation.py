"""The ablation of training patterns: figures that a file keeps, and of what settings they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from cellgraph.benchmarks import automata_ablation
from cellgraph.benchmarks.automata_ablation import HORIZONS, VARIANTS, Variant


@pytest.fixture
def ablation(capsys, tmp_path, monkeypatch):
    """Runs the command with figures that tell the settings; the calls of a measurement, and what was printed."""
    file = tmp_path / "figures.json"

    def run(*arguments: object) -> tuple[list[dict[str, int]], str]:
        measured: list[dict[str, int]] = []

        def measure(variant: Variant, **settings: int) -> dict[str, float]:
            assert variant is VARIANTS["base"]
            measured.append(settings)
            return {**dict.fromkeys(HORIZONS, settings["updates"] / 1000), "seconds": 1.0}

        monkeypatch.setattr(automata_ablation, "measure", measure)
        command = ["automata_ablation", "--variants", "base", "--json", str(file), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        automata_ablation.main()
        return measured, capsys.readouterr().out

    run.file = file  # type: ignore[attr-defined]
    return run


def test_figures_are_kept_and_not_measured_again(ablation) -> None:
    asked = [{"seed": seed, "updates": 200, "width": 15} for seed in range(3)]
    assert ablation("--seeds", 0, 1)[0] == asked[:2]
    measured, printed = ablation("--seeds", 0, 1, 2)
    assert measured == asked[2:]
    assert "20.0 (20.0 to 20.0)" in printed


@pytest.mark.parametrize("other", [("--updates", 3), ("--width", 7)])
def test_figures_of_other_settings_are_refused(ablation, capsys, other: tuple[str, int]) -> None:
    ablation("--seeds", 0)
    before = ablation.file.read_text()
    with pytest.raises(SystemExit):
        ablation("--seeds", 0, *other)
    assert "got some of {'updates': 200, 'width': 15}" in capsys.readouterr().err
    assert ablation.file.read_text() == before


def test_figures_of_settings_that_nobody_told_are_refused(ablation, capsys) -> None:
    Path(ablation.file).write_text(json.dumps({"base": {"0": {**dict.fromkeys(HORIZONS, 1.0), "seconds": 1.0}}}))
    with pytest.raises(SystemExit):
        ablation("--seeds", 0)
    assert "got some of {'updates': None, 'width': None}" in capsys.readouterr().err
