from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from cellgraph.data.exports import Exports
from cellgraph.data.phrasing import pairs_of
from cellgraph.data.prose import plain_sentences, plain_text
from cellgraph.data.sections import parse_sections
from cellgraph.data.sources import DocumentedObject, documented_objects

NUMPY_DOC = """solve(a, b) -> x

Solve a system.

The matrix is factored once.

Parameters
----------
a : (n, n) array
    The matrix.

    Must be regular.
b, c : arrays
    Two names are no entry.
lower : bool, optional
    Use the lower part.

Returns
-------
x : ndarray
    The solution.

Raises
------
LinAlgError
    If the matrix is singular.

Notes
-----
Uses LAPACK.

Examples
--------
>>> solve(1, 2)
"""

GOOGLE_DOC = """Applies a layer.

Some words.

Args:
    in_channels (int or tuple(int, int)): Size of the input
        in cells.
    {input}
    bias: Whether to add one.

Returns:
    torch.Tensor: The result.

Text at the margin.

Examples::

    >>> layer(1)
"""


def test_numpy_sections() -> None:
    sections = parse_sections(NUMPY_DOC)
    assert sections.summary.strip() == "Solve a system."
    assert sections.description.strip() == "The matrix is factored once."
    assert sections.parameters == [("a", "The matrix.\n\nMust be regular."), ("lower", "Use the lower part.")]
    assert sections.returns == [("x", "The solution.")]
    assert sections.raises == [("LinAlgError", "If the matrix is singular.")]
    assert sections.notes.strip() == "Uses LAPACK."


def test_google_sections() -> None:
    sections = parse_sections(GOOGLE_DOC)
    assert sections.summary.strip() == "Applies a layer."
    assert sections.description.strip() == "Some words."
    assert sections.parameters == [("in_channels", "Size of the input\nin cells."), ("bias", "Whether to add one.")]
    assert sections.returns == [("", "The result.")]


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        (":class:`~torch.nn.Linear` and :func:`torch.abs`", "Linear and torch.abs"),
        (":ref:`the guide <guide>` and `a paper <http://x.y>`_", "the guide and a paper"),
        ("**bold**, *soft*, ``code``, `name`, *args and **kwargs", "bold, soft, code, name, *args and **kwargs"),
        ("[`Trainer`] with [`~utils.Thing`] of [words](https://x.y)", "Trainer with Thing of words"),
        ("Of size :math:`n` [1]_. (default: :obj:`True`)", "Of size n."),
        ("A\n  broken   line , indeed", "A broken line, indeed"),
    ],
)
def test_plain_text(markup: str, expected: str) -> None:
    assert plain_text(markup) == expected


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("One thing. Another, e.g. This one. See the docs.", ["One thing.", "Another, e.g. This one."]),
        ("size of each sample", ["Size of each sample."]),
        ("Fine here. But :math:`\\frac{a}{b}` is not. Never reached.", ["Fine here."]),
        ("Fine here.\n\n.. versionadded:: 1.0\n\nMore words.", ["Fine here.", "More words."]),
        ("Fine here.\n\n.. math:: x^2\n\nwhere x is lost.", ["Fine here."]),
        ("Fine here. One of:\n\n- a\n- b", ["Fine here."]),
        ("Fine here.\n- a list", ["Fine here."]),
        ("Fine here. It is defined as\n\n.. math:: x", ["Fine here."]),
        (">>> code()", []),
        ("Uses {input} as given.", []),
    ],
)
def test_plain_sentences(markup: str, expected: list[str]) -> None:
    assert plain_sentences(markup) == expected


def test_sentences_fit_the_limits() -> None:
    markup = "First one here. Second one here. Third one here. Fourth one here."
    assert len(plain_sentences(markup, limit=2)) == 2
    assert plain_sentences(markup, max_chars=35) == ["First one here.", "Second one here."]


