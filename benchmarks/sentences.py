"""The sentences: what the rows of a run say of one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .floor import FLOOR
from .measure import Contender, spread
from .peers import PEERS
from .report import Report
from .setting import Setting
from .workload import backend_names

Row = dict[str, Any]

#: Two ways whose speeds differ by less are called level.
_LEVEL = 0.95


def speed(contender: Contender) -> float:
    """Samples per second, the median of the rounds."""
    return spread([contender.setting.batch / value for value in contender.seconds]).median


def summarise(report: Report, contenders: Sequence[Contender]) -> None:
    """Fill the report with the rows, the floors first, and their ratios to the floors.

    A light cone's floor is that of its own products at its own batch; that of full rollouts the best of all batches,
    which goes by the cell and step.
    """
    measured = [contender for contender in contenders if contender.seconds]
    floors: dict[tuple[object, ...], Contender] = {}
    for contender in sorted(measured, key=speed, reverse=True):
        if contender.setting.backend == FLOOR:
            floors.setdefault(_products(contender.setting), contender)
    for contender in (*floors.values(), *(each for each in measured if each.setting.backend != FLOOR)):
        floor = floors.get(_products(contender.setting))
        steps = 1.0 if floor is None else floor.setting.num_steps / contender.setting.num_steps
        report.add_contender(contender, floor=None if floor is None else steps * speed(floor))


def _products(setting: Setting) -> tuple[object, ...]:
    """What settings have in common whose matrix products are alike."""
    own = (setting.num_steps, setting.batch, setting.neighbourhood) if setting.cone else ()
    return setting.mode, setting.dtype, setting.cone, *own


def answers(rows: Sequence[Row], base: Setting) -> list[str]:
    """What the rows say, in ratios: they hold on a busy machine too."""
    sentences = []
    modes = dict.fromkeys((row["mode"], row["dtype"]) for row in rows)
    for mode, dtype in modes:
        here = [row for row in rows if (row["mode"], row["dtype"]) == (mode, dtype)]
        alike = [row for row in here if _is_full(row, base)]
        ours = [row for row in alike if row["backend"] in backend_names()]
        like_base = [row for row in ours if row["neighbourhood"] == base.neighbourhood]
        if not like_base:
            continue
        best = max(like_base, key=lambda row: row["samples_per_s"])
        parts = [f"{mode}, {dtype}: {best['backend']} at batch {best['batch']}, {best['samples_per_s']:.3g} samples/s"]
        if best["floor_ratio"]:
            parts.append(f"{best['floor_ratio']:.2f} of what the matrix products alone allow")
        for peer in PEERS:
            speeds = [row["samples_per_s"] for row in alike if row["backend"] == peer]
            parts += [f"{best['samples_per_s'] / max(speeds):.3g} x {peer}"] if speeds else []
        sentences.append("; ".join(parts))
        sentences += _pairs(ours, "checkpoint", "with a checkpoint every {0} steps", mode, dtype)
        sentences += _pairs(ours, "neighbourhood", "with {0} neighbours", mode, dtype)
        sentences += _cones(here, base, mode, dtype)
    return sentences


def auto_answers(rows: Sequence[Row], base: Setting, ways: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    """Which way ``auto`` takes, in each mode, and how it stands among all that were measured like it.

    Args:
        rows: The rows.
        base: The base.
        ways: The backend and the dtype that ``auto`` takes, by mode.
    """
    for mode, (backend, dtype) in ways.items():
        way = f"{mode}: auto takes {backend} in {dtype} here"
        alike = [row for row in rows if row["mode"] == mode and _is_base(row, base) and row["backend"] != FLOOR]
        own = [row for row in alike if (row["backend"], row["dtype"]) == (backend, dtype)]
        if not own:
            yield f"{way}, which was not measured"
            continue
        best = max(alike, key=lambda row: row["samples_per_s"])
        share = own[0]["samples_per_s"] / best["samples_per_s"]
        other = f"{best['backend']} in {best['dtype']}"
        if best is own[0]:
            yield f"{way}, the best of {len(alike)} ways measured"
        elif share >= _LEVEL:
            yield f"{way}, level with the best of {len(alike)} ways measured ({share:.2f} of {other})"
        else:
            yield f"{way}, {share:.2f} of the best of {len(alike)} ways measured, {other}"


def check_required(
    rows: Sequence[Row], base: Setting, *, modes: Sequence[str], backends: Sequence[str], ratio: float
) -> None:
    """Hold the first backend against the others, in every mode that was asked for.

    Raises:
        ValueError: If it makes less than ``ratio`` of the speed of another, or one of them was not measured.
    """
    alike = [row for row in rows if _is_base(row, base) and row["dtype"] == base.dtype]
    for mode in modes:
        speeds = {row["backend"]: row["samples_per_s"] for row in alike if row["mode"] == mode}
        if lacking := [name for name in backends if name not in speeds]:
            raise ValueError(f"--require needs all of {list(backends)}, not measured in {mode}: {lacking}")
        for name in backends[1:]:
            if speeds[backends[0]] < ratio * speeds[name]:
                raise ValueError(
                    f"{backends[0]} must make at least {ratio:g} of the speed of {name} in {mode}, "
                    f"got {speeds[backends[0]] / speeds[name]:.2f}"
                )


def _is_full(row: Row, base: Setting) -> bool:
    """Whether a row is of full rollouts of the base's length."""
    return row["rollout"] == base.columns()["rollout"] and row["num_steps"] == base.num_steps


