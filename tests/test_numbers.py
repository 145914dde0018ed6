"""Numbers of other libraries become Python's; what is none is named."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pytest
import torch
from plain import plainly

import cellgraph
from cellgraph.numbers import (
    CONVERTERS,
    integer,
    integers,
    named_numbers,
    number,
    numbers,
    plain_numbers,
    settle_numbers,
    span,
    truth,
)

THREES = [3, np.int8(3), np.uint64(3), np.array(3), torch.tensor(3), torch.tensor(3, dtype=torch.uint8)]

HALVES = [0.5, np.float64(0.5), np.float16(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor(0.5).bfloat16()]

TRUTHS = [True, np.bool_(True), np.array(True), torch.tensor(True)]

NONE_AT_ALL = ["3", None, [3], (3,), np.array([3]), torch.tensor([3]), 3j, {}]


@pytest.mark.parametrize("value", THREES, ids=repr)
def test_whole_numbers_become_ints(value):
    assert plainly(integer("n", value), int, 3)
    assert plainly(number("n", value), float, 3.0)


@pytest.mark.parametrize("value", HALVES, ids=repr)
def test_numbers_become_floats(value):
    assert plainly(number("n", value), float, 0.5)
    with pytest.raises(ValueError, match="n must be an integer, got"):
        integer("n", value)


@pytest.mark.parametrize("value", TRUTHS, ids=repr)
def test_truth_values_are_no_numbers(value):
    assert truth("n", value) is True
    for convert, kind in ((integer, "an integer"), (number, "a number")):
        with pytest.raises(ValueError, match=f"n must be {kind}, got .*[Tt]rue"):
            convert("n", value)


@pytest.mark.parametrize("value", NONE_AT_ALL, ids=repr)
def test_what_is_no_number_is_named(value):
    for convert, kind in ((integer, "an integer"), (number, "a number"), (truth, "true or false")):
        with pytest.raises(ValueError, match=f"^n must be {kind}, got "):
            convert("n", value)


def test_numbers_that_no_float_holds_are_named():
    for value in (math.nan, np.float32("nan"), torch.tensor(math.nan), 10**400):
        with pytest.raises(ValueError, match="n must be a number, got"):
            number("n", value)
    assert number("n", math.inf) == math.inf


@pytest.mark.parametrize(
    "value", [[4, 3], (np.int64(4), 3), np.array([4, 3]), torch.tensor([4, 3]), torch.Size([4, 3])]
)
def test_several_numbers(value):
    assert integers("n", value) == (4, 3)
    assert {type(part) for part in integers("n", value)} == {int}
    assert {type(part) for part in numbers("n", value)} == {float}


@pytest.mark.parametrize("value", ["43", 4, {4: 3}, np.array(4), np.array([[4, 3]]), torch.tensor([[4]]), None])
def test_what_is_not_several_numbers_is_named(value):
    with pytest.raises(ValueError, match="n must be integers, got"):
        integers("n", value)


def test_the_one_that_is_no_number_is_named():
    with pytest.raises(ValueError, match=r"n\[1\] must be an integer, got 3.5"):
        integers("n", [4, 3.5])
    with pytest.raises(ValueError, match=r"n\['b'\] must be a number, got 'x'"):
        named_numbers("n", {"a": 1, "b": "x"})
    with pytest.raises(ValueError, match="n must be numbers by name, got 3"):
        named_numbers("n", 3)


def test_spans():
    for value in (3, np.int64(3), torch.tensor(3), [3, 3], np.array([3, 3])):
        assert span("n", value) == (3, 3)
        assert {type(end) for end in span("n", value)} == {int}
    assert span("n", (2, np.int32(5))) == (2, 5)
    for value in (0, -1, [5, 4], [1, 2, 3], []):
        with pytest.raises(ValueError, match="n must be positive, or the least and the most of a range, got"):
            span("n", value)
    for value in (2.5, True, "8", [1, 2.5], None):
        with pytest.raises(ValueError, match=r"n(\[1\])? must be an integer|n must be integers"):
            span("n", value)


def test_a_decorated_constructor_reads_its_annotations():
    class Thing:
        @plain_numbers
        def __init__(
            self,
            a: int,
            b: float | None = None,
            /,
            *rest: object,
            c: bool = False,
            d: Sequence[float] = (),
            e: str = "",
            **more: object,
        ) -> None:
            self.given = (a, b, rest, c, d, e, more)

    given = Thing(np.int64(1), None, 2.5, "y", c=np.bool_(True), d=[np.float32(0.5)], e="x", f="z").given
    assert given == (1, None, (2.5, "y"), True, (0.5,), "x", {"f": "z"})
    assert plainly(given[0], int, 1)
    assert given[3] is True
    assert plainly(given[4][0], float, 0.5)
    assert list(inspect.signature(Thing).parameters) == ["a", "b", "rest", "c", "d", "e", "more"]
    with pytest.raises(ValueError, match="c must be true or false, got 1"):
        Thing(1, c=1)
    with pytest.raises(TypeError, match=r"__init__\(\) missing 1 required positional argument: 'a'"):
        Thing()


def test_annotations_that_are_no_strings_count_as_well():
    # As in a module that does not postpone them.
    source = (
        "def wave(length: int, speed: float | None = None, ends: tuple[int, int] = (0, 0)): return length, speed, ends"
    )
    names: dict = {}
    exec(compile(source, "<wave>", "exec", dont_inherit=True), names)
    made = plain_numbers(names["wave"])(np.int64(3), np.float32(0.5), np.array([1, 2]))
    assert made == (3, 0.5, (1, 2))
    assert [type(part) for part in (*made[:2], *made[2])] == [int, float, int, int]


def test_settled_fields():
    @dataclass(frozen=True)
    class Settings:
        size: int
        rate: float | None = None
        on: bool = False
        name: str = ""

        def __post_init__(self) -> None:
            settle_numbers(self, kind="setting")

    settings = Settings(np.int64(3), np.float32(0.5), np.bool_(True))
    assert asdict(settings) == {"size": 3, "rate": 0.5, "on": True, "name": ""}
    assert [type(value) for value in asdict(settings).values()] == [int, float, bool, str]
    assert Settings(3).rate is None
    with pytest.raises(ValueError, match=r"setting size must be an integer, got 2\.5"):
        Settings(2.5)


def parts() -> list[type]:
    """All classes of the library."""
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(cellgraph.__path__, "cellgraph.")
        if "benchmarks" not in module.name and "triton" not in module.name
    ]
    classes = {value for module in modules for value in vars(module).values() if inspect.isclass(value)}
    return sorted((kind for kind in classes if kind.__module__.startswith("cellgraph")), key=lambda kind: kind.__name__)


def annotations(function: object) -> set[str]:
    return {str(p.annotation).removesuffix(" | None") for p in inspect.signature(function).parameters.values()}


#: Constructors that must keep what they are given (scikit-learn compares it by identity), have a check of their own, or
#: are called by the library alone.
AS_GIVEN = {"CellGraphRegressor", "Lattice", "Batch", "Interrupted", "GracefulStop", "Ways"}


def test_every_constructor_of_the_library_takes_other_libraries_numbers():
    # Dataclasses make theirs themselves.
    own = {kind.__name__: vars(kind).get("__init__") for kind in parts() if "__dataclass_fields__" not in vars(kind)}
    wanted = {name for name, made in own.items() if made and annotations(made) & CONVERTERS.keys()} - AS_GIVEN
    assert len(wanted) > 30
    assert {name for name in wanted if not hasattr(own[name], "__wrapped__")} == set()