def test_public_names(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    (package / "sub" / "_hidden").mkdir(parents=True)
    (package / "__init__.py").write_text("from .sub import exported\nfrom . import sub\n")
    (package / "sub" / "__init__.py").write_text("from ._impl import *\nfrom ._hidden.deep import far\n")
    (package / "sub" / "_impl.py").write_text("__all__ = ['exported', 'starred']\n")
    (package / "sub" / "_hidden" / "deep.py").write_text("def far(): ...\n")
    (package / "plain.py").write_text("def f(): ...\n")
    exports = Exports(package, "pack")
    assert exports.module_name(package / "sub" / "_impl.py") == "pack.sub._impl"
    assert exports.public_name("pack.sub._impl", "exported") == "pack.exported"
    assert exports.public_name("pack.sub._impl", "starred.method") == "pack.sub.starred.method"
    assert exports.public_name("pack.sub._impl", "unlisted") is None
    assert exports.public_name("pack.sub._hidden.deep", "far") == "pack.sub.far"
    assert exports.public_name("pack.sub._hidden.deep", "other") is None
    assert exports.public_name("pack.plain", "f") == "pack.plain.f"
    assert exports.public_name("pack.plain", "_f") is None


@pytest.mark.parametrize("package", ["numpy", "sklearn"])
def test_names_lead_to_the_objects(package: str) -> None:
    """The names found in the source files are those that imports give."""
    missing = []
    checked = 0
    for objects in list(documented_objects(package))[:40]:
        for thing in objects:
            if thing.kind not in ("function", "class"):
                continue
            module, _, name = thing.name.rpartition(".")
            checked += 1
            if not hasattr(importlib.import_module(module), name):
                missing.append(thing.name)
    assert checked > 50
    assert len(missing) <= 0.02 * checked, missing


@pytest.mark.parametrize(
    ("summary", "answer"),
    [
        ("Compute the mean along an axis.", "computes the mean along an axis."),
        ("Applies a linear layer to the input.", "applies a linear layer to the input."),
        ("Copy the array and return the copy.", "copies the array and returns the copy."),
        ("Sample mean of the given values.", None),
        ("Linear least squares with a penalty.", None),
    ],
)
def test_summaries_become_sentences(summary: str, answer: str | None) -> None:
    thing = DocumentedObject("scipy", "scipy.stats.thing", "function", "scipy.stats.impl", summary)
    (pair,) = pairs_of(thing)
    assert pair.question.endswith("?")
    assert "thing" in pair.question
    assert pair.answer in ([summary] if answer is None else [f"It {answer}", f"thing {answer}"])
    assert (pair.topic, pair.category) == ("scipy.stats.impl", "scipy what")


def test_pairs_of_one_object() -> None:
    thing = DocumentedObject(
        "scipy",
        "scipy.linalg.solve",
        "function",
        "scipy.linalg.basic",
        "Solve the linear system of equations.\n\nThe matrix is factored once, then both triangles are solved."
        "\n\nParameters\n----------\na : array\n    The matrix of the system, square and not singular to precision."
        "\n_private : int\n    Whatever this may be, nobody should ever have to know about it."
        "\n\nRaises\n------\nLinAlgError\n    If the matrix is singular to the precision of its numbers.\n",
    )
    pairs = {pair.category: pair for pair in pairs_of(thing)}
    main = pairs.pop("scipy how", None) or pairs.pop("scipy what")
    assert "The matrix is factored once, then both triangles are solved." in main.answer
    assert set(pairs) == {"scipy parameter", "scipy raises"}
    assert "`a`" in pairs["scipy parameter"].question
    assert pairs["scipy parameter"].answer == "The matrix of the system, square and not singular to precision."
    assert "LinAlgError" in pairs["scipy raises"].question


def test_unknown_package() -> None:
    with pytest.raises(ValueError, match=r"package must be one of .*, got 'pandas'"):
        next(documented_objects("pandas"))
