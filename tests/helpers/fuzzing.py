"""Random inputs: how many, what became of them, and what may be said of them.

``CELLGRAPH_FUZZ=100000 python -m pytest tests/fuzz -p no:randomly`` tries so many inputs in all and prints the counts.
With ``CELLGRAPH_FUZZ_GUIDED=1`` before it they are led by the lines that they reach, by Atheris, which is libFuzzer for
Python.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

#: Inputs in all; the default is for the quick tests.
TOTAL = int(os.environ.get("CELLGRAPH_FUZZ", "1500"))
#: Whether the inputs are led by the lines that they reach.
GUIDED = bool(os.environ.get("CELLGRAPH_FUZZ_GUIDED"))
#: What became of the inputs of each kind.
OUTCOMES: dict[str, Counter[str]] = {}


def share(of_all: float) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Decorates a test that has a share of all inputs, above ``given``."""
    runs = max(1, round(TOTAL * of_all))
    # Inputs of another run say nothing here: what was found is in a test of its own.
    chosen = settings(
        max_examples=runs,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )

    def decorate(test: Callable[..., None]) -> Callable[[], None]:
        check = chosen(test)
        return (lambda: _guided(check.hypothesis.fuzz_one_input, runs)) if GUIDED else check

    return decorate


def _guided(check: Callable[[bytes], Any], runs: int) -> None:
    """Tries the inputs in a process of its own, which libFuzzer ends when it is done."""
    context = multiprocessing.get_context("fork")
    counts, counting = context.Pipe(duplex=False)
    child = context.Process(target=_fuzz, args=(check, runs, counting))
    child.start()
    counting.close()
    try:
        found = counts.recv()
    except EOFError:
        found = {}
    child.join()
    assert child.exitcode == 0, f"the fuzzer ended with {child.exitcode}; the input that did it is printed above"
    for kind, count in found.items():
        OUTCOMES.setdefault(kind, Counter()).update(count)


def _fuzz(check: Callable[[bytes], Any], runs: int, counting: Any) -> None:
    import atheris

    OUTCOMES.clear()
    left = runs

    def one(data: bytes) -> None:
        nonlocal left
        check(data)
        left -= 1
        if left == 0:
            counting.send(OUTCOMES)

    os.chdir(tempfile.mkdtemp(prefix="cellgraph-fuzz-"))  # where an input that fails is kept
    # Random bytes give Hypothesis whole values from some hundred bytes on.
    atheris.Setup(["fuzz", f"-atheris_runs={runs}", "-max_len=2000", "-len_control=0", "-print_final_stats=1"], one)
    atheris.Fuzz()


def tried(kind: str, act: Callable[[], Any], *errors: type[Exception]) -> Any:
    """What comes of an input: a result, or one of the documented errors with something to say in a line.

    Args:
        kind: What the input is, for the counts.
        act: What is done with it.
        errors: The documented errors, ``ValueError`` by default.
    """
    count = OUTCOMES.setdefault(kind, Counter())
    documented = errors or (ValueError,)
    try:
        found = act()
    except documented as error:
        refusal = error
    else:
        count["taken"] += 1
        return found
    count["refused"] += 1
    # What Python's codecs raise derives from ValueError, and names no file.
    assert not isinstance(refusal, UnicodeError), repr(refusal)
    assert str(refusal).strip(), repr(refusal)
    return None


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """Content with some bytes changed, cut out, put in or repeated."""
    place = st.integers(0, len(content))
    change = st.one_of(
        st.tuples(st.just("set"), place, st.binary(min_size=1, max_size=4)),
        st.tuples(st.just("cut"), place, st.integers(1, 200)),
        st.tuples(st.just("put"), place, st.binary(min_size=1, max_size=20)),
        st.tuples(st.just("repeat"), place, st.integers(1, 50)),
        st.tuples(st.just("end"), place, st.just(0)),
    )
    return st.lists(change, min_size=1, max_size=4).map(lambda changes: _changed(content, changes))


def _changed(content: bytes, changes: list[tuple[str, int, Any]]) -> bytes:
    for what, place, how in changes:
        before, after = content[:place], content[place:]
        match what:
            case "set":
                content = before + how + after[len(how) :]
            case "cut":
                content = before + after[how:]
            case "put":
                content = before + how + after
            case "repeat":
                content = before + after[:how] * 2 + after[how:]
            case "end":
                content = before
    return content


#: Values that nobody expects where there is another; sizes are small, so that what is taken is built.
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([2**63, -(2**63), 10**30, 0.0, -0.5, 0.3, 1.0, 1e-320, 1e308, float("inf"), float("nan")]),
    st.sampled_from(["", "x", "3", "1e-3", "auto", "none", "linear", "mean", "os.system", "../x", "a\nb", "\ud800"]),
    st.lists(st.integers(-1, 4), max_size=4),
    st.dictionaries(st.sampled_from(["name", "_target_", "kind", "x", "0.5"]), st.integers(-1, 3), max_size=2),
    st.lists(st.lists(st.integers(-1, 1), max_size=3), max_size=3),
)


def places(tree: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where there is a value in nested dictionaries and lists."""
    found = [place] if place else []
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        found += places(value, (*place, key))
    return found


def altered(tree: Any) -> st.SearchStrategy[Any]:
    """A tree of plain values, some of them replaced or taken out, or others put beside them."""
    change = st.tuples(st.sampled_from(places(tree)), st.sampled_from(["set", "set", "set", "drop", "add"]), VALUES)
    return st.lists(change, min_size=1, max_size=3).map(lambda changes: _altered(tree, changes))


def _altered(tree: Any, changes: list[tuple[tuple[Any, ...], str, Any]]) -> Any:
    tree = json.loads(json.dumps(tree))
    for place, what, value in changes:
        node = tree
        try:
            for key in place[:-1]:
                node = node[key]
            if what == "drop":
                del node[place[-1]]
            elif what == "add" and isinstance(node, dict):
                node[f"{place[-1]}_"] = value
            else:
                node[place[-1]] = value
        except (LookupError, TypeError):
            continue  # it has gone with another change
    return tree
