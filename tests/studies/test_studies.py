"""Studies: read from run folders, compared by known tests, written in four forms."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure
from scipy.stats import false_discovery_control, ttest_rel

from cellgraph.cli.study import main
from cellgraph.folder import RunFolder
from cellgraph.studies import PowerLaw, StudiedRun, compare, read_runs, write_study
from cellgraph.studies.figure import draw
from cellgraph.studies.pages import print_study


def run(mrr: float, baseline: float | None = None, **config: Any) -> StudiedRun:
    figures = {"lattice": {"mrr": mrr, "recall_at_1": mrr / 2}}
    if baseline is not None:
        figures["ridge"] = {"mrr": baseline}
    return StudiedRun(RunFolder("."), config, figures)


def written(folder: Path, config: Mapping[str, Any], rows: Mapping[str, float] | None) -> None:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(config)))
    if rows is not None:
        evaluation = {"rows": [{"name": name, "mrr": value, "mrr_csls": None} for name, value in rows.items()]}
        (folder / "evaluation.json").write_text(json.dumps(evaluation))


def sweep(folder: Path) -> Path:
    for number in range(6):
        steps, seed = (3, 5)[number // 3], number % 3
        config = {"seed": seed, "model": {"num_steps": steps}, "training": {"seed": seed}}
        written(folder / str(number), config, {"ridge": 0.4, "lattice": 0.5 + 0.01 * steps + 0.001 * seed**2 * steps})
    return folder


def test_the_tests_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b, ridge = rng.normal(0.5, 0.02, 4), rng.normal(0.53, 0.02, 4), rng.normal(0.45, 0.01, 4)
    runs = [run(x, r, seed=i, steps=3) for i, (x, r) in enumerate(zip(a, ridge, strict=True))]
    runs += [run(x, seed=i, steps=5) for i, x in enumerate(b)]
    found = compare(runs)
    first, second = found.settings
    beside = found.systems[0]
    expected = [ttest_rel(b, a), ttest_rel(ridge, a)]
    assert first.against == ""
    assert math.isnan(first.p)
    assert second.against == "steps=3"
    assert [second.p, beside.p] == pytest.approx([test.pvalue for test in expected])
    assert [second.q, beside.q] == pytest.approx(list(false_discovery_control([test.pvalue for test in expected])))
    assert second.interval() == pytest.approx(tuple(expected[0].confidence_interval()))
    assert (second.mean, second.deviation) == pytest.approx((b.mean(), b.std(ddof=1)))
    assert (beside.system, beside.lead) == ("ridge", pytest.approx((ridge - a).mean()))


def test_differences_that_are_equal_but_for_rounding_have_no_test() -> None:
    """One question of ten thousand more for each seed: the differences are 1e-4, to the rounding of the shares."""
    hits = (5728, 8679, 7162)
    runs = [run((count + a) / 10_000, seed=seed, a=a) for a in (0, 1) for seed, count in enumerate(hits)]
    found = compare(runs).settings[1]
    assert len(set(found.differences)) > 1
    assert found.lead == pytest.approx(1e-4)
    assert all(math.isnan(value) for value in (found.p, *found.interval()))


def test_pairs_are_made_by_seed_whatever_the_order() -> None:
    runs = [
        run(0.1, seed=0, a=1),
        run(0.2, seed=1, a=1),
        run(0.25, seed=1, a=2),
        run(0.11, seed=0, a=2),
        run(0.9, seed=7, a=2),
    ]
    assert compare(runs).settings[1].differences == pytest.approx((0.05, 0.01))


def test_a_single_seed_has_no_spread_and_no_p() -> None:
    found = compare([run(0.1, seed=0, a=1), run(0.2, seed=0, a=2)]).settings[1]
    assert found.lead == pytest.approx(0.1)
    assert all(math.isnan(value) for value in (found.deviation, found.p, found.q, *found.interval()))


def test_runs_are_read_in_hydras_order_and_unfinished_ones_told(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        written(tmp_path / str(number), {"seed": number}, {"lattice": number / 100})
    written(tmp_path / "3", {"seed": 3}, None)
    # A baseline's folder within a run is none of its own.
    written(tmp_path / "1" / "stages" / "mlp", {"seed": 1}, {"lattice": 0.0})
    runs, unfinished = read_runs(tmp_path)
    assert [one.seed for one in runs] == [1, 2, 10]
    assert [path.name for path in unfinished] == ["3"]


def test_an_automaton_has_figures_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "config.yaml").write_text("seed: 0")
    (tmp_path / "0" / "evaluation.json").write_text(
        '{"held_out": {"accuracy": 0.5, "by_kind": {"a": 1}}, "training": {}}'
    )
    runs, _ = read_runs(tmp_path)
    assert runs[0].figures == {"automaton": {"accuracy": 0.5, "by_kind.a": 1.0}}
    assert compare(runs).measure == "accuracy"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("config.yaml", "a: [", "damaged"),
        ("config.yaml", "- 1", "must hold the settings of a run"),
        ("evaluation.json", "{", "damaged"),
        ("evaluation.json", '{"rows": [{}]}', "damaged"),
        ("evaluation.json", "[]", "damaged"),
    ],
)
def test_damaged_files_are_told_by_name(tmp_path: Path, name: str, content: str, told: str) -> None:
    written(tmp_path / "0", {"seed": 0}, {"lattice": 0.5})
    (tmp_path / "0" / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name}.*{told}"):
        read_runs(tmp_path)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a comparison needs runs, got none"):
        compare([])
    with pytest.raises(ValueError, match="no such folder"):
        read_runs(tmp_path / "none")
    with pytest.raises(ValueError, match="no run at all"):
        read_runs(tmp_path)
    runs = [run(0.1, seed=0, a=1), run(0.2, seed=0, a=2)]
    with pytest.raises(ValueError, match="has no system 'mlp', only 'lattice'"):
        compare(runs, system="mlp")
    with pytest.raises(ValueError, match="has no 'speed' of 'lattice'"):
        compare(runs, measure="speed")
    with pytest.raises(ValueError, match="one of 2 settings, got 2"):
        compare(runs, reference=2)
    with pytest.raises(ValueError, match="one run a setting and seed"):
        compare([run(0.1, seed=0), run(0.2, seed=0)])
    with pytest.raises(ValueError, match=r"one run a setting and seed, .* of seed None"):
        compare([run(0.1, a=1), run(0.2, a=1), run(0.3, a=2)])


def test_all_four_forms_say_the_same(tmp_path: Path) -> None:
    runs, _ = read_runs(sweep(tmp_path / "sweep"))
    found = compare(runs)
    page = write_study(found, tmp_path / "out")
    assert "num\\_steps=5" in page.read_text()
    assert (tmp_path / "out" / "study.png").read_bytes().startswith(b"\x89PNG")
    plain = json.loads((tmp_path / "out" / "study.json").read_text())
    assert plain["settings"][1]["mean"] == pytest.approx(0.55 + 0.005 * (0 + 1 + 4) / 3)
    assert plain["settings"][0]["p"] is None
    rows = list(csv.DictReader((tmp_path / "out" / "study.csv").open()))
    values = [float(row["mrr"]) for row in rows if row["system"] == "lattice" and row["model.num_steps"] == "5"]
    assert values == pytest.approx([0.55, 0.555, 0.57])


def test_values_that_python_takes_for_equal_are_printed_apart(capsys: pytest.CaptureFixture[str]) -> None:
    print_study(compare([run(0.5, baseline=0.25, key=True, seed=0), run(0.75, baseline=0.125, key=1, seed=0)]))
    told = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert [words for words in told if words and words[0] in ("ridge", "key=True:", "key=1:")] == [
        ["key=True:", "lattice"],
        ["ridge", "0.2500"],
        ["key=1:", "lattice"],
        ["ridge", "0.1250"],
    ]


def test_a_path_with_dollar_signs_is_no_mathematics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: shown.append(self))
    paths = ("$HOME/a_{$x", "$HOME/b_{$x")
    found = compare([run(0.1 * place, baseline=0.1, path=path, seed=0) for place, path in enumerate(paths)])
    draw(found, tmp_path / "study.png")
    (figure,) = shown
    figure.draw_without_rendering()  # raises where mathematics cannot be read
    names = [text.get_text().replace(r"\$", "$") for text in figure.axes[0].get_yticklabels()]
    assert all(path in name for path, name in zip(paths, names, strict=True))


def test_the_command_prints_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    folder = sweep(tmp_path / "sweep")
    written(folder / "6", {"seed": 3, "model": {"num_steps": 3}}, None)
    main([str(folder), "--out", str(tmp_path / "out")])
    told = capsys.readouterr().out
    assert "num_steps=3: lattice" in told
    assert f"left out, as it is not finished: {folder / '6'}" in told
    with pytest.raises(ValueError, match=r"that key alone; they differ in model\.num_steps, got data\.train"):
        main([str(folder), "--law", "data.train"])
    with pytest.raises(ValueError, match="three positive sizes at least, got 3, 5"):
        main([str(folder), "--law", "model.num_steps"])


def test_a_study_that_cannot_be_written_is_shown_and_names_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OSError, match=f"cannot write the study in {tmp_path}/out: "):
        main([str(sweep(tmp_path / "sweep")), "--out", str(tmp_path / "out")])
    assert "difference [95 %]" in capsys.readouterr().out


def test_a_power_law_is_found_through_noise_and_its_intervals_hold_it() -> None:
    rng = np.random.default_rng(1)
    sizes = np.repeat([100, 300, 1000, 3000, 10000], 5)
    law = PowerLaw.fit(sizes, 0.15 + 4.0 * sizes**-0.6 + rng.normal(0, 0.002, len(sizes)))
    for value, (low, high) in zip((0.15, 4.0, 0.6), law.intervals, strict=True):
        assert low < value < high
    assert law(1000) == pytest.approx(0.15 + 4.0 * 1000**-0.6, abs=0.005)
    assert PowerLaw.fit([1, 10, 100], [0.5, 0.3, 0.2]).intervals == ()
    # Errors that do not fall have no exponent to speak of: the floor says it all.
    assert PowerLaw.fit([1, 10, 100], [0.3, 0.3, 0.3]).floor == pytest.approx(0.3, abs=1e-6)


def test_sizes_of_more_runs_count_as_much_in_the_intervals_as_in_the_fit() -> None:
    # Errors that are no power law, all but without spread: the draws are all but the fit itself.
    means, counts = {10: 0.5, 100: 0.41, 1000: 0.2, 10000: 0.18}, (2, 20, 2, 2)
    sizes = np.repeat([*means], counts)
    errors = np.array([means[size] for size in sizes]) + 1e-9 * np.random.default_rng(0).standard_normal(len(sizes))
    law = PowerLaw.fit(sizes, errors)
    for value, (low, high) in zip((law.floor, law.factor, law.exponent), law.intervals, strict=True):
        assert (low, high) == pytest.approx((value, value), rel=1e-5)
    # And the fit is that of all the runs: nearby laws are farther from them.
    floor, factor, exponent = law.floor, law.factor, law.exponent
    far = [
        ((errors - (floor + a) - factor * (1 + b) * sizes ** -(exponent + c)) ** 2).sum()
        for a, b, c in [(0, 0, 0), (1e-3, 0, 0), (0, 1e-2, 0), (0, -1e-2, 0), (0, 0, 1e-3), (0, 0, -1e-3)]
    ]
    assert far[0] == min(far)