def _is_base(row: Row, base: Setting) -> bool:
    """Whether a row differs from the base in backend, dtype and mode at most."""
    columns = base.columns()
    names = ("rollout", "num_steps", "batch", "neighbourhood")
    # Peers keep every state; what the library is measured at without checkpoints says nothing of it with them.
    kept = 0 if row["backend"] in PEERS else base.checkpoint
    return row["checkpoint"] == kept and all(row[name] == columns[name] for name in names)


def _cones(rows: Sequence[Row], base: Setting, mode: str, dtype: str) -> Iterator[str]:
    """Light cones against full rollouts of as many steps, and against the floor of those."""
    names = ("backend", "num_steps", "batch", "neighbourhood", "checkpoint")
    floors = {row["num_steps"]: row for row in rows if row["backend"] == FLOOR and row["rollout"] == "full"}
    for cone in rows:
        if cone["rollout"] == "full" or cone["backend"] == FLOOR:
            continue
        full = [row for row in rows if row["rollout"] == "full" and all(row[name] == cone[name] for name in names)]
        parts = [f"{mode}, {dtype}: light cone of {cone['num_steps']} steps, {cone['samples_per_s']:.3g} samples/s"]
        parts += [f"{cone['samples_per_s'] / full[0]['samples_per_s']:.3g} x the full rollout"] if full else []
        if base.num_steps in floors:
            floor = floors[base.num_steps]["samples_per_s"] * base.num_steps / cone["num_steps"]
            parts.append(f"{cone['samples_per_s'] / floor:.2f} of the floor of the full rollout")
        if cone["floor_ratio"]:
            parts.append(f"{cone['floor_ratio']:.2f} of the products of its own cells")
        yield "; ".join(parts)


def _pairs(rows: Sequence[Row], column: str, words: str, mode: str, dtype: str) -> Iterator[str]:
    """Times of rows that differ in one column from one with the column's smallest value."""
    names = [name for name in ("backend", "neighbourhood", "batch", "checkpoint") if name != column]
    for row in rows:
        alike = [other for other in rows if all(other[name] == row[name] for name in names)]
        least = min(alike, key=lambda other: other[column])
        if least[column] < row[column]:
            ratio = least["samples_per_s"] / row["samples_per_s"]
            yield f"{mode}, {dtype}: {row['backend']} {words.format(row[column])} takes {ratio:.2f} x the time"
